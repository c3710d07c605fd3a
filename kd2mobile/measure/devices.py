"""Where files are measured, by the word before the colon: `host`, `ssh:pi@board`, ..."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from kd2mobile.errors import DataError, UnknownNameError
from kd2mobile.measure.files import FileToMeasure, FromDevice, Measured, measured_of, opened_files
from kd2mobile.measure.protocol import Protocol

DEVICES = {
    "host": "kd2mobile.measure.host:measure_on_host",
    "ssh": "kd2mobile.measure.ssh.measuring:measure_on_ssh",
    "adb": "kd2mobile.measure.adb.measure:measure_on_adb",
    "browser": "kd2mobile.measure.browser.measure:measure_on_browser",
}
"""The function of each, as module:name: `host.measure_on_host` says what it takes and returns."""


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
    measure_on, address = device_of(device)
    labels = np.asarray(labels)
    _check(len(pictures), labels, teacher_top1)
    opened = opened_files(files, labels, protocol)
    given = measure_on(address, opened, pictures, protocol, set_aside_unreadable=set_aside_unreadable)
    teacher = None if teacher_top1 is None else np.asarray(teacher_top1)[given.judged]
    return [
        measured_of(one, answered, given, labels[given.judged], teacher, protocol)
        for one, answered in zip(opened, given.answered, strict=True)
    ]


def device_of(device: str) -> tuple[Callable[..., FromDevice], str]:
    """The function that measures there, and the address after the colon. Raises UnknownNameError."""
    word, _, address = device.partition(":")
    if word not in DEVICES:
        raise UnknownNameError("benchmark.device", device, list(DEVICES), see="kd2mobile benchmark --help")
    module, _, name = DEVICES[word].partition(":")
    return getattr(import_module(module), name), address


def _check(count: int, labels: np.ndarray, teacher_top1: np.ndarray | None) -> None:
    if not count:
        raise DataError("benchmark", "must have pictures to judge", "none", "Give a folder with test pictures.")
    if labels.shape != (count,) or (teacher_top1 is not None and np.shape(teacher_top1) != (count,)):
        raise ValueError(f"{count} pictures need as many labels and teacher's answers")
