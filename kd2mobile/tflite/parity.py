"""The parity gate: in plain LiteRT, a file must give the outputs of its student on images."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from kd2mobile.errors import ExportError
from kd2mobile.metrics import hits
from kd2mobile.tflite.contract import INPUT, OUTPUT, SIGNATURE

LOWEST_AGREEMENT = {"fp32": 0.999, "fp16": 0.995, "int8_dynamic": 0.95, "int8": 0.90, "int16x8": 0.95}
"""Fraction of images whose top-1 class must be the student's. int16x8 has the weights of int8_dynamic, and so its
limit: of 875 photos MobileNet-0.25 for caltech101 agrees on 0.993, without the bias correction on 0.963."""
LOWEST_FAITHFUL = 0.99
"""The same of an int8 file beside the fake-quantized graph that it was made from: they differ by rounding alone."""
MOST_TIED = 2
"""Beside its graph an int8 file may choose either of so many equally likely classes, or the graph either of the file's:
with 256 steps of a logit the two likeliest are often level."""
ALWAYS_ALLOWED = 2
"""Images that may differ however few there are."""


class Parity(NamedTuple):
    """n: images compared; agreed: those with the same top-1 class; largest_difference: of two probabilities.

    student_hits, file_hits: what top-1 each gets for each image (`hits`), where the labels are known.
    """

    n: int = 0
    agreed: int = 0
    largest_difference: float = 0.0
    student_hits: tuple[float, ...] = ()
    file_hits: tuple[float, ...] = ()

    @property
    def agreement(self) -> float:
        """Fraction of the images, 0..1."""
        return self.agreed / self.n

    def with_batch(
        self, expected: np.ndarray, answers: np.ndarray, labels: Sequence[int] = (), ties: bool = False
    ) -> "Parity":
        """This and one more batch; expected, answers: probabilities [batch, classes]; labels: int [batch], or none.

        ties: whether two equally likely classes count for either.
        """
        same = expected.argmax(1) == answers.argmax(1)
        agreed = int((same | _share_a_tie(expected, answers) if ties else same).sum())
        largest = float(np.abs(expected - answers).max())
        # np.maximum, unlike max(), lets a NaN through to the check
        largest = float(np.maximum(self.largest_difference, largest))
        right = [
            tuple(hits(probabilities, np.asarray(labels), 1)) if len(labels) else ()
            for probabilities in (expected, answers)
        ]
        both = self.student_hits + right[0], self.file_hits + right[1]
        return Parity(self.n + len(expected), self.agreed + agreed, largest, *both)


def _share_a_tie(expected: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Where the likeliest classes of both, at most MOST_TIED each, have one in common: bool [batch]."""
    likeliest = [probabilities == probabilities.max(axis=1, keepdims=True) for probabilities in (expected, answers)]
    few = [classes.sum(axis=1) <= MOST_TIED for classes in likeliest]
    return (likeliest[0] & likeliest[1]).any(axis=1) & few[0] & few[1]


def open_classifier(model: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """A function from uint8 pixels [px, px, 3] to float32 probabilities [classes], run by plain LiteRT."""
    interpreter = Interpreter(model_content=model, num_threads=min(4, os.cpu_count() or 1))
    classify = interpreter.get_signature_runner(SIGNATURE)
    takes = classify.get_input_details()[INPUT]["dtype"]
    scale, zero_point = classify.get_output_details()[OUTPUT]["quantization"]

    def answer(pixels: np.ndarray) -> np.ndarray:
        probabilities = classify(**{INPUT: pixels[None].astype(takes)})[OUTPUT][0].astype(np.float32)
        return (probabilities - zero_point) * scale if scale else probabilities

    return answer


def compare(
    models: dict[str, bytes],
    student: Callable[[np.ndarray], np.ndarray],
    batches: Iterable[np.ndarray],
    done: Callable[[int], None] = lambda images: None,
    labels: Sequence[int] = (),
    ties: bool = False,
) -> dict[str, Parity]:
    """Each model beside the student on the same images; the images are gone through once.

    student: uint8 [batch, px, px, 3] to probabilities [batch, classes]; batches: the images; done: told how many
    more were compared; labels: of the images in their order, or none; ties: whether two equally likely classes count
    for either.
    """
    classifiers = {name: open_classifier(model) for name, model in models.items()}
    compared = {name: Parity() for name in models}
    begun = 0
    for pixels in batches:
        expected, true = student(pixels), labels[begun : begun + len(pixels)]
        begun += len(pixels)
        for name, classify in classifiers.items():
            answers = np.stack([classify(image) for image in pixels])
            compared[name] = compared[name].with_batch(expected, answers, true, ties)
        done(len(pixels))
    return compared


def check_parity(
    parity: Parity, precision: str, where: str, faithful: bool = False, worst_layers: Sequence[str] = ()
) -> None:
    """Raises ExportError where agreement is below the precision's limit and more than two images differ.

    Also if nothing was compared, or either side answered NaN. faithful: whether the file should be the very graph that
    it was compared with, quantization and all. worst_layers: those with the largest quantization error, for the
    message.
    """
    if not parity.n:
        raise ExportError(where, "must be compared with its student", "no validation images", "Give at least one.")
    if not np.isfinite(parity.largest_difference):
        next_step = "Find in the student's training history the epoch at which its weights became infinite or NaN."
        raise ExportError(where, "must output finite probabilities", "NaN", next_step)
    lowest = LOWEST_FAITHFUL if faithful else LOWEST_AGREEMENT[precision]
    if parity.agreement < lowest and parity.n - parity.agreed > ALWAYS_ALLOWED:
        must = f"must agree with its student on the top-1 class of at least {lowest:.1%} of the validation images"
        largest = f"largest difference of a probability {parity.largest_difference:.3f}"
        got = f"{parity.agreement:.1%} of {parity.n} ({largest})"
        worst = f" The layers with the largest errors: {', '.join(worst_layers)}." if worst_layers else ""
        raise ExportError(where, must, got, (_REPORT if faithful else _NEXT_STEP[precision]) + worst)


_REPORT = "The converter changed the network; please report it."
_MORE_IMAGES = "Give more calibration images (export.calibration_images) or train the student longer"
_NEXT_STEP = {
    "fp32": "Train the student longer. If it is fully trained, the conversion is wrong: please report it.",
    "fp16": "Leave fp16 out with --precision, or look for activations beyond float16's range (65504).",
    "int8_dynamic": "Train the student longer, or leave int8_dynamic out with --precision.",
    "int8": f"{_MORE_IMAGES}, leave out --per-tensor, keep layers float with --keep-float, or leave int8 out.",
    "int16x8": f"{_MORE_IMAGES}, or leave int16x8 out with --precision.",
}
