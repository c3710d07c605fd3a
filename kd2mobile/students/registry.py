"""The students by name, and the one way to build one. Loads no framework until something is built."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from kd2mobile.errors import RecipeError, WeightsError
from kd2mobile.registry import Registry
from kd2mobile.students import mlp, mnist_cnn, mobilenet, mobilenetv2, mobilenetv3, small_cnn, squeezenet
from kd2mobile.students.weights import BodyWeights, read_body


@dataclass(frozen=True)
class Student:
    """A small model: a body that a weights file can fill and a head for the user's classes.

    smallest_px, largest_px: sides of the smallest and the largest square input that the body can take; None where
        nothing but a recipe's own bound is the limit.
    build: (keras, input_px, classes) or (keras, input_px, classes, dropout) to a model of the entry's name. `keras` is
        the module to build with: keras, or tf_keras where a tool needs it. Every layer is named, so that weights carry
        over by name between the two. Input "pixels" float32 [batch, input_px, input_px, 3], RGB in [-1, 1]; output
        logits float32 [batch, classes]; nothing of the preprocessing is in the graph, which is flat: no nested models.
    body_end: name of the body's last layer; what comes after it is the head.
    download: the body's ImageNet weights, given the model, or WeightsError naming the file to give instead; None where
        Keras has none. without_download: what to do then, in whole sentences.
    fold: rewrites published weights, in place, for pixels in [-1, 1]; None where they were trained on such pixels.
    """

    smallest_px: int
    build: Callable[..., Any]
    body_end: str
    download: Callable[[Any], BodyWeights] | None = None
    without_download: str = "Train it from scratch with `--student-weights none`: it has no ImageNet weights."
    fold: Callable[[BodyWeights], None] | None = None
    largest_px: int | None = None

    def load_body(self, model: Any, weights: str) -> None:
        """Fills the model's body and leaves its head as it is.

        weights: "imagenet" (Keras's own download), "none" (nothing is loaded), or a Keras weights file, with its top
            or without: `.weights.h5`, the older HDF5 layouts, or a `.keras` model. Layers are found by name, and what
            the published weights want of their pixels is folded into the first convolution (see `fold`); a file
            whose input layer is called "pixels" comes from one of these students and is taken as it is.

        Raises WeightsError if the file is missing, is no Keras weights file or does not fit, or if the download
        fails; the model's body may then be partly filled.
        """
        if weights == "none":
            return
        body = body_layers(model, self.body_end)
        expected = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in body if layer.weights}
        if weights == "imagenet":
            stored, from_student = self.check_download(model.name)(model), False
        else:
            stored, from_student = read_body(weights, expected, _student_in_words(model, body))
        if self.fold and not from_student:
            self.fold(stored)
        for name, arrays in stored.items():
            model.get_layer(name).set_weights(arrays)

    def check_download(self, name: str) -> Callable[[Any], BodyWeights]:
        """`download`, or WeightsError where there is none. name: the student's, for the message."""
        if self.download is None:
            must = "must be `none` or a file, because Keras has no such weights"
            raise WeightsError(f"{name}, ImageNet weights", must, "imagenet", self.without_download)
        return self.download


STUDENTS: Registry[Student] = Registry("students")

for _alpha in mobilenet.ALPHAS:
    STUDENTS.register(f"mobilenet{round(100 * _alpha):03}", f"MobileNet v1, width {_alpha}")(
        Student(
            smallest_px=32,
            build=partial(mobilenet.build, alpha=_alpha),
            body_end="conv_pw_13_relu",
            download=partial(mobilenet.download, alpha=_alpha),
        )
    )
for _alpha in mobilenetv2.ALPHAS:
    STUDENTS.register(f"mobilenetv2_{round(100 * _alpha):03}", f"MobileNet v2, width {_alpha}")(
        Student(
            smallest_px=32,
            build=partial(mobilenetv2.build, alpha=_alpha),
            body_end="out_relu",
            download=partial(mobilenetv2.download, alpha=_alpha),
        )
    )
STUDENTS.register("mobilenetv3_small", "MobileNet v3-small")(
    Student(
        smallest_px=32,
        build=mobilenetv3.build,
        body_end="conv_1_swish",
        download=mobilenetv3.download,
    )
)
STUDENTS.register(
    "squeezenet",
    "SqueezeNet v1.1, for learning rates near 3e-4; ImageNet weights only from a file (DeepCognition/keras-squeezenet)",
)(
    Student(
        smallest_px=31,
        build=squeezenet.build,
        body_end="fire9_concat",
        without_download=squeezenet.WITHOUT_DOWNLOAD,
        fold=squeezenet.fold_caffe_preprocessing,
    )
)
STUDENTS.register("small_cnn", "three blocks of convolution, for tiny images; no ImageNet weights")(
    Student(
        smallest_px=8,
        build=small_cnn.build,
        body_end="block3_pool",
    )
)
STUDENTS.register("mnist_cnn", "the CNN of Keras's MNIST example, for small grey images; no ImageNet weights")(
    Student(
        smallest_px=6,
        build=mnist_cnn.build,
        body_end="dense_relu",
    )
)


@STUDENTS.register_family(mlp.FORM, "dense layers of any width, such as mlp-800-400-200; no ImageNet weights")
def _mlp(name: str) -> Student | None:
    widths = mlp.widths_of(name)
    if widths is None:
        return None
    return Student(
        smallest_px=mlp.SMALLEST_PX,
        largest_px=mlp.largest_px(widths),
        build=partial(mlp.build, widths=widths),
        body_end=f"dense{len(widths)}_relu",
    )


for _widths in ((800, 800), (1200, 1200), (500, 300), (128, 128)):
    _layers = " and ".join(map(str, _widths))
    STUDENTS.register(mlp.name_of(_widths), f"dense layers of {_layers}, for small grey images; no ImageNet weights")(
        _mlp(mlp.name_of(_widths))
    )


def check_student(name: str, input_px: int, weights: str) -> Student:
    """The entry of that name, checked as far as that needs no building.

    Raises UnknownNameError, RecipeError if the input is too small or too large for the body, WeightsError if ImageNet
    weights are requested for a student that has none to download.
    """
    student = STUDENTS[name]
    if input_px < student.smallest_px:
        raise RecipeError(
            "student.input_px",
            f"must be at least {student.smallest_px} for {name}",
            input_px,
            f"Use `--input-px {student.smallest_px}` or more, or another student.",
        )
    if student.largest_px is not None and input_px > student.largest_px:
        raise RecipeError(
            "student.input_px",
            f"must be at most {student.largest_px} for {name}, which would have too many weights for a .tflite",
            input_px,
            f"Use `--input-px {student.largest_px}` or less, or narrower layers.",
        )
    if weights == "imagenet":
        student.check_download(name)
    return student


def build_student(name: str, input_px: int, classes: int, weights: str, seed: int) -> Any:
    """The student of that name with its body filled and a fresh head, as a keras.Model of keras's active backend.

    input_px: side of the square input; classes: how many logits; weights: see `Student.load_body`; seed: the same
    seed draws the same head (and, without weights, the same body). It reseeds Python, NumPy and the backend.

    Raises UnknownNameError, RecipeError if the input is too small for the body, WeightsError.
    """
    student = check_student(name, input_px, weights)
    import keras

    keras.utils.set_random_seed(seed)
    model = student.build(keras, input_px, classes)
    student.load_body(model, weights)
    return model


def body_layers(model: Any, body_end: str) -> list[Any]:
    """The model's layers up to and with the one named `body_end`."""
    names = [layer.name for layer in model.layers]
    return model.layers[: names.index(body_end) + 1]


def _student_in_words(model: Any, body: list[Any]) -> str:
    """The student in words, with its input where the weights depend on that."""
    flat = any(type(layer).__name__ == "Flatten" for layer in body)
    return f"{model.name} of {model.input_shape[1]} px" if flat else model.name
