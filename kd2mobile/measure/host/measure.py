"""This machine as a device: the files timed in turn, each in its own process, then all evaluated on each image, decoded
once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np

from kd2mobile.errors import DataError, PictureError
from kd2mobile.measure.files import Answered, FromDevice, Opened
from kd2mobile.measure.host.machine import cores, device_words
from kd2mobile.measure.litert.worker import FileToTime, Profile, check_cores, profile_files
from kd2mobile.measure.protocol import Protocol
from kd2mobile.pixels import Resize, opened, render, whole_box
from kd2mobile.progress import bar, say

PICTURES_AT_ONCE = 32
"""Images that are held decoded at a time; with the answers, all that grows the memory."""


def check(address: str, options: object, protocol: Protocol) -> None:
    """Raises DeviceError for cores that this process may not use. address, options: there are none."""
    check_cores(protocol.cores)


def measure(
    address: str,
    options: object,
    opened: Sequence[Opened],
    pictures: Sequence[Path],
    protocol: Protocol,
    *,
    set_aside_unreadable: bool = False,
) -> FromDevice:
    """Memory holds a few images and every answer (4 bytes per image and class), however many images.

    address, options: there are none. Raises what `Device.measure` does.
    """
    check(address, options, protocol)
    profiles = _profile_all(opened, protocol)
    outputs, judged, set_aside = _answers(opened, pictures, set_aside_unreadable)
    answered = [Answered(timed, answers) for timed, answers in zip(profiles, outputs, strict=True)]
    return FromDevice(device_words(), answered, judged, set_aside)


def _profile_all(opened: Sequence[Opened], protocol: Protocol) -> list[list[Profile]]:
    """By file, one for each setting; the files of a setting take turns."""
    settings, rounds = protocol.settings, protocol.rounds
    files = [FileToTime(one.file.path, one.file.mean, one.file.std) for one in opened]
    timed: list[list[Profile]] = []
    with bar("timing", len(opened) * len(settings) * rounds.fewest, "turns") as advance:
        for setting in settings:
            timed.append(
                profile_files(
                    files,
                    setting,
                    span=protocol.span,
                    rounds=rounds,
                    cores=protocol.cores,
                    done=advance,
                    repeats=lambda spread: say(
                        f"timing {rounds.fewest} more rounds: the last ones differ by {spread:.0%}"
                    ),
                )
            )
    return [list(of_file) for of_file in zip(*timed, strict=True)]


def _answers(
    opened: Sequence[Opened], pictures: Sequence[Path], set_aside_unreadable: bool
) -> tuple[list[np.ndarray], np.ndarray, list[tuple[Path, str]]]:
    """float32 [evaluated, classes] of each file, which images those are, and (path, reason) of the others."""
    classifiers = [one.classifier for one in opened]
    sights = [(one.classifier.input_px, one.resize) for one in opened]
    outputs = [np.empty((len(pictures), one.classes), np.float32) for one in classifiers]
    judged: list[int] = []
    set_aside: list[tuple[Path, str]] = []
    with bar("evaluating", len(pictures), "images") as advance, ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(pictures), PICTURES_AT_ONCE):
            paths = pictures[first : first + PICTURES_AT_ONCE]
            for place, seen in enumerate(pool.map(see, paths, repeat(set(sights))), first):
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
        raise nothing_to_judge(set_aside)
    return [answers[: len(judged)] for answers in outputs], np.array(judged), set_aside


def nothing_to_judge(set_aside: Sequence[tuple[Path, str]]) -> DataError:
    """The error where every image is skipped: (path, reason)."""
    path, reason = set_aside[0]
    got = f"{len(set_aside)} unreadable, the first: {reason}"
    must = "must hold at least one readable image"
    return DataError(path, must, got, "Give a folder with readable images.")


def see(path: Path, sights: set[tuple[int, Resize]]) -> dict[tuple[int, Resize], np.ndarray] | PictureError:
    """The image as each distinct (input_px, resize) sees it: uint8 [px, px, 3]."""
    try:
        with opened(path) as picture:
            return {(px, resize): render(picture, whole_box(*picture.size, resize), px) for px, resize in sights}
    except PictureError as fault:
        return fault
