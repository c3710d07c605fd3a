"""A teacher in use: computes raw logits from pixels, and checks and evaluates them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import msgspec
import numpy as np

from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.split import Sample
from kd2mobile.errors import TeacherError
from kd2mobile.files import read_json, write_json
from kd2mobile.metrics import top1_and_logloss
from kd2mobile.progress import bar
from kd2mobile.store.stage_records import Validated
from kd2mobile.teachers.kinds.kind import DESCRIPTION
from kd2mobile.teachers.preprocess import MODES, Mode, preprocess
from kd2mobile.teachers.reading import TeacherImages, in_batches
from kd2mobile.teachers.results import Description

MODEL = "teacher.keras"
OUTPUTS = ("logits", "probabilities")
"""What a network may output, as in a teacher.json. The stored teacher always outputs logits."""


IF_LOGITS = "; an .npz file that holds logits all the same is taken with `--teacher-output logits`"


@dataclass
class Teacher:
    """A network with its input.

    input_px: side of its input in pixels; preprocess: the pixel values that it takes; where: its name in messages;
    batch_size: images per call. known_logits: whether its outputs are certainly logits, because a softmax was removed.
    """

    model: keras.Model
    input_px: int
    preprocess: Mode
    where: str
    batch_size: int = 32
    known_logits: bool = False

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """The outputs of the network: uint8 [n, input_px, input_px, 3] to float32 [n, outputs], n at most batch_size.

        A short batch is filled up, so that the network is compiled for one shape only.
        """
        missing = self.batch_size - len(images)
        padded = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)]) if missing else images
        answer = self.model.predict_on_batch(preprocess(padded, self.preprocess))
        return np.asarray(answer, np.float32)[: len(images)]

    def evaluated_outputs(self, images: TeacherImages, samples: list[Sample]) -> Iterator[np.ndarray]:
        """`outputs` for the evaluated views of the samples, batch by batch, in order."""

        def read(numbers: range) -> np.ndarray:
            return images.evaluated([samples[i] for i in numbers], self.input_px)

        return map(self.outputs, in_threads(read, in_batches(len(samples), self.batch_size), ahead=1))

    def evaluate(self, images: TeacherImages, label: str) -> tuple[np.ndarray, Validated]:
        """The logits of the validation images, float32 [n, classes], checked, and how good they are: see `evaluation`.

        label: of the progress bar. Raises TeacherError if the outputs are no logits.
        """
        samples = images.samples_of("val")
        answers = []
        with bar(label, len(samples), "images") as advance:
            for answer in self.evaluated_outputs(images, samples):
                answers.append(answer)
                advance(len(answer))
        logits = np.concatenate(answers)
        check_logits(logits, [sample.path for sample in samples], self.where, self.known_logits)
        return logits, evaluation(logits, images.labels("val"))


def open_teacher(folder: Path, batch_size: int = 32) -> tuple[Teacher, Description]:
    """The teacher that make_teacher wrote into the folder, and its description. Raises TeacherError."""
    folder = Path(folder)
    described = read_description(folder / DESCRIPTION)
    if missing := [name for name in ("input_px", "preprocess", "name") if not getattr(described, name)]:
        where = f"{folder / DESCRIPTION}: {missing[0]}"
        raise TeacherError(where, "must be there", None, f"Remove {folder}; it will be built again.")
    try:
        model = keras.saving.load_model(folder / MODEL, compile=False, safe_mode=True)
    except Exception as fault:
        reason = f"{type(fault).__name__}: {str(fault).partition(chr(10))[0]}"
        raise TeacherError(
            folder / MODEL, "must be a Keras model", reason, f"Remove {folder}; it will be built again."
        ) from fault
    pixels = described.input_px, described.preprocess
    return Teacher(model, *pixels, described.name, batch_size, described.are_logits), described


def read_description(path: Path) -> Description:
    """The content of a teacher.json, each field optional.

    Raises TeacherError if the file cannot be read or a field has an invalid value.
    """
    described = read_json(path, Description, "Correct it, or build the teacher again.", error=TeacherError)
    for name, choices in (("preprocess", MODES), ("output", OUTPUTS)):
        if (given := getattr(described, name)) is not None and given not in choices:
            must = f"must give {name}: one of {', '.join(choices)}"
            raise TeacherError(path, must, repr(given), "Add it.")
    return described


def write_description(folder: Path, described: Description) -> None:
    """Writes the teacher.json of a teacher's folder."""
    write_json(folder / DESCRIPTION, msgspec.to_builtins(described))


def evaluation(logits: np.ndarray, labels: np.ndarray) -> Validated:
    """Evaluates logits. logits: float [n, classes]; labels: int [n].

    >>> evaluation(np.array([[2.0, 2.0], [9.0, 0.0]]), np.array([0, 0]))
    Validated(n=2, top1=1.0, logloss=0.3466)
    """
    top1, logloss = top1_and_logloss(logits, labels)
    return Validated(len(labels), round(float(top1), 6), round(float(logloss), 4))


