"""What a run's answers show image by image: confusions, calibration, classes gained and lost, quantized files."""

from collections.abc import Callable

import numpy as np

from kd2mobile.measure.roles import STUDENT, TEACHER
from kd2mobile.metrics import calibration_bins, expected_calibration_error, top1
from kd2mobile.pages.view import Answer, Calibration, ClassScore, ConfusedPair, Confusion, Disagreement, Example
from kd2mobile.recipe.variants import in_order

MOST_PAIRS = 12
IMAGES_PER_PAIR = 3
IMAGES_PER_FILE = 8
LEGIBLE_CLASSES = 25
"""A matrix of more classes than this cannot be read; the list of pairs says more."""
FLOATS = ("fp32", "fp16")

Exemplify = Callable[[int, list[Answer]], Example]
"""From the index of a test image and the answers to it to the example."""


def confusion(
    name: str,
    labels: np.ndarray,
    student: np.ndarray,
    teacher: np.ndarray,
    classes: list[str],
    exemplify: Exemplify,
) -> Confusion:
    """Which classes a student takes for which, the most frequent mistakes first.

    labels: int [n]; student, teacher: float [n, classes], probabilities. Equally frequent pairs stand in the order of
    the classes; the examples of a pair are those that the student is surest of.
    """
    predicted, taught, sure = top1(student), top1(teacher), student.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    mistakes, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    frequent = {tuple(mistakes[i].tolist()): int(counts[i]) for i in np.argsort(-counts, kind="stable")}
    answers_of = {STUDENT.name: student, TEACHER.name: teacher}
    pairs = []
    for (true, other), count in list(frequent.items())[:MOST_PAIRS]:
        found = np.flatnonzero((labels == true) & (predicted == other))
        shown = found[np.argsort(-sure[found], kind="stable")][:IMAGES_PER_PAIR].tolist()
        pairs.append(
            ConfusedPair(
                true_class=classes[true],
                predicted_class=classes[other],
                count=count,
                n=int((labels == true).sum()),
                teacher_too=int((taught[found] == other).sum()),
                other_way=frequent.get((other, true), 0),
                examples=[exemplify(i, _answers(i, classes, answers_of)) for i in shown],
            )
        )
    return Confusion(
        model=name,
        n=len(labels),
        errors=len(wrong),
        pairs_in_all=len(frequent),
        pairs=pairs,
        matrix=_matrix(labels, predicted, len(classes)) if len(classes) <= LEGIBLE_CLASSES else None,
    )


def _matrix(labels: np.ndarray, predicted: np.ndarray, width: int) -> list[list[int]]:
    return np.bincount(labels * width + predicted, minlength=width * width).reshape(width, width).tolist()


def calibration(role: str, name: str, probabilities: np.ndarray, labels: np.ndarray) -> Calibration:
    """Confidence against accuracy of one model. probabilities: float [n, classes]; labels: int [n]."""
    ece = expected_calibration_error(probabilities, labels)
    return Calibration(role=role, name=name, ece=ece, bins=calibration_bins(probabilities, labels))


def class_scores(labels: np.ndarray, one: np.ndarray, other: np.ndarray, classes: list[str]) -> list[ClassScore]:
    """How many test images of each class two models get right; classes without one are left out.

    labels: int [n]; one, other: float [n, classes].
    """
    rights = [np.bincount(labels[top1(p) == labels], minlength=len(classes)) for p in (one, other)]
    counts = np.bincount(labels, minlength=len(classes))
    return [ClassScore(classes[i], int(n), int(rights[0][i]), int(rights[1][i])) for i, n in enumerate(counts) if n]


def disagreements(
    files: dict[str, np.ndarray], labels: np.ndarray, classes: list[str], exemplify: Exemplify
) -> list[Disagreement]:
    """Where the quantized files of a student name another class than its float file.

    files: name of the variant to float [n, classes]; labels: int [n]. The float file is fp32, without one fp16;
    without either there is nothing to compare with. Examples: first where one of the two is right.
    """
    reference = next((precision for precision in FLOATS if precision in files), None)
    if reference is None:
        return []
    kept = top1(files[reference])
    found = []
    for precision in in_order(files.keys() - {reference}):
        predicted = top1(files[precision])
        differ = np.flatnonzero(predicted != kept)
        only_reference, only_other = kept[differ] == labels[differ], predicted[differ] == labels[differ]
        shown = differ[np.argsort(~(only_reference | only_other), kind="stable")][:IMAGES_PER_FILE]
        both = {reference: files[reference], precision: files[precision]}
        found.append(
            Disagreement(
                reference=reference,
                precision=precision,
                n=len(labels),
                count=len(differ),
                only_reference=int(only_reference.sum()),
                only_other=int(only_other.sum()),
                examples=[exemplify(i, _answers(i, classes, both)) for i in shown.tolist()],
            )
        )
    return found


def _answers(image: int, classes: list[str], models: dict[str, np.ndarray]) -> list[Answer]:
    named = {who: int(np.argmax(probabilities[image])) for who, probabilities in models.items()}
    return [Answer(who, classes[label], float(models[who][image, label])) for who, label in named.items()]
