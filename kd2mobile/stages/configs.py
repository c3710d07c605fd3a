"""What of a recipe can change each stage's result: the configs of the steps. Files stand as their content."""

from typing import Any

import msgspec

from kd2mobile.losses import LOSSES
from kd2mobile.recipe.content import weights_content
from kd2mobile.recipe.schema import Distill, Recipe, Student, Teacher


def student_settings(student: Student) -> dict[str, Any]:
    """What of the recipe's student can change its result; a weights file stands as its content."""
    settings = msgspec.to_builtins(student) | {"weights": weights_content("student.weights", student.weights)}
    if student.train_layers == "all":
        del settings["train_layers"]  # there before the field was: what was trained then is found
    return settings


def transfer_settings(teacher: Teacher) -> dict[str, Any]:
    """What of the recipe's teacher can change its logits and not the teacher itself."""
    return {} if teacher.dtype == "float32" else {"dtype": teacher.dtype}


def ensemble_settings(recipe: Recipe) -> dict[str, Any]:
    """What of the recipe can change the combination of its teachers' logits."""
    ensemble = recipe.ensemble
    temperatures = "fitted" if ensemble.fit_temperatures else temperatures_of(recipe)
    kept = {} if ensemble.keep_best in (None, len(recipe.teachers)) else {"keep_best": ensemble.keep_best}
    return {"mean": ensemble.mean, "temperatures": temperatures, **kept}


def temperatures_of(recipe: Recipe) -> list[float]:
    """The temperature of each teacher before the mean, where they are not fitted."""
    return list(recipe.ensemble.temperatures or [1.0] * len(recipe.teachers))


def distill_settings(distill: Distill) -> dict[str, Any]:
    """What of the recipe's distillation can change the student: of what a loss may use, what this one does."""
    loss = LOSSES[distill.loss]
    unused = {"baseline", *loss.ignores}
    if not distill.class_weights:
        unused.add("class_weights")
    config = msgspec.to_builtins(distill) | {"loss_options": loss.own_options(distill)}
    if not config["loss_options"]:
        unused.add("loss_options")
    return {name: value for name, value in config.items() if name not in unused}
