"""The test images on the page: which are shown, and as what."""

import base64
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from kd2mobile.errors import ImageError
from kd2mobile.metrics import top1
from kd2mobile.pages.view import ShownImage
from kd2mobile.pixels import open_image

HOW_CHOSEN = (
    "Drawn by seed from the test images: a third where the student is right, a third where it errs, and a third "
    "where it and the teacher predict different classes. Errors are therefore far more frequent here than in "
    "the test set."
)
THUMBNAIL_PX = 208
EXAMPLE_PX = 112
CLASSES_SHOWN = 3
VERDICTS = {
    (True, True): "both right",
    (True, False): "only the teacher is right",
    (False, True): "only the student is right",
    (False, False): "both err",
}


def choose_images(
    labels: np.ndarray, teacher_probs: np.ndarray, student_probs: np.ndarray, count: int = 12, seed: int = 0
) -> list[int]:
    """Indices of the images to show, as HOW_CHOSEN says; where one third runs short the others fill up.

    labels: int [n]. teacher_probs, student_probs: float [n, classes]; probabilities or logits, only the order counts.
    count: how many, n at most. Returns unique indices: the ones it gets right, then its errors, then disagreements.
    """
    labels, teacher, student = np.asarray(labels), top1(teacher_probs), top1(student_probs)
    order = np.random.default_rng(seed).permutation(len(labels))
    groups = [order[(which)[order]] for which in (student == labels, student != labels, student != teacher)]
    count = min(count, len(labels))
    shares = [count - count // 3 * 2, count // 3, count // 3]
    chosen: list[list[int]] = [[], [], []]
    taken: set[int] = set()
    for kind in (1, 2, 0):  # the rarer kinds draw first
        free = [int(i) for i in groups[kind] if int(i) not in taken]
        chosen[kind] = free[: shares[kind]]
        taken.update(chosen[kind])
    for kind in (2, 1, 0):
        free = [int(i) for i in groups[kind] if int(i) not in taken][: count - len(taken)]
        chosen[kind] += free
        taken.update(free)
    return [i for group in chosen for i in group]


@dataclass(frozen=True)
class Guess:
    """One class of a card: both probabilities, None where a model's list does not have it."""

    name: str
    true: bool
    teacher: float | None
    student: float | None


@dataclass(frozen=True)
class Thumbnail:
    """An image inside the page. data_uri is None, and fault says why, if it cannot be read.

    small: it is stored whole, so small that its pixels are shown as squares.
    """

    data_uri: str | None
    fault: str = ""
    small: bool = False


@dataclass(frozen=True)
class Card:
    """One image as the page shows it."""

    path: str
    true_class: str
    thumbnail: Thumbnail
    verdict: str
    guesses: list[Guess]


def card(image: ShownImage) -> Card:
    """The image with a thumbnail and the likeliest classes of both models, the true class always among them."""
    teacher, student = dict(image.teacher), dict(image.student)
    names = {*_likeliest(teacher, CLASSES_SHOWN), *_likeliest(student, CLASSES_SHOWN), image.true_class}
    ranked = sorted(names, key=lambda n: (-(teacher.get(n, 0) + student.get(n, 0)), n))
    guesses = [Guess(n, n == image.true_class, teacher.get(n), student.get(n)) for n in ranked]
    verdict = VERDICTS[
        tuple(_likeliest(probabilities, 1) == [image.true_class] for probabilities in (teacher, student))
    ]
    return Card(image.path, image.true_class, thumbnail(image.image, THUMBNAIL_PX), verdict, guesses)


def _likeliest(probabilities: dict[str, float], how_many: int) -> list[str]:
    return sorted(probabilities, key=lambda n: (-probabilities[n], n))[:how_many]


def thumbnail(image: Any, px: int) -> Thumbnail:
    """The image within px x px. image: a PIL image, or the address of a file."""
    try:
        image = image.convert("RGB") if isinstance(image, Image.Image) else open_image(image)
    except ImageError as error:
        return Thumbnail(None, fault=str(error))
    small = max(image.size) <= px // 3
    if not small:
        image = image.copy()
        image.thumbnail((px, px), Image.Resampling.LANCZOS)
    into = io.BytesIO()
    kind = "png" if small else "jpeg"
    image.save(into, kind, **({"optimize": True} if small else {"quality": 82}))
    return Thumbnail(f"data:image/{kind};base64,{base64.b64encode(into.getvalue()).decode()}", small=small)
