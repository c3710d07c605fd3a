"""A teacher that Keras knows: a classifier of keras.applications, filled with weights or trained from scratch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd2mobile.errors import TeacherError
from kd2mobile.recipe.compose import weights_file
from kd2mobile.recipe.content import weights_content
from kd2mobile.recipe.schema import Teacher
from kd2mobile.teachers.imagenet import imagenet_numbers
from kd2mobile.teachers.kinds.kind import OF_A_FILE, Kind, network_config, refuse_fields
from kd2mobile.teachers.zoo import TEACHERS, check_px

if TYPE_CHECKING:
    from kd2mobile.teachers.reading import TeacherImages
    from kd2mobile.teachers.results import Description

OTHER_MODELS = (".pt", ".pth", ".onnx", ".pb", ".tflite", ".safetensors", ".pkl", ".npy")


def _check(teacher: Teacher) -> None:
    if teacher.name not in TEACHERS:
        _refuse_other_file(teacher.name)
    architecture = TEACHERS[teacher.name]
    check_px(architecture, teacher.input_px or architecture.px)
    refuse_fields(teacher, OF_A_FILE, "is a network of Keras with known pixels and classes")
    weights_file("teacher.weights", teacher.weights)


def _config(teacher: Teacher, classes: list[str]) -> dict[str, Any]:
    from_scratch = teacher.weights == "none"
    unused = {"fine_tune_epochs", "fine_tune_learning_rate"} if from_scratch else {"epochs", "learning_rate"}
    config = network_config(teacher, unused) | {
        "weights": weights_content("teacher.weights", teacher.weights),
        "input_px": teacher.input_px or TEACHERS[teacher.name].px,
    }
    if not from_scratch and imagenet_numbers(classes) is not None:
        config["imagenet_classes"] = True  # its own head is used
    return config


def _build(folder: Path, teacher: Teacher, images: "TeacherImages") -> "Description":
    from kd2mobile.teachers import training

    return training.make_teacher(folder, teacher, images)


def _refuse_other_file(name: str) -> None:
    path = Path(name)
    where = f"teacher.name, {name}"
    if (path / "saved_model.pb").is_file():
        line = f"import tf_keras; tf_keras.models.load_model({name!r}).save('teacher.h5')"
        raise TeacherError(
            where,
            "must be a .keras or .h5 file, for Keras 3 does not read a SavedModel",
            "a SavedModel folder",
            f'If Keras 2 wrote it, convert it: `python -m pip install tf_keras`, then `python -c "{line}"`. '
            "If not, give its logits: see docs/how-to/own-teacher.md.",
        )
    if path.suffix in OTHER_MODELS or path.exists():
        from kd2mobile.teachers.kinds import KINDS  # here: the zoo is one of them

        raise TeacherError(
            where,
            f"must be {' or '.join(kind.form for kind in reversed(KINDS))}",
            "a folder" if path.is_dir() else f"a {path.suffix} file" if path.suffix else "another file",
            "Save the model with Keras as `model.save('teacher.keras')`, or give its logits: see "
            "docs/how-to/own-teacher.md.",
        )


ZOO = Kind(
    "a name of `kd2mobile list teachers`", "a network of keras.applications", lambda name: True, _check, _config, _build
)