def check_finite(
    logits: np.ndarray,
    images: list[str],
    where: str,
    smaller: str = "Scale the teacher's last layer down or give it another head.",
) -> None:
    """Raises TeacherError for logits that float16 cannot store: NaN, infinity or beyond its range.

    logits: float [n, classes]; images: the name of each image, for messages; where: the teacher's name in messages;
    smaller: the next step that makes logits smaller.
    """
    broken = ~np.isfinite(logits).all(axis=1)
    if broken.any():
        image = images[int(broken.argmax())]
        count = f" ({int(broken.sum())} of {len(logits)} images)"
        raise TeacherError(
            f"{where}, {image}", "must output finite logits", f"NaN or infinity{count}", "Repair or train the teacher."
        )
    largest = np.abs(logits).max(axis=1)
    if largest.max() > np.finfo(np.float16).max:
        image = images[int(largest.argmax())]
        raise TeacherError(
            f"{where}, {image}",
            "must output logits within float16's range of 65,504",
            f"{largest.max():.4g}",
            smaller,
        )


def check_logits(logits: np.ndarray, images: list[str], where: str, known: bool = False) -> None:
    """Raises TeacherError for numbers that cannot be stored and softened as logits.

    These are numbers that `check_finite` refuses and, unless known, probabilities: no number below 0 and every row
    with the sum 1, or with another equal sum (see `scale_of_probabilities`).
    logits: float [n, classes]; images: the name of each image; where: the teacher's name; known: whether they are
    certainly logits.
    """
    check_finite(logits, images, where)
    if known:
        return
    if len(logits) and (logits >= 0).all() and np.allclose(logits.sum(axis=1), 1, atol=1e-3):
        raise TeacherError(
            where,
            "must output logits",
            "probabilities (each image's outputs are in [0, 1] and sum to 1)",
            "Give the numbers before the softmax, or log(p); for a model file, give `--teacher-output probabilities`"
            f"{IF_LOGITS}.",
        )
    if total := scale_of_probabilities(logits):
        raise TeacherError(
            where,
            "must output logits",
            f"probabilities times {total:.4g} (no number is below 0, and each image's sum to {total:.4g})",
            f"Give the numbers before the softmax, or log(p / {total:.4g}){IF_LOGITS}.",
        )


def equal_sums(answers: np.ndarray) -> float | None:
    """What each row of numbers of at least 0 sums to, within 1e-3 of it, as of probabilities times 100; else None.

    answers: float [n, classes]. One row says nothing, and rows that hardly differ, as of a network that is trained
    little, have about one sum whatever they are: one of their numbers must differ by a tenth of the sum.

    >>> equal_sums(np.array([[90.0, 10], [20, 80]])), equal_sums(np.array([[9.0, 1], [1, 8]]))
    (100.0, None)
    >>> equal_sums(np.array([[0.01, 0.02], [0.010001, 0.02]]))
    """
    if len(answers) < 2 or not np.isfinite(answers).all() or answers.min() < 0:
        return None
    sums = answers.sum(axis=1, dtype=np.float64)
    total = float(np.median(sums))
    if np.ptp(answers, axis=0).max() <= total / 10:
        return None
    return total if total > 0 and (np.abs(sums - total) <= 1e-3 * total).all() else None


def scale_of_probabilities(answers: np.ndarray) -> float | None:
    """The k of answers that are surely probabilities times k; else None. answers: float [n, classes].

    `equal_sums` are sure only where they are 1 or 100, or where the numbers look like no logits written by hand: whole
    numbers, and the same numbers in each row in another order, as of one-hot times 6, are logits as well.

    >>> scale_of_probabilities(np.array([[0.0, 6], [6, 0]])), scale_of_probabilities(np.array([[5.5, 0.5], [2, 4]]))
    (None, 6.0)
    """
    total = equal_sums(answers)
    if total is None or any(abs(total - sure) <= 1e-3 * sure for sure in (1, 100)):
        return total
    whole = np.allclose(answers, np.round(answers), rtol=0, atol=1e-3)
    in_order = np.sort(answers, axis=1)
    same = np.ptp(in_order, axis=0).max() <= 1e-3 * total
    return None if whole or same else total


def check_not_probabilities(values: np.ndarray, where: object) -> None:
    """Raises TeacherError where all numbers are in 0..1, as a sigmoid's or probabilities that sum to no 1 are.

    values: float [n, classes], of all images at once.
    """
    if values.size and values.min() >= 0 and values.max() <= 1:
        got = "only numbers from 0 to 1, as for probabilities"
        step = f"Give the numbers before the sigmoid or softmax, or log(p){IF_LOGITS}."
        raise TeacherError(where, "must be logits", got, step)


def check_order(path: Path, logits: np.ndarray, labels: np.ndarray, classes: list[str], order: str) -> None:
    """Raises TeacherError if the teacher's classes are probably in another order than the user's.

    That is so if its top-1 is not above chance by three standard errors, or if it mostly exchanges some classes in a
    ring, such as a for b and b for a.
    logits: float [n, classes]; labels: int [n]; classes: their names; order: the next step for the message.
    """
    predicted = logits.argmax(axis=1)
    top1, chance = (predicted == labels).mean(), 1 / len(classes)
    if top1 < 1 and top1 <= chance + 3 * np.sqrt(chance * (1 - chance) / len(labels)):
        raise TeacherError(path, f"must be better than chance ({chance:.3f})", f"top-1 {top1:.3f}", order)
    moved = {}
    for label in np.unique(labels):
        votes = np.bincount(predicted[labels == label], minlength=len(classes))
        taken_for = int(votes.argmax())
        if taken_for != label and votes[taken_for] > votes.sum() / 2:
            moved[int(label)] = taken_for
    if moved and set(moved.values()) == set(moved):
        swaps = ", ".join(f"{classes[a]!r} for {classes[b]!r}" for a, b in list(moved.items())[:5])
        raise TeacherError(path, "must have the classes in the order of the sorted folders", f"mostly {swaps}", order)
