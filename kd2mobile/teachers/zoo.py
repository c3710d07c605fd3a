"""The classifiers of keras.applications by their lower-case names. A table: listing it loads no framework."""

from dataclasses import dataclass
from pathlib import Path

from kd2mobile.errors import TeacherError
from kd2mobile.recipe.compose import is_keras_file, is_logits_file
from kd2mobile.recipe.schema import Teacher
from kd2mobile.registry import Registry
from kd2mobile.teachers.preprocess import Mode


@dataclass(frozen=True)
class Architecture:
    """A network that Keras can build and fill with ImageNet weights.

    keras_name: the function in keras.applications; px: side of the square input that its weights were trained at;
    smallest_px: side of the smallest input without its top; preprocess: what it wants its pixels to be.
    """

    keras_name: str
    px: int
    smallest_px: int
    preprocess: Mode


OF_A_FILE = ("preprocess", "classes", "output")
"""The fields of a recipe's teacher that say what someone else's model file does not."""
OTHER_MODELS = (".pt", ".pth", ".onnx", ".pb", ".tflite", ".safetensors", ".pkl", ".npy")

TEACHERS: Registry[Architecture] = Registry("teachers")


def _add(preprocess: Mode, smallest_px: int, **px_by_name: int) -> None:
    for keras_name, px in px_by_name.items():
        entry = Architecture(keras_name, px, smallest_px, preprocess)
        TEACHERS.register(keras_name.lower(), f"keras.applications.{keras_name}, {px} px")(entry)


_add("tf", 71, Xception=299)
_add("tf", 32, MobileNet=224, MobileNetV2=224)
_add("none", 32, MobileNetV3Small=224, MobileNetV3Large=224)
_add("none", 32, EfficientNetB0=224, EfficientNetB1=240, EfficientNetB2=260, EfficientNetB3=300)
_add("none", 32, EfficientNetB4=380, EfficientNetB5=456, EfficientNetB6=528, EfficientNetB7=600)
_add("none", 32, EfficientNetV2B0=224, EfficientNetV2B1=240, EfficientNetV2B2=260, EfficientNetV2B3=300)
_add("none", 32, EfficientNetV2S=384, EfficientNetV2M=480, EfficientNetV2L=480)
_add("none", 32, ConvNeXtTiny=224, ConvNeXtSmall=224, ConvNeXtBase=224, ConvNeXtLarge=224, ConvNeXtXLarge=224)
_add("caffe", 32, ResNet50=224, ResNet101=224, ResNet152=224)
_add("tf", 32, ResNet50V2=224, ResNet101V2=224, ResNet152V2=224)
_add("torch", 32, DenseNet121=224, DenseNet169=224, DenseNet201=224)
_add("tf", 75, InceptionV3=299, InceptionResNetV2=299)
_add("tf", 32, NASNetMobile=224, NASNetLarge=331)
_add("caffe", 32, VGG16=224, VGG19=224)


def check_px(architecture: Architecture, px: int) -> None:
    """Raises TeacherError if the network cannot take pictures of that side."""
    if px < architecture.smallest_px:
        must = f"must be at least {architecture.smallest_px} for {architecture.keras_name}"
        raise TeacherError("teacher.input_px", must, px, f"Use {architecture.px}, its own.")


def check_teacher(asked: Teacher) -> None:
    """What can be said of a teacher before it is built, without a framework.

    Raises UnknownNameError, or TeacherError if its input is too small, its file is of another kind or not there, or a
    field is given that has no meaning for it.
    """
    if is_logits_file(asked.name):
        _refuse_fields(asked, ("weights", "input_px", "fine_tune_epochs", *OF_A_FILE), "holds the logits themselves")
    elif not is_keras_file(asked.name):
        if asked.name not in TEACHERS:
            _refuse_other_file(asked.name)
        architecture = TEACHERS[asked.name]
        check_px(architecture, asked.input_px or architecture.px)
        _refuse_fields(asked, OF_A_FILE, "is known to Keras, pixels and classes")
        return
    else:
        _refuse_fields(asked, ("weights",), "brings its own")
    if not Path(asked.name).is_file():
        kind = "an .npz file" if is_logits_file(asked.name) else "a .keras or .h5 file"
        found = "a folder" if Path(asked.name).is_dir() else "no such file"
        raise TeacherError(f"teacher.name, {asked.name}", f"must be {kind}", found, "Check the path.")
    if asked.classes is not None and not Path(asked.classes).is_file():
        must = "must be a text file with one class name a line, in the order of the outputs"
        raise TeacherError(f"teacher.classes, {asked.classes}", must, "no such file", "Check the path.")


def _refuse_fields(asked: Teacher, fields: tuple[str, ...], why: str) -> None:
    for field in fields:
        value, default = getattr(asked, field), getattr(Teacher(), field)
        if value != default and (field, value) != ("weights", "none"):
            raise TeacherError(f"teacher.{field}", f"must be left out: {asked.name} {why}", value, "Leave it out.")


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
        raise TeacherError(
            where,
            "must be a name of `kd2mobile list teachers`, a .keras or .h5 file, or logits as .npz",
            "a folder" if path.is_dir() else f"a {path.suffix} file" if path.suffix else "another file",
            "Save the model with Keras as `model.save('teacher.keras')`, or give its logits: see "
            "docs/how-to/own-teacher.md.",
        )
