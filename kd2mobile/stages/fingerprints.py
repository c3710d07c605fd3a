"""What of a recipe can change each stage's result: the configs of the steps. Files stand as their content."""

from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.files import sha256_of
from kd2mobile.recipe.compose import is_keras_file, is_logits_file, weights_file
from kd2mobile.recipe.schema import Distill, Student, Teacher

UNUSED_BY_LOSS = {"logits": ("temperature",), "labels": ("temperature", "hard_label_weight")}
"""The fields of a recipe that a loss does not look at."""


def student_settings(student: Student) -> dict[str, Any]:
    """What of the recipe's student can change its result; a weights file stands as its content."""
    settings = msgspec.to_builtins(student) | {"weights": _weights("student.weights", student.weights)}
    if student.train_layers == "all":
        del settings["train_layers"]  # there before the field was: what was trained then is found
    return settings


def teacher_settings(teacher: Teacher, classes: list[str]) -> dict[str, Any]:
    """What of the recipe's teacher can change its result; files stand as their content. classes: the user's.

    What only a file may need, and ImageNet's own head, stand there where they are used alone.
    """
    from kd2mobile.teachers.imagenet import imagenet_numbers

    if is_logits_file(teacher.name):
        return {"name": _content(Path(teacher.name))}
    settings = msgspec.to_builtins(teacher)
    only_if_used = ("preprocess", "classes", "output")
    settings = {name: value for name, value in settings.items() if value is not None or name not in only_if_used}
    if teacher.classes is not None:
        settings["classes"] = _content(Path(teacher.classes))
    if (is_keras_file(teacher.name) or teacher.weights != "none") and imagenet_numbers(classes) is not None:
        settings["imagenet_classes"] = True
    if is_keras_file(teacher.name):
        unused = {"weights", "epochs", "learning_rate"}
        settings |= {"name": _content(Path(teacher.name)), **_description(Path(teacher.name))}
        settings["logits_from"] = "the history of its output"  # and not its last layer, as before: those are made again
    else:
        from kd2mobile.teachers.zoo import TEACHERS

        unused = {"epochs", "learning_rate"}
        if teacher.weights == "none":
            unused = {"fine_tune_epochs", "fine_tune_learning_rate"}
        settings["weights"] = _weights("teacher.weights", teacher.weights)
        settings["input_px"] = teacher.input_px or TEACHERS[teacher.name].px
    unused.add("dtype")
    if teacher.train_fraction == 1:
        unused.add("train_fraction")
    if not teacher.fine_tune_epochs:
        unused.add("fine_tune_learning_rate")
    return {name: value for name, value in settings.items() if name not in unused}


def transfer_settings(teacher: Teacher) -> dict[str, Any]:
    """What of the recipe's teacher can change its logits and not the teacher itself."""
    return {} if teacher.dtype == "float32" else {"dtype": teacher.dtype}


def distill_settings(distill: Distill) -> dict[str, Any]:
    """What of the recipe's distillation can change the student."""
    unused = {"baseline", *UNUSED_BY_LOSS.get(distill.loss, ())}
    if not distill.class_weights:
        unused.add("class_weights")
    return {name: value for name, value in msgspec.to_builtins(distill).items() if name not in unused}


def _weights(field: str, weights: str) -> str:
    """What `weights` stands for in a fingerprint: itself, or the file's content."""
    file = weights_file(field, weights)
    return _content(file) if file else weights


def _content(file: Path) -> str:
    return f"sha256:{sha256_of(file)}"


def _description(teacher: Path) -> dict[str, str]:
    """The content of a teacher.json beside a .keras file, which says its classes and preprocessing."""
    beside = teacher.with_name("teacher.json")
    return {"described": _content(beside)} if beside.is_file() else {}
