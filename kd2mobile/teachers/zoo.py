"""The classifiers of keras.applications by their lower-case names. A table: listing it loads no framework."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kd2mobile.errors import TeacherError
from kd2mobile.registry import Registry

if TYPE_CHECKING:
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
    preprocess: "Mode"


TEACHERS: Registry[Architecture] = Registry("teachers")


def _add(preprocess: "Mode", smallest_px: int, **px_by_name: int) -> None:
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
    """Raises TeacherError if the network cannot take images of that side."""
    if px < architecture.smallest_px:
        must = f"must be at least {architecture.smallest_px} for {architecture.keras_name}"
        raise TeacherError("teacher.input_px", must, px, f"Use {architecture.px}, its own.")
