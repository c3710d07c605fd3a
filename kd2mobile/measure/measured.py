"""Measures files on any device: they run there, and their outputs are scored on this host."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from kd2mobile.errors import DataError
from kd2mobile.files import Address, local_files, sha256_of
from kd2mobile.inspection.size import deflated_size
from kd2mobile.measure.devices import requested
from kd2mobile.measure.files import Answered, FileToMeasure, FromDevice, Opened, opened_files
from kd2mobile.measure.outputs import read_answers
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.record import ELSEWHERE, EVALUATED, BenchmarkRecord, RoleName, image_set, with_reasons
from kd2mobile.metrics import score, top_k_accuracy
from kd2mobile.progress import bar, say

LONG_S = 10
"""A timing that takes so long is announced."""


class Measured(NamedTuple):
    """records: one per setting of the protocol, then those of `Answered.others`. probabilities: float32 [images
    evaluated, classes], from which the first records were computed, in the order of the images (scores where the file
    outputs only these); None where the device only times. evaluated, skipped: as in FromDevice. notes: what a reader of
    the numbers should know, one sentence each."""

    records: list[BenchmarkRecord]
    probabilities: np.ndarray | None
    evaluated: np.ndarray
    skipped: list[tuple[Path, str]]
    notes: list[str]

    @property
    def record(self) -> BenchmarkRecord:
        """That of the protocol's first setting."""
        return self.records[0]


class Truth(NamedTuple):
    """The ground truth of the images evaluated. labels, teacher_top1: int [n]; images: the name of the set
    (`image_set`). measured_at: the end of the measurement, UTC; records of one measurement share it."""

    labels: np.ndarray
    teacher_top1: np.ndarray | None
    images: str
    measured_at: str


def measure_files(
    files: Sequence[FileToMeasure],
    images: Sequence[Address],
    labels: np.ndarray,
    *,
    device: str = "host",
    protocol: Protocol | None = None,
    teacher_top1: np.ndarray | None = None,
    skip_unreadable: bool = False,
) -> list[Measured]:
    """Times each file on the device in every setting of the protocol, and evaluates it there on each image.

    images: n files, copied where they have no path; labels: int [n], the index of the correct output;
    teacher_top1: int [n], the teacher's likeliest class. Raises ModelFileError; DataError if no image is readable;
    ImageError for the first unreadable one unless skip_unreadable; UnknownNameError or DeviceError for the
    device.
    """
    protocol = protocol or Protocol()
    with opened_files(files, protocol) as opened, local_files(images) as paths:
        return measure_opened(
            opened,
            paths,
            labels,
            device=device,
            protocol=protocol,
            teacher_top1=teacher_top1,
            skip_unreadable=skip_unreadable,
        )


def measure_opened(
    opened: Sequence[Opened],
    images: Sequence[Path],
    labels: np.ndarray,
    *,
    device: str,
    protocol: Protocol,
    teacher_top1: np.ndarray | None = None,
    skip_unreadable: bool = False,
) -> list[Measured]:
    """`measure_files` for files that are already open in the protocol's first setting. Raises DataError for a label for
    which a file has no output."""
    there, address, options = requested(device)
    labels = np.asarray(labels)
    _check(len(images), labels, teacher_top1)
    for _, classifier, _ in opened:
        if labels.min() < 0 or labels.max() >= classifier.classes:
            must = f"must have only classes of the {classifier.classes} outputs of {classifier.path}"
            raise DataError(
                "benchmark", must, f"class {labels.max()}", "Measure a file on the classes it was trained for."
            )
    hashes = _hashes(images)
    if protocol.span.runs and protocol.span.seconds >= LONG_S:
        say(f"each timing takes {protocol.span.seconds:g} s or more")
    result = there.measure(address, options, opened, images, protocol, skip_unreadable=skip_unreadable)
    teacher = None if teacher_top1 is None else np.asarray(teacher_top1)[result.evaluated]
    evaluated = labels[result.evaluated]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    truth = Truth(evaluated, teacher, image_set([hashes[index] for index in result.evaluated], evaluated), now)
    return [
        measured_of(one, answered, result, truth, protocol)
        for one, answered in zip(opened, result.answered, strict=True)
    ]


def measured_of(opened: Opened, answered: Answered, result: FromDevice, truth: Truth, protocol: Protocol) -> Measured:
    """The records of one file; those of `Answered.others` come last."""
    measured, *others = (_measured_there(opened, one, result, truth, protocol) for one in (answered, *answered.others))
    return measured._replace(records=measured.records + [record for other in others for record in other.records])


