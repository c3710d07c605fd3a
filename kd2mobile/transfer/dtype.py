"""Runs the teacher's pass in another dtype than it was trained in, and measures the effect on its logits."""

import keras
import numpy as np

from kd2mobile.errors import TeacherError
from kd2mobile.progress import say
from kd2mobile.transfer.results import DtypeEffect

LEAST_AGREEMENT = 0.98
"""Fraction of the validation images that must keep their top class; one image may always change it."""
IMAGES = 256
"""Number of validation images that are compared, spread evenly over all of them."""


def set_dtype(model: keras.Model, dtype: str) -> None:
    """Sets the dtype policy of the layers, in place; the weights stay float32. To be called before the model is run.

    The last layer with weights, and what follows it, stays in float32, so that the logits are float32 and are not
    rounded to bfloat16's 8 bits. Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.
    """
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model)]
    last = max((i for i, layer in enumerate(layers) if layer.weights), default=len(layers))
    for layer in layers[:last]:
        layer.dtype_policy = dtype


def effect_of_dtype(exact: np.ndarray, reduced: np.ndarray, dtype: str, where: str) -> DtypeEffect:
    """Compares the logits of a reduced dtype with those of float32; prints and returns the differences.

    exact, reduced: the logits in float32 and in dtype, float32 [images, classes]. where: the teacher's name in
    messages.

    Raises TeacherError where fewer than LEAST_AGREEMENT keep their top class: the transfer
    set would be that of another teacher, made by hours of work, and float32 costs no more than time.
    """
    difference = np.abs(reduced.astype(np.float64) - exact)
    same = exact.argmax(axis=1) == reduced.argmax(axis=1)
    effect = DtypeEffect(
        images=len(exact),
        mean_difference=float(difference.mean()),
        largest_difference=float(difference.max()),
        largest_logit=float(np.abs(exact).max()),
        top1_agreement=float(same.mean()),
    )
    summary = (
        f"{same.mean():.1%} of {len(same)} validation images keep their top class; logits differ by "
        f"{difference.mean():.2g} on average, {difference.max():.2g} at most, of up to {effect.largest_logit:.3g}"
    )
    if not np.isfinite(reduced).all() or (~same).sum() > max(1, (1 - LEAST_AGREEMENT) * len(same)):
        raise TeacherError(
            f"{where}, teacher.dtype {dtype}",
            f"must keep the top class of float32 for at least {LEAST_AGREEMENT:.0%} of the images",
            summary,
            "Use `--teacher-dtype float32`.",
        )
    say(f"{dtype} beside float32: {summary}")
    return effect
