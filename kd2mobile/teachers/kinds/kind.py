"""The definition of a kind of teacher, and checks that several kinds share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd2mobile.errors import TeacherError
from kd2mobile.files import got_instead
from kd2mobile.recipe.schema import Teacher

if TYPE_CHECKING:
    from kd2mobile.teachers.reading import TeacherImages
    from kd2mobile.teachers.results import Description

DESCRIPTION = "teacher.json"
"""A file of every teacher's artifact. Beside the user's own model it may give classes, preprocessing and output."""
OF_A_FILE = ("preprocess", "classes", "output")
"""The fields of [teacher] that describe a model file."""


def file_name(name: str) -> str:
    """`mine.keras` of `models/mine.keras`; a name without folders is itself."""
    return Path(name).name


@dataclass(frozen=True)
class Kind:
    """A kind of teacher. Everything specific to it is here; no other code asks which kind a teacher is.

    form: what a user gives as the name, in words: `an .npz file`. summary: a line for `kd2mobile list teachers`.
    matches: whether a teacher.name is of this kind. It looks at the name alone, not at the disk.
    check: raises TeacherError, UnknownNameError or WeightsError for errors that can be found without a framework,
    before anything is built. config: the fields that can change the teacher, for the fingerprint of its step; a file is
    represented by its content. Takes the recipe's [teacher] and the user's classes. build: fills a step's folder with
    teacher.json, its `classes`, `name` and `val` in it, and with either teacher.keras (a network, labelled view by
    view) or logits.npz (logits as `teachers.logits` reads them); returns teacher.json. Takes the folder, the table and
    the images. Keras is loaded when it is called. whole_views: whether it has logits for whole images alone, one view
    per image. title: the report's name for the teacher of that name.
    """

    form: str
    summary: str
    matches: Callable[[str], bool]
    check: Callable[[Teacher], None]
    config: Callable[[Teacher, list[str]], dict[str, Any]]
    build: Callable[[Path, Teacher, "TeacherImages"], "Description"]
    whole_views: bool = False
    title: Callable[[str], str] = file_name


def refuse_fields(teacher: Teacher, fields: tuple[str, ...], why: str) -> None:
    """Raises TeacherError if one of the fields is given. why: the reason, a phrase that follows the teacher's name."""
    for field in fields:
        value, default = getattr(teacher, field), getattr(Teacher(), field)
        if value != default and (field, value) != ("weights", "none"):
            raise TeacherError(f"teacher.{field}", f"must be left out: {teacher.name} {why}", value, "Leave it out.")


def check_file(teacher: Teacher, form: str) -> None:
    """Raises TeacherError unless teacher.name is a file, and teacher.classes one where it is given. form: see Kind."""
    if not Path(teacher.name).is_file():
        got = got_instead(teacher.name)
        raise TeacherError(f"teacher.name, {teacher.name}", f"must be {form}", got, "Check the path.")
    if teacher.classes is not None and not Path(teacher.classes).is_file():
        must = "must be a text file with one class name per line, in the order of the outputs"
        raise TeacherError(f"teacher.classes, {teacher.classes}", must, got_instead(teacher.classes), "Check the path.")


def network_config(teacher: Teacher, unused: set[str]) -> dict[str, Any]:
    """The fields of [teacher] that can change a network. unused: the fields that its kind never reads.

    Fields without effect at their value (all training images, no fine-tuning) are left out, with those that depend on
    them. teacher.dtype belongs to the transfer step.
    """
    unused = unused | {"dtype"}
    unused |= {name for name in OF_A_FILE if getattr(teacher, name) is None}
    if teacher.train_fraction == 1:
        unused.add("train_fraction")
    if not teacher.fine_tune_epochs:
        unused.add("fine_tune_learning_rate")
    config = {name: getattr(teacher, name) for name in teacher.__struct_fields__ if name not in unused}
    trained_from_scratch = "epochs" in config
    if not (trained_from_scratch or teacher.fine_tune_epochs or "train_fraction" in config):
        config["seed"] = 0  # without effect
    return config
