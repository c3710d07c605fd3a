"""Accuracy and cost of .tflite files on the same pictures, from picture file to class."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from kd2mobile.artifact import sha256_of
from kd2mobile.errors import DataError, PictureError
from kd2mobile.measure.device import cores, device_words
from kd2mobile.measure.outputs import read_answers
from kd2mobile.measure.record import BenchmarkRecord, Role, record_of_probabilities
from kd2mobile.measure.runtime import Classifier
from kd2mobile.measure.worker import Profile, profile_file
from kd2mobile.pixels import Resize, open_picture, render, whole_box
from kd2mobile.progress import bar

EXTERNAL_RESIZE: Resize = "crop"
"""How a picture becomes a square for a file that does not say: ImageNet's protocol."""
PICTURES_AT_ONCE = 32
"""Pictures that are held decoded at a time; with the answers, all that grows the memory."""


class FileToMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One .tflite and how to measure it.

    model: its name in the record, by default what the file says or its own name. resize: by default what the file
    says, else `crop`. mean, std: a float input's.
    """

    path: Path
    role: Role = "student"
    model: str | None = None
    resize: Resize | None = None
    mean: float | list[float] | None = None
    std: float | list[float] | None = None


class Measured(NamedTuple):
    """probabilities: float32 [pictures judged, classes], what the record was computed from, in the pictures' order
    (where the file gives only scores, these). judged: int [n], which pictures of those given. set_aside: (path,
    reason) of the others. notes: what a reader of the numbers should know, one sentence each."""

    record: BenchmarkRecord
    probabilities: np.ndarray
    judged: np.ndarray
    set_aside: list[tuple[Path, str]]
    notes: list[str]


def measure_files(
    files: Sequence[FileToMeasure],
    pictures: Sequence[Path],
    labels: np.ndarray,
    *,
    threads: int = 1,
    latency_runs: int = 100,
    teacher_top1: np.ndarray | None = None,
    set_aside_unreadable: bool = False,
) -> list[Measured]:
    """Times each file in a process of its own, then judges all of them on each picture, decoded once.

    pictures: n files; labels: int [n], the index of the output that is right; teacher_top1: int [n], the teacher's
    likeliest class. Memory holds a few pictures and every answer (4 bytes a picture and class), whatever n.
    Raises ModelFileError; DataError without a readable picture; PictureError for the first unreadable one unless
    set_aside_unreadable.
    """
    labels = np.asarray(labels)
    _check(len(pictures), labels, teacher_top1)
    classifiers = [Classifier(file.path, threads, mean=file.mean, std=file.std) for file in files]
    for classifier in classifiers:
        _check_labels(classifier, labels)
    profiles = _profile_all(files, threads, latency_runs)
    resizes = [
        file.resize or one.metadata.resize or EXTERNAL_RESIZE for file, one in zip(files, classifiers, strict=True)
    ]
    outputs, judged, set_aside = _answers(classifiers, resizes, pictures, set_aside_unreadable)
    device = device_words()
    teacher = None if teacher_top1 is None else np.asarray(teacher_top1)[judged]
    return [
        _measured(file, classifier, profile, answers, labels[judged], teacher, device, judged, set_aside)
        for file, classifier, profile, answers in zip(files, classifiers, profiles, outputs, strict=True)
    ]


def _check(count: int, labels: np.ndarray, teacher_top1: np.ndarray | None) -> None:
    if not count:
        raise DataError("benchmark", "must have pictures to judge", "none", "Give a folder with test pictures.")
    if labels.shape != (count,) or (teacher_top1 is not None and np.shape(teacher_top1) != (count,)):
        raise ValueError(f"{count} pictures need as many labels and teacher's answers")


def _check_labels(classifier: Classifier, labels: np.ndarray) -> None:
    if labels.min() < 0 or labels.max() >= classifier.classes:
        must, got = f"must have its classes among the {classifier.classes} outputs of {classifier.path}", labels.max()
        raise DataError("benchmark", must, f"class {got}", "Measure a file on the classes it was made for.")


def _profile_all(files: Sequence[FileToMeasure], threads: int, runs: int) -> list[Profile]:
    profiles = []
    with bar("timing", len(files), "files") as advance:
        for file in files:
            profiles.append(profile_file(file.path, threads=threads, runs=runs, mean=file.mean, std=file.std))
            advance(1)
    return profiles


def _answers(
    classifiers: Sequence[Classifier], resizes: Sequence[Resize], pictures: Sequence[Path], set_aside_unreadable: bool
) -> tuple[list[np.ndarray], np.ndarray, list[tuple[Path, str]]]:
    """float32 [judged, classes] of each file, which pictures those are, and (path, reason) of the others."""
    sights = list(zip((one.input_px for one in classifiers), resizes, strict=True))
    outputs = [np.empty((len(pictures), one.classes), np.float32) for one in classifiers]
    judged: list[int] = []
    set_aside: list[tuple[Path, str]] = []
    with bar("judging", len(pictures), "pictures") as advance, ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(pictures), PICTURES_AT_ONCE):
            paths = pictures[first : first + PICTURES_AT_ONCE]
            for place, seen in enumerate(pool.map(_see, paths, repeat(set(sights))), first):
                if isinstance(seen, PictureError):
                    if not set_aside_unreadable:
                        raise seen
                    set_aside.append((pictures[place], str(seen.got)))
                else:
                    for answers, classifier, sight in zip(outputs, classifiers, sights, strict=True):
                        answers[len(judged)] = classifier.outputs(seen[sight])
                    judged.append(place)
                advance(1)
    if not judged:
        must = "must hold at least one picture that can be decoded"
        got = f"{len(set_aside)} that cannot, the first: {set_aside[0][1]}"
        raise DataError(pictures[0], must, got, "Give a folder with whole pictures.")
    return [answers[: len(judged)] for answers in outputs], np.array(judged), set_aside


def _see(path: Path, sights: set[tuple[int, Resize]]) -> dict[tuple[int, Resize], np.ndarray] | PictureError:
    """The picture as each distinct (input_px, resize) sees it."""
    try:
        picture = open_picture(path)
    except PictureError as fault:
        return fault
    return {(px, resize): render(picture, whole_box(*picture.size, resize), px) for px, resize in sights}


def _measured(
    file: FileToMeasure,
    classifier: Classifier,
    profile: Profile,
    outputs: np.ndarray,
    labels: np.ndarray,
    teacher_top1: np.ndarray | None,
    device: str,
    judged: np.ndarray,
    set_aside: list[tuple[Path, str]],
) -> Measured:
    answers = read_answers(outputs, classifier.last_op, classifier.step)
    said = classifier.metadata
    record = record_of_probabilities(
        file.role,
        file.model or said.model or file.path.stem,
        answers.values,
        labels,
        teacher_top1=teacher_top1,
        are_probabilities=answers.kind != "scores",
        precision=said.precision,
        compression=said.compression,
        device=device,
        size_bytes=file.path.stat().st_size,
        threads=classifier.threads,
        sha256=sha256_of(file.path),
        **msgspec.structs.asdict(profile),
    )
    notes = classifier.notes + [f"{file.path.name}: {answers.note}"] * (answers.note is not None)
    return Measured(record, answers.values, judged, set_aside, notes)
