"""What a device is given and what it gives: open .tflite files, and what each of them took and answered there."""

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
"""How an image becomes a square for a file that does not say: ImageNet's protocol."""


class FileToMeasure(msgspec.Struct, frozen=True, kw_only=True):
    """One .tflite and how to measure it.

    model: its name in the record, by default what the file says or its own name. resize: by default what the file
    says, else `crop`. mean, std: a float input's. labels: the outputs' names, by default what the file says; where a
    device shows them. val: what is known of it on validation images, for its record.
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
    """A file that this host has opened, in a process of its own, and found measurable. resize: how an image becomes
    its square."""

    file: FileToMeasure
    classifier: GuardedClassifier
    resize: Resize


class Answered(NamedTuple):
    """What a device gave for one file. profiles: one for each setting of the protocol. outputs: float32 [images
    evaluated, classes], dequantized; None where the way has no answers. others: what the file gave elsewhere on that
    device, such as on its GPU, with answers of its own."""

    profiles: list[Profile]
    outputs: np.ndarray | None
    others: Sequence["Answered"] = ()


class FromDevice(NamedTuple):
    """What a device gave. words: what it is. answered: in the files' order. evaluated: int [n], which images of those
    given, in their order. skipped: (path, reason) of those that could not be decoded."""

    words: str
    answered: list[Answered]
    evaluated: np.ndarray
    skipped: list[tuple[Path, str]]


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
