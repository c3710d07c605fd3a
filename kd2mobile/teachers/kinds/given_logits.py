"""A teacher that is given as its logits: an .npz file, written by any framework, one row per image."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd2mobile.errors import TeacherError
from kd2mobile.recipe.content import content_of
from kd2mobile.recipe.schema import Teacher
from kd2mobile.teachers.kinds.kind import OF_A_FILE, Kind, check_file, refuse_fields

if TYPE_CHECKING:
    from kd2mobile.teachers.reading import TeacherImages
    from kd2mobile.teachers.results import Description

FORM = "an .npz file"
NETWORKS_ALONE = ("weights", "input_px", "fine_tune_epochs", *(name for name in OF_A_FILE if name != "output"))
"""The fields that mean something for a network alone."""


def _matches(name: str) -> bool:
    return name.endswith(".npz")


def _check(teacher: Teacher) -> None:
    refuse_fields(teacher, NETWORKS_ALONE, "is a file of logits")
    if teacher.output not in (None, "logits"):
        must, step = f"must be logits or left out: {teacher.name} is a file of logits", "Write log(p) into the file."
        raise TeacherError("teacher.output", must, teacher.output, step)
    check_file(teacher, FORM)


def _config(teacher: Teacher, classes: list[str]) -> dict[str, Any]:
    config = {"name": content_of(Path(teacher.name))}
    return config if teacher.output is None else config | {"output": teacher.output}


def _build(folder: Path, teacher: Teacher, images: "TeacherImages") -> "Description":
    from kd2mobile.teachers.logits import make_logits_teacher

    return make_logits_teacher(folder, Path(teacher.name), images.split, known=teacher.output == "logits")


GIVEN_LOGITS = Kind(
    FORM,
    "logits of any framework, one row per image: docs/how-to/own-teacher.md",
    _matches,
    _check,
    _config,
    _build,
    whole_views=True,
)
