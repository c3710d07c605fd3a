"""The input and the result of a device: open .tflite files, and the timings and outputs of each of them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from kd2mobile.measure.litert.guarded import GuardedClassifier
from kd2mobile.measure.litert.runtime import Normal
from kd2mobile.measure.litert.worker import Profile
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.record import RoleName, Validation
from kd2mobile.measure.roles import STUDENT
from kd2mobile.pixels import Resize

EXTERNAL_RESIZE: Resize = "crop"
"""How an image becomes a square for a file whose metadata has no resize: ImageNet's protocol."""


class FileToMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One .tflite and how to measure it.

    model: its name in the record, by default that in its metadata, else the file's name. resize: by default that in its
    metadata, else `crop`. mean, std: of a float input. labels: the names of the outputs, for a device that shows them;
    by default those in its metadata. val: its result on validation images, for its record.
    """

    path: Path
    role: RoleName = STUDENT.name
    model: str | None = None
    resize: Resize | None = None
    mean: float | list[float] | None = None
    std: float | list[float] | None = None
    labels: list[str] | None = None
    val: Validation | None = None


class Opened(NamedTuple):
    """A file that this host has opened in a separate process and that can be measured. resize: how an image becomes its
    square input."""

    file: FileToMeasure
    classifier: GuardedClassifier
    resize: Resize


class Answered(NamedTuple):
    """The result of one file on a device. profiles: one per setting of the protocol. outputs: float32 [images
    evaluated, classes], dequantized; None where the device only times. others: its results on other processors of that
    device, such as the GPU, with their own outputs."""

    profiles: list[Profile]
    outputs: np.ndarray | None
    others: Sequence["Answered"] = ()


class FromDevice(NamedTuple):
    """The result of a device. words: its description. answered: per file, in the order of the files. evaluated: int
    [n], the indices of the images that were evaluated. skipped: (path, reason) of each image that cannot be decoded."""

    words: str
    answered: list[Answered]
    evaluated: np.ndarray
    skipped: list[tuple[Path, str]]


@contextmanager
def opened_files(files: Sequence[FileToMeasure], protocol: Protocol) -> Iterator[list[Opened]]:
    """Opens each file on this host for the block, so that a bad file is refused before the device is used.

    Raises ModelFileError.
    """
    with ExitStack() as stack:
        yield [
            opened_as(file, stack.enter_context(guarded(file.path, protocol, mean=file.mean, std=file.std)))
            for file in files
        ]


def guarded(path: Path, protocol: Protocol, *, mean: Normal, std: Normal) -> GuardedClassifier:
    """The file, to be opened in a separate process in the protocol's first setting, in which it is evaluated."""
    return GuardedClassifier(path, protocol.settings[0], mean=mean, std=std)


def opened_as(file: FileToMeasure, classifier: GuardedClassifier) -> Opened:
    """An open file with its resize: the one that the user gives, else that in its metadata, else EXTERNAL_RESIZE."""
    return Opened(file, classifier, file.resize or classifier.metadata.resize or EXTERNAL_RESIZE)
