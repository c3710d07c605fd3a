"""What a kind of teacher says of itself, and what several kinds check alike."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd2mobile.errors import TeacherError
from kd2mobile.recipe.schema import Teacher

if TYPE_CHECKING:
    from kd2mobile.teachers.reading import TeacherImages

    pass

DESCRIPTION = "teacher.json"
"""What each teacher's artifact holds; beside the user's own model it may say classes, preprocessing and output."""
OF_A_FILE = ("preprocess", "classes", "output")
"""The fields of a recipe's teacher that say what someone else's model file does not."""


def file_name(name: str) -> str:
    """`mine.keras` of `models/mine.keras`; a name without folders is itself."""
    return Path(name).name


@dataclass(frozen=True)
class Kind:
    """One way to have a teacher. All that is particular to it stands here; nothing else asks which kind it is.

    form: what is typed for it, in words: `an .npz file`. summary: one line about it, for `kd2mobile list teachers`.
    matches: whether a recipe's teacher.name is of this kind, whether or not a file is there.
    check: raises TeacherError, UnknownNameError or WeightsError for what can be refused before anything is built and
    without a framework.
    config: what of the table can change the teacher, for its step's fingerprint; a file stands as its content. Takes
    the table and the user's classes.
    build: fills a step's folder with teacher.json, its `classes`, `name` and `val` in it, and with either teacher.keras
    (a network, labelled view by view) or logits.npz (logits as `teachers.logits` reads them); returns the results.
    Takes the folder, the table and the images. Keras is loaded when it is called.
    whole_views: whether it answers for whole images alone, one view of each.
    title: what the report calls the teacher of that name.
    """

    form: str
    summary: str
    matches: Callable[[str], bool]
    check: Callable[[Teacher], None]
    config: Callable[[Teacher, list[str]], dict[str, Any]]
    build: Callable[[Path, Teacher, "TeacherImages"], dict[str, Any]]
    whole_views: bool = False
    title: Callable[[str], str] = file_name


def refuse_fields(teacher: Teacher, fields: tuple[str, ...], why: str) -> None:
    """Raises TeacherError if one of these fields is given; why: what makes it meaningless, after the teacher's name."""
    for field in fields:
        value, default = getattr(teacher, field), getattr(Teacher(), field)
        if value != default and (field, value) != ("weights", "none"):
            raise TeacherError(f"teacher.{field}", f"must be left out: {teacher.name} {why}", value, "Leave it out.")


def check_file(teacher: Teacher, form: str) -> None:
    """Raises TeacherError unless teacher.name is a file, and teacher.classes one where it is given. form: see Kind."""
    if not Path(teacher.name).is_file():
        found = "a folder" if Path(teacher.name).is_dir() else "no such file"
        raise TeacherError(f"teacher.name, {teacher.name}", f"must be {form}", found, "Check the path.")
    if teacher.classes is not None and not Path(teacher.classes).is_file():
        must = "must be a text file with one class name per line, in the order of the outputs"
        raise TeacherError(f"teacher.classes, {teacher.classes}", must, "no such file", "Check the path.")


def network_config(teacher: Teacher, unused: set[str]) -> dict[str, Any]:
    """The fields of a network's table that can change it. unused: those that its kind never looks at.

    What has no effect at its value (all training images, no fine-tuning) is left out with what depends on it, and
    teacher.dtype is the transfer step's.
    """
    unused = unused | {"dtype"}
    unused |= {name for name in OF_A_FILE if getattr(teacher, name) is None}
    if teacher.train_fraction == 1:
        unused.add("train_fraction")
    if not teacher.fine_tune_epochs:
        unused.add("fine_tune_learning_rate")
    return {name: getattr(teacher, name) for name in teacher.__struct_fields__ if name not in unused}
