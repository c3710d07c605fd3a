"""The likeliest classes of images by a .tflite."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from kd2mobile.errors import RecipeError
from kd2mobile.inspection.metadata import output_names
from kd2mobile.measure.files import EXTERNAL_RESIZE
from kd2mobile.measure.litert.guarded import GuardedClassifier
from kd2mobile.measure.outputs import read_answers
from kd2mobile.measure.protocol import Setting
from kd2mobile.metrics import likeliest
from kd2mobile.pixels import Range, Resize, checked_range, load
from kd2mobile.progress import say


class Prediction(msgspec.Struct, frozen=True):
    """image: as it was given; classes: (name, probability), the likeliest first."""

    image: str
    classes: list[tuple[str, float]]


def predict(
    model: Path,
    images: Sequence[Path],
    top: int = 5,
    *,
    labels: Path | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: Resize | None = None,
    threads: int = 1,
    value_range: Range | None = None,
) -> list[Prediction]:
    """The `top` likeliest classes of each image; equal ones in the order of the outputs.

    labels: a file with the names of the classes (see `inspection.labels`); by default the names in the model, else the
    indices of the outputs. resize: by default that of the model, else `crop`. value_range: the values of black and
    white in greyscale of more than 8 bits.
    Raises ModelFileError, ImageError for the first image that cannot be decoded, RecipeError for a `top` below 1.
    """
    if top < 1:
        raise RecipeError("top", "must be 1 or more", top, "The default is 5.")
    black_and_white = value_range and checked_range(value_range, "range")
    with GuardedClassifier(model, Setting(threads, True), mean=mean, std=std) as classifier:
        known, notes = output_names(classifier.path, classifier.metadata, classifier.classes, labels)
        names = known or [str(index) for index in range(classifier.classes)]
        way = resize or classifier.metadata.resize or EXTERNAL_RESIZE
        outputs = [classifier.outputs(load(image, classifier.input_px, way, black_and_white)) for image in images]
    if not outputs:
        return []
    answers = read_answers(np.stack(outputs), classifier.last_op, classifier.step)
    for note in (*notes, *classifier.notes, answers.note):
        if note:
            say(note)
    order = likeliest(answers.values, top)
    return [
        Prediction(str(image), [(names[i], float(row[i])) for i in best])
        for image, row, best in zip(images, answers.values, order, strict=True)
    ]
