"""Where files are measured, by the word before the colon: `host`, `ssh:pi@board`, ..."""

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kd2mobile.errors import DataError, UnknownNameError
from kd2mobile.files import sha256_of
from kd2mobile.measure.files import FileToMeasure, Measured, Opened, Truth, measured_of, opened_files
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.record import picture_set
from kd2mobile.progress import bar, say

LONG_S = 10

DEVICES = {
    "host": "kd2mobile.measure.host",
    "ssh": "kd2mobile.measure.ssh.measuring",
    "adb": "kd2mobile.measure.adb.measure",
    "browser": "kd2mobile.measure.browser.measure",
}
"""The module of each, with its two functions: `measure_on_host`, whose docstring says what it takes and returns, and
`check_host`, which raises what the address and this host alone can tell to be wrong."""


def check_device(device: str, protocol: Protocol) -> None:
    """Looks whether files can be measured there, before anything is made for it: its word, the form of its address,
    what of the protocol it cannot do, and what it needs on this host. Raises UnknownNameError, RecipeError, DeviceError
    or InstallationError.
    """
    check, address = _way(device, "check")
    check(address, protocol)


def measure_files(
    files: Sequence[FileToMeasure],
    pictures: Sequence[Path],
    labels: np.ndarray,
    *,
    device: str = "host",
    protocol: Protocol | None = None,
    teacher_top1: np.ndarray | None = None,
    set_aside_unreadable: bool = False,
) -> list[Measured]:
    """Times each file on the device in every setting of the protocol, and judges it there on each picture.

    pictures: n files; labels: int [n], the index of the output that is right; teacher_top1: int [n], the teacher's
    likeliest class. Raises ModelFileError; DataError without a readable picture; PictureError for the first unreadable
    one unless set_aside_unreadable; UnknownNameError or DeviceError for the device.
    """
    protocol = protocol or Protocol()
    with opened_files(files, protocol) as opened:
        return measure_opened(
            opened,
            pictures,
            labels,
            device=device,
            protocol=protocol,
            teacher_top1=teacher_top1,
            set_aside_unreadable=set_aside_unreadable,
        )


def measure_opened(
    opened: Sequence[Opened],
    pictures: Sequence[Path],
    labels: np.ndarray,
    *,
    device: str,
    protocol: Protocol,
    teacher_top1: np.ndarray | None = None,
    set_aside_unreadable: bool = False,
) -> list[Measured]:
    """`measure_files` of files that are open already, with the protocol's first setting. DataError for a label that a
    file has no output for."""
    measure_on, address = _way(device, "measure_on")
    labels = np.asarray(labels)
    _check(len(pictures), labels, teacher_top1)
    for _, classifier, _ in opened:
        if labels.min() < 0 or labels.max() >= classifier.classes:
            must = f"must have its classes among the {classifier.classes} outputs of {classifier.path}"
            raise DataError(
                "benchmark", must, f"class {labels.max()}", "Measure a file on the classes it was made for."
            )
    hashes = _hashes(pictures)
    if protocol.span.runs and protocol.span.seconds >= LONG_S:
        say(f"each timing takes {protocol.span.seconds:g} s or more")
    given = measure_on(address, opened, pictures, protocol, set_aside_unreadable=set_aside_unreadable)
    teacher = None if teacher_top1 is None else np.asarray(teacher_top1)[given.judged]
    judged = labels[given.judged]
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    truth = Truth(judged, teacher, picture_set([hashes[place] for place in given.judged], judged), now)
    return [
        measured_of(one, answered, given, truth, protocol) for one, answered in zip(opened, given.answered, strict=True)
    ]


def _way(device: str, what: str) -> tuple[Callable[..., Any], str]:
    """The function that does it there, and the address after the colon. Raises UnknownNameError."""
    word, _, address = device.partition(":")
    if word not in DEVICES:
        raise UnknownNameError("benchmark.device", device, list(DEVICES), see="kd2mobile benchmark --help")
    return getattr(import_module(DEVICES[word]), f"{what}_{word}"), address


def _hashes(pictures: Sequence[Path]) -> list[str]:
    """The SHA-256 of each picture; nothing for one that cannot be read: the device refuses it or sets it aside."""
    hashes = []
    with bar("hashing", len(pictures), "pictures") as advance:
        for path in pictures:
            try:
                hashes.append(sha256_of(path))
            except OSError:
                hashes.append("")
            advance(1)
    return hashes


def _check(count: int, labels: np.ndarray, teacher_top1: np.ndarray | None) -> None:
    if not count:
        raise DataError("benchmark", "must have pictures to judge", "none", "Give a folder with test pictures.")
    if labels.shape != (count,) or (teacher_top1 is not None and np.shape(teacher_top1) != (count,)):
        raise ValueError(f"{count} pictures need as many labels and teacher's answers")
