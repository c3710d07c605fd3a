"""This machine as a device: the files timed in turn, each in its own process, then all evaluated on each image, decoded
once."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np

from kd2mobile.errors import DataError, ImageError
from kd2mobile.measure.files import Answered, FromDevice, Opened
from kd2mobile.measure.host.machine import cores, device_words
from kd2mobile.measure.litert.worker import FileToTime, Profile, check_cores, profile_files
from kd2mobile.measure.protocol import Protocol
from kd2mobile.pixels import Resize, opened, render, whole_box
from kd2mobile.progress import bar, say

IMAGES_AT_ONCE = 32
"""Images that are held decoded at a time; with the answers, all that grows the memory."""


def check(address: str, options: object, protocol: Protocol) -> None:
    """Raises DeviceError for cores that this process may not use. address, options: there are none."""
    check_cores(protocol.cores)


def measure(
    address: str,
    options: object,
    opened: Sequence[Opened],
    images: Sequence[Path],
    protocol: Protocol,
    *,
    skip_unreadable: bool = False,
) -> FromDevice:
    """Memory holds a few images and every answer (4 bytes per image and class), however many images.

    address, options: there are none. Raises what `Device.measure` does.
    """
    check(address, options, protocol)
    profiles = _profile_all(opened, protocol)
    outputs, evaluated, skipped = _answers(opened, images, skip_unreadable)
    answered = [Answered(timed, answers) for timed, answers in zip(profiles, outputs, strict=True)]
    return FromDevice(device_words(), answered, evaluated, skipped)


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
    opened: Sequence[Opened], images: Sequence[Path], skip_unreadable: bool
) -> tuple[list[np.ndarray], np.ndarray, list[tuple[Path, str]]]:
    """float32 [evaluated, classes] of each file, which images those are, and (path, reason) of the others."""
    classifiers = [one.classifier for one in opened]
    sights = [(one.classifier.input_px, one.resize) for one in opened]
    outputs = [np.empty((len(images), one.classes), np.float32) for one in classifiers]
    evaluated: list[int] = []
    skipped: list[tuple[Path, str]] = []
    with bar("evaluating", len(images), "images") as advance, ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(images), IMAGES_AT_ONCE):
            paths = images[first : first + IMAGES_AT_ONCE]
            for place, seen in enumerate(pool.map(see, paths, repeat(set(sights))), first):
                if isinstance(seen, ImageError):
                    if not skip_unreadable:
                        raise seen
                    skipped.append((images[place], str(seen.got)))
                else:
                    for answers, classifier, sight in zip(outputs, classifiers, sights, strict=True):
                        answers[len(evaluated)] = classifier.outputs(seen[sight])
                    evaluated.append(place)
                advance(1)
    if not evaluated:
        raise nothing_to_evaluate(skipped)
    return [answers[: len(evaluated)] for answers in outputs], np.array(evaluated), skipped


def nothing_to_evaluate(skipped: Sequence[tuple[Path, str]]) -> DataError:
    """The error where every image is skipped: (path, reason)."""
    path, reason = skipped[0]
    got = f"{len(skipped)} unreadable, the first: {reason}"
    must = "must hold at least one readable image"
    return DataError(path, must, got, "Give a folder with readable images.")


def see(path: Path, sights: set[tuple[int, Resize]]) -> dict[tuple[int, Resize], np.ndarray] | ImageError:
    """The image as each distinct (input_px, resize) sees it: uint8 [px, px, 3]."""
    try:
        with opened(path) as image:
            return {(px, resize): render(image, whole_box(*image.size, resize), px) for px, resize in sights}
    except ImageError as fault:
        return fault
