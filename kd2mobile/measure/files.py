"""One .tflite to measure, and what becomes of a device's answers: records, whatever the device was."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from kd2mobile.files import sha256_of
from kd2mobile.inspection.inspect import deflated_size
from kd2mobile.measure.guarded import GuardedClassifier
from kd2mobile.measure.outputs import read_answers
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.record import JUDGED, BenchmarkRecord, Role, Validation, record_of_probabilities, with_reasons
from kd2mobile.measure.runtime import Normal
from kd2mobile.measure.worker import Profile
from kd2mobile.pixels import Resize

EXTERNAL_RESIZE: Resize = "crop"
"""How a picture becomes a square for a file that does not say: ImageNet's protocol."""


class FileToMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One .tflite and how to measure it.

    model: its name in the record, by default what the file says or its own name. resize: by default what the file
    says, else `crop`. mean, std: a float input's. labels: the outputs' names, by default what the file says; where a
    device shows them. val: what is known of it on validation images, for its record.
    """

    path: Path
    role: Role = "student"
    model: str | None = None
    resize: Resize | None = None
    mean: float | list[float] | None = None
    std: float | list[float] | None = None
    labels: list[str] | None = None
    val: Validation | None = None


class Opened(NamedTuple):
    """A file that this host has opened, in a process of its own, and found measurable. resize: how a picture becomes
    its square."""

    file: FileToMeasure
    classifier: GuardedClassifier
    resize: Resize


class Answered(NamedTuple):
    """What a device gave for one file. profiles: one for each setting of the protocol. outputs: float32 [pictures
    judged, classes], dequantized; None where the way has no answers. others: what the file gave elsewhere on that
    device, such as on its GPU, with answers of its own."""

    profiles: list[Profile]
    outputs: np.ndarray | None
    others: Sequence["Answered"] = ()


class FromDevice(NamedTuple):
    """What a device gave. words: what it is. answered: in the files' order. judged: int [n], which pictures of those
    given, in their order. set_aside: (path, reason) of those that could not be decoded."""

    words: str
    answered: list[Answered]
    judged: np.ndarray
    set_aside: list[tuple[Path, str]]


class Measured(NamedTuple):
    """records: one for each setting of the protocol, then those of others. probabilities: float32 [pictures judged,
    classes], what the first were computed from, in the pictures' order (where the file gives only scores, these); None
    where the way has no answers. judged, set_aside: as of FromDevice. notes: what a reader of the numbers should know,
    one sentence each."""

    records: list[BenchmarkRecord]
    probabilities: np.ndarray | None
    judged: np.ndarray
    set_aside: list[tuple[Path, str]]
    notes: list[str]

    @property
    def record(self) -> BenchmarkRecord:
        """That of the protocol's first setting."""
        return self.records[0]


@contextmanager
def opened_files(files: Sequence[FileToMeasure], protocol: Protocol) -> Iterator[list[Opened]]:
    """Opens each file on this host for the block, so that a bad one is refused before a device is touched.

    Raises ModelFileError.
    """
    with ExitStack() as stack:
        yield [
            opened_as(file, stack.enter_context(guarded(file.path, protocol, mean=file.mean, std=file.std)))
            for file in files
        ]


def guarded(path: Path, protocol: Protocol, *, mean: Normal, std: Normal) -> GuardedClassifier:
    """The file, to be opened in a process of its own with the protocol's first setting, which is the one evaluated."""
    return GuardedClassifier(path, protocol.settings[0], mean=mean, std=std)


def opened_as(file: FileToMeasure, classifier: GuardedClassifier) -> Opened:
    """An open file with how an image becomes its square: as the file says, unless the user does."""
    return Opened(file, classifier, file.resize or classifier.metadata.resize or EXTERNAL_RESIZE)


class Truth(NamedTuple):
    """What is right of the pictures judged. labels, teacher_top1: int [n]; pictures: their name (`picture_set`).
    measured_at: when the measurement of all files was finished, UTC, by which their records are known to be of one."""

    labels: np.ndarray
    teacher_top1: np.ndarray | None
    pictures: str
    measured_at: str


def measured_of(opened: Opened, answered: Answered, given: FromDevice, truth: Truth, protocol: Protocol) -> Measured:
    """The records of one file, those of what it gave elsewhere on the device behind the others."""
    measured, *others = (_measured_there(opened, one, given, truth, protocol) for one in (answered, *answered.others))
    return measured._replace(records=measured.records + [record for other in others for record in other.records])


def _measured_there(
    opened: Opened, answered: Answered, given: FromDevice, truth: Truth, protocol: Protocol
) -> Measured:
    file, classifier, _ = opened
    said = classifier.metadata
    common = {
        "precision": said.precision,
        "compression": said.compression,
        "device": given.words,
        "size_bytes": file.path.stat().st_size,
        "compressed_bytes": deflated_size(file.path.read_bytes()),
        "sha256": sha256_of(file.path),
        "rule": protocol.rule,
        "val": file.val,
        "measured_at": truth.measured_at,
    }
    model = file.model or said.model or file.path.stem
    costs = [common | msgspec.structs.asdict(profile) for profile in answered.profiles]
    nothing = dict.fromkeys(JUDGED)
    unjudged = [BenchmarkRecord(role=file.role, model=model, n=0, **nothing, **cost) for cost in costs]
    if answered.outputs is None:
        records = [with_reasons(record) for record in unjudged]
        return Measured(records, None, given.judged, given.set_aside, classifier.notes)
    answers = read_answers(answered.outputs, classifier.last_op, classifier.step)
    judged = record_of_probabilities(
        file.role,
        model,
        answers.values,
        truth.labels,
        teacher_top1=truth.teacher_top1,
        pictures=truth.pictures,
        are_probabilities=answers.kind != "scores",
        **costs[0],
    )
    alone = dict.fromkeys(JUDGED, f"judged with the first setting alone: {protocol.settings[0].words}")
    records = [with_reasons(judged), *(with_reasons(record, **alone) for record in unjudged[1:])]
    notes = classifier.notes + [f"{file.path.name}: {answers.note}"] * (answers.note is not None)
    return Measured(records, answers.values, given.judged, given.set_aside, notes)
