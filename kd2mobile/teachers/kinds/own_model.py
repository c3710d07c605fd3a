"""A teacher that the user brings as a Keras model: a .keras file, or the .h5 of Keras 2."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd2mobile.recipe.content import content_of
from kd2mobile.recipe.schema import Teacher
from kd2mobile.teachers.imagenet import imagenet_numbers
from kd2mobile.teachers.kinds.kind import DESCRIPTION, Kind, check_file, network_config, refuse_fields

if TYPE_CHECKING:
    from kd2mobile.teachers.reading import TeacherImages
    from kd2mobile.teachers.results import Description

FORM = "a .keras or .h5 file"


def _matches(name: str) -> bool:
    return name.endswith((".keras", ".h5", ".hdf5"))


def _check(teacher: Teacher) -> None:
    refuse_fields(teacher, ("weights",), "has its own classes")
    check_file(teacher, FORM)


def _config(teacher: Teacher, classes: list[str]) -> dict[str, Any]:
    file = Path(teacher.name)
    config = network_config(teacher, {"weights", "epochs", "learning_rate"}) | {"name": content_of(file)}
    if teacher.classes is not None:
        config["classes"] = content_of(Path(teacher.classes))
    if imagenet_numbers(classes) is not None:
        config["imagenet_classes"] = True
    if (description := file.with_name(DESCRIPTION)).is_file():
        config["described"] = content_of(description)
    config["logits_from"] = "the history of its output"  # its last layer in an earlier version of this step
    return config


def _build(folder: Path, teacher: Teacher, images: "TeacherImages") -> "Description":
    from kd2mobile.teachers import training

    return training.make_teacher(folder, teacher, images, own_file=Path(teacher.name))


OWN_MODEL = Kind(FORM, "a Keras model of your own: docs/how-to/own-teacher.md", _matches, _check, _config, _build)
