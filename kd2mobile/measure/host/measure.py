"""This machine as a device: the files are timed in turn, each in its own process, and then all of them are evaluated on
each image, which is decoded once."""

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
"""The number of decoded images held at a time; apart from the outputs, nothing else grows the memory."""


def check(address: str, options: object, protocol: Protocol) -> None:
    """Raises DeviceError for cores that this process may not use. address, options: unused."""
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
    """Measures on this host. Memory holds a few images and all outputs (4 bytes per image and class).

    address, options: unused. Raises what `Device.measure` does.
    """
    check(address, options, protocol)
    profiles = _profile_all(opened, protocol)
    outputs, evaluated, skipped = _answers(opened, images, skip_unreadable)
    answered = [Answered(timed, answers) for timed, answers in zip(profiles, outputs, strict=True)]
    return FromDevice(device_words(), answered, evaluated, skipped)


def _profile_all(opened: Sequence[Opened], protocol: Protocol) -> list[list[Profile]]:
    """The profiles of each file, one per setting; the files of a setting take turns."""
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
    """The outputs of each file, float32 [evaluated, classes]; the indices of the evaluated images, int [evaluated]; and
    (path, reason) of each skipped image."""
    classifiers = [one.classifier for one in opened]
    input_forms = [(one.classifier.input_px, one.resize) for one in opened]
    outputs = [np.empty((len(images), one.classes), np.float32) for one in classifiers]
    evaluated: list[int] = []
    skipped: list[tuple[Path, str]] = []
    with bar("evaluating", len(images), "images") as advance, ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(images), IMAGES_AT_ONCE):
            paths = images[first : first + IMAGES_AT_ONCE]
            for index, by_form in enumerate(pool.map(render_input_forms, paths, repeat(set(input_forms))), first):
                if isinstance(by_form, ImageError):
                    if not skip_unreadable:
                        raise by_form
                    skipped.append((images[index], str(by_form.got)))
                else:
                    for answers, classifier, input_form in zip(outputs, classifiers, input_forms, strict=True):
                        answers[len(evaluated)] = classifier.outputs(by_form[input_form])
                    evaluated.append(index)
                advance(1)
    if not evaluated:
        raise nothing_to_evaluate(skipped)
    return [answers[: len(evaluated)] for answers in outputs], np.array(evaluated), skipped


def nothing_to_evaluate(skipped: Sequence[tuple[Path, str]]) -> DataError:
    """The error if every image is skipped. skipped: (path, reason)."""
    path, reason = skipped[0]
    got = f"{len(skipped)} unreadable, the first: {reason}"
    must = "must hold at least one readable image"
    return DataError(path, must, got, "Give a folder with readable images.")


def render_input_forms(
    path: Path, input_forms: set[tuple[int, Resize]]
) -> dict[tuple[int, Resize], np.ndarray] | ImageError:
    """The pixels of an image in each input form (input_px, resize), uint8 [px, px, 3]; or the error if it cannot be
    decoded."""
    try:
        with opened(path) as image:
            return {(px, resize): render(image, whole_box(*image.size, resize), px) for px, resize in input_forms}
    except ImageError as fault:
        return fault
