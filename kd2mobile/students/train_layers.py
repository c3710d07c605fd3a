"""Which layers of a student are trained: all of them, or only the last few with weights."""

import re
from typing import Any

from kd2mobile.errors import RecipeError

FIELD = "student.train_layers"


def last_layers(train_layers: str) -> int | None:
    """How many layers are trained, counted from the end; None for all. Raises RecipeError unless `all` or `last:N`.

    >>> last_layers("last:2"), last_layers("all")
    (2, None)
    """
    if train_layers == "all":
        return None
    if not re.fullmatch(r"last:[1-9][0-9]{0,5}", train_layers, re.ASCII):
        next_step = "Use `--train-layers last:2` for the last two layers with weights."
        raise RecipeError(FIELD, "must be `all` or `last:N` with N of at least 1", repr(train_layers), next_step)
    return int(train_layers.removeprefix("last:"))


def freeze_all_but(model: Any, train_layers: str) -> list[str]:
    """Freezes the model's layers but the last ones, and returns the names of those that are trained.

    Layers that hold weights are counted, in the order of `model.layers`, the last being the logits; a
    BatchNormalization is a layer of its own. A frozen one infers with the statistics that it has, also while training.

    Raises RecipeError if there are fewer layers with weights.
    """
    weighted = [layer for layer in model.layers if layer.weights]
    count = last_layers(train_layers)
    if count is None:
        return [layer.name for layer in weighted]
    if count > len(weighted):
        raise RecipeError(
            FIELD,
            f"must be `all` or `last:N` with N of at most {len(weighted)}, the layers with weights of {model.name}",
            train_layers,
            "Use `--train-layers all` to train every layer.",
        )
    for layer in weighted[:-count]:
        layer.trainable = False
    return [layer.name for layer in weighted[-count:]]