def _measured_there(
    opened: Opened, answered: Answered, result: FromDevice, truth: Truth, protocol: Protocol
) -> Measured:
    file, classifier, _ = opened
    metadata = classifier.metadata
    common = {
        "precision": metadata.precision,
        "compression": metadata.compression,
        "device": result.words,
        "size_bytes": file.path.stat().st_size,
        "compressed_bytes": deflated_size(file.path.read_bytes()),
        "sha256": sha256_of(file.path),
        "rule": protocol.rule,
        "val": file.val,
        "measured_at": truth.measured_at,
    }
    model = file.model or metadata.model or file.path.stem
    costs = [common | msgspec.structs.asdict(profile) for profile in answered.profiles]
    nothing = dict.fromkeys(EVALUATED)
    not_evaluated = [BenchmarkRecord(role=file.role, model=model, n=0, **nothing, **cost) for cost in costs]
    if answered.outputs is None:
        records = [with_reasons(record) for record in not_evaluated]
        return Measured(records, None, result.evaluated, result.skipped, classifier.notes)
    answers = read_answers(answered.outputs, classifier.last_op, classifier.step)
    evaluated = record_of_probabilities(
        file.role,
        model,
        answers.values,
        truth.labels,
        teacher_top1=truth.teacher_top1,
        images=truth.images,
        are_probabilities=answers.kind != "scores",
        **costs[0],
    )
    alone = dict.fromkeys(EVALUATED, f"evaluated with the first setting alone: {protocol.settings[0].words}")
    records = [with_reasons(evaluated), *(with_reasons(record, **alone) for record in not_evaluated[1:])]
    notes = classifier.notes + [f"{file.path.name}: {answers.note}"] * (answers.note is not None)
    return Measured(records, answers.values, result.evaluated, result.skipped, notes)


def with_leaks(
    record: BenchmarkRecord, probabilities: np.ndarray | None, labels: np.ndarray, leaked: np.ndarray
) -> BenchmarkRecord:
    """The record with how many of its images leaked, and what it scores without them; unknown where it was not
    evaluated.

    probabilities: float [n, classes], or None; labels: int [n]; leaked: bool [n].
    """
    fields, of_others = ("leaked", "top1_without_leaked"), None
    if record.top1 is None or probabilities is None:
        why = dict.fromkeys(fields, record.unknown.get("top1", ELSEWHERE["top1"]))
        return with_reasons(msgspec.structs.replace(record, unknown=record.unknown | why))
    if not leaked.all():
        of_others = top_k_accuracy(probabilities[~leaked], labels[~leaked], 1)
    unknown = {name: why for name, why in record.unknown.items() if name not in fields}
    known = {"leaked": int(leaked.sum()), "top1_without_leaked": of_others, "unknown": unknown}
    return with_reasons(msgspec.structs.replace(record, **known), top1_without_leaked="every test image leaked")


def record_of_probabilities(
    role: RoleName,
    model: str,
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    teacher_top1: np.ndarray | None = None,
    are_probabilities: bool = True,
    **known: object,
) -> BenchmarkRecord:
    """A record of answers that may not come from a .tflite, such as the teacher's; `known` are its other fields,
    before those that are computed.

    probabilities: float [n, classes]; labels, teacher_top1: int [n].
    """
    scores = score(probabilities, labels, teacher_top1, are_probabilities=are_probabilities)
    return BenchmarkRecord(role=role, model=model, n=len(labels), **(msgspec.structs.asdict(scores) | known))


def _hashes(images: Sequence[Path]) -> list[str]:
    """The SHA-256 of each image; nothing for one that cannot be read: the device refuses it or sets it aside."""
    hashes = []
    with bar("hashing", len(images), "images") as advance:
        for path in images:
            try:
                hashes.append(sha256_of(path))
            except OSError:
                hashes.append("")
            advance(1)
    return hashes


def _check(count: int, labels: np.ndarray, teacher_top1: np.ndarray | None) -> None:
    if not count:
        raise DataError(
            "benchmark", "must have images in the evaluation set", "none", "Give a folder with test images."
        )
    if labels.shape != (count,) or (teacher_top1 is not None and np.shape(teacher_top1) != (count,)):
        raise ValueError(f"{count} images need as many labels and teacher's answers")
