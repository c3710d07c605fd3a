"""The kind of a file's outputs: probabilities, logits, or scores that only rank the classes."""

from typing import Literal, NamedTuple

import numpy as np

from kd2mobile.metrics import softmax

Kind = Literal["probabilities", "logits", "scores"]
TOLERANCE = 0.02
"""How far a row of probabilities may be from 1 in sum, beside the rounding of a quantized output."""


class Answers(NamedTuple):
    """values: float32 [n, classes], probabilities unless kind is "scores"; note: what was done with them, or None."""

    values: np.ndarray
    kind: Kind
    note: str | None


def read_answers(outputs: np.ndarray, last_op: str | None, step: float = 0.0) -> Answers:
    """Probabilities from the outputs of a file, by one stated rule.

    A graph that ends in SOFTMAX gives probabilities; one that ends in LOGISTIC gives scores, each class independent
    of the others: they rank, but have no logloss. With any other end the numbers decide: probabilities if all of them
    are within 0..1 and every image's sum to 1 within 0.02, else logits, and their softmax is taken.

    outputs: float32 [n, classes]; last_op: the op that makes them, None if unknown; step: of a quantized output,
    whose rounding may move each value by half of it.
    """
    if last_op == "SOFTMAX":
        return Answers(outputs, "probabilities", None)
    if last_op == "LOGISTIC":
        return Answers(
            outputs, "scores", "the graph ends in a sigmoid: its scores rank the classes, but logloss is unknown"
        )
    within = outputs.min() >= -step and outputs.max() <= 1 + step
    drift = TOLERANCE + outputs.shape[1] * step / 2
    if within and np.abs(outputs.sum(axis=1, dtype=np.float64) - 1).max() <= drift:
        return Answers(outputs, "probabilities", None)
    values = softmax(outputs).astype(np.float32)
    return Answers(
        values, "logits", "the outputs are not probabilities: they are taken as logits, and softmax is applied"
    )
