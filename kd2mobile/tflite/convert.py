"""Converts a Keras student to the bytes of a .tflite."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
import tensorflow as tf

from kd2mobile.errors import ExportError, RecipeError
from kd2mobile.inspection.layer_names import LayerNames
from kd2mobile.pixels import to_int8_input, to_student_input
from kd2mobile.recipe.schema import Export
from kd2mobile.text import did_you_mean, one_line
from kd2mobile.tflite.contract import INPUT, OUTPUT, SIGNATURE, read_graph
from kd2mobile.tflite.correction import Exact, correct, measure
from kd2mobile.tflite.results import BiasCorrection

CONVERTER = f"tensorflow {tf.__version__}"
MEAN_IMAGES = 128
"""The number of calibration images for the bias correction; more images do not change it."""
TAKES = {"int8": "scaled", "int16x8": "pixels"}
"""The input of the graph of a precision: `scaled`, float32 in [-1, 1]; `pixels`, float32 in 0..255; else `uint8`."""
_INTEGER_OPS = {
    "int8": tf.lite.OpsSet.TFLITE_BUILTINS_INT8,
    "int16x8": tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
}


def load_student(path: Path, class_count: int) -> tuple[keras.Model, int]:
    """The student and the side of its input in pixels.

    Raises ExportError if the file is no Keras model, holds code (safe_mode), or does not go from one
    [batch, px, px, 3] to [batch, class_count].
    """
    try:
        student = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as fault:  # Keras raises almost anything on a file that it did not write
        reason = one_line(f"{type(fault).__name__}: {fault}")[:300]
        raise ExportError(path, "must be a Keras model without code in it", reason, "Train it again.") from fault
    takes, gives = _shapes(student.inputs), _shapes(student.outputs)
    px = takes[0][1] if len(takes) == 1 and len(takes[0]) == 4 else None
    if px is None or takes[0][1:] != (px, px, 3) or gives != [(None, class_count)]:
        must = f"must go from [batch, px, px, 3] to the logits of {class_count} classes"
        raise ExportError(path, must, f"{takes} to {gives}", "Export it with the classes it was trained on.")
    return student, px


def layer_names(student: keras.Model) -> LayerNames:
    """The names of the student's layers, including those of nested models."""
    layers, models = [], [student]
    while models:
        inner = models.pop().layers
        models += [layer for layer in inner if isinstance(layer, keras.Model)]
        layers += [layer for layer in inner if not isinstance(layer, keras.Model)]
    weighted = (layer.name for layer in layers if hasattr(layer, "kernel"))
    return LayerNames(frozenset(layer.name for layer in layers), frozenset(weighted))


def probabilities_of(student: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """The student as a function from uint8 [batch, px, px, 3] to probabilities [batch, classes]."""
    run = tf.function(lambda pixels: _probabilities(student, pixels), reduce_retracing=True)
    return lambda pixels: run(tf.constant(to_student_input(pixels))).numpy()


def probabilities_of_graph(folder: str) -> Callable[[np.ndarray], np.ndarray]:
    """A fake-quantized SavedModel as a function from uint8 [batch, px, px, 3] to probabilities [batch, classes]."""
    run = tf.saved_model.load(folder).signatures["classify_batch"]
    return lambda pixels: run(tf.constant(to_int8_input(pixels)))[OUTPUT].numpy()


NO_OPTIONS = Export()


class Converter:
    """Converts one student to every precision. What several precisions share is computed once, when it is first needed.

    calibration: training images, uint8 [px, px, 3]. They give the ranges of the tensors for int8 and int16x8, and the
    mean inputs of the layers for the bias correction of all precisions but fp32. options: the [export] table, of which
    per_tensor and keep_float change a file. fake_quantized: a SavedModel trained with quantization, which is converted
    to int8 without calibration. keep_clusters: whether equal weights of an output stay equal in fp16.
    """

    def __init__(
        self,
        student: keras.Model,
        px: int,
        calibration: Iterable[np.ndarray],
        *,
        options: Export = NO_OPTIONS,
        fake_quantized: str | None = None,
        keep_clusters: bool = False,
    ):
        self._student, self._px, self._options = student, px, options
        self.names = layer_names(student)
        self._images, self._fake_quantized, self._keep_clusters = calibration, fake_quantized, keep_clusters
        self._float_models: dict[str, bytes] = {}
        self._measured: dict[str, list[Exact]] = {}
        self._folder = TemporaryDirectory(prefix="kd2mobile-")

    def __enter__(self) -> "Converter":
        return self

    def __exit__(self, *exc) -> None:
        self._folder.cleanup()

    def convert(self, precision: str, where: str) -> tuple[bytes, BiasCorrection | None]:
        """The model's bytes, not yet checked, and what the bias correction did, None for fp32.

        fp32, fp16 and int8_dynamic take uint8 pixels and hold the preprocessing; int8 is quantized from the graph
        that takes [-1, 1], so that the pixel itself is the quantized input. int16x8 takes the pixel as a float32 and
        holds the preprocessing: the converter has no int16x8 for a graph that takes uint8.
        Raises ExportError, naming the ops that LiteRT has no built-in for.
        """
        if precision == "int8" and self._fake_quantized:
            return self._from_fake_quantized(where), None
        if precision == "fp32":
            return self._float_model(where, "uint8"), None
        if not self._calibration:
            raise ExportError(where, "must be calibrated", "no images", "Give training images for the calibration.")
        takes = TAKES.get(precision, "uint8")
        converter = self._converter(takes)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter._experimental_disable_per_channel = self._options.per_tensor
        if precision == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        elif precision == "int8_dynamic":  # else tflite-runtime 2.14, the last for 32-bit Arm, refuses the file
            converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        else:
            converter.target_spec.supported_ops = [_INTEGER_OPS[precision]]
            converter.representative_dataset = partial(self._calibration_inputs, takes)
        if precision == "int8":
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        exact = self._exact(where, "scaled" if precision == "int8" else "uint8")
        if precision == "int8" and self._options.keep_float:
            return correct(self._int8_in_part(converter, where), exact)
        return correct(_converted(converter, where), exact, self._keep_clusters)

    def _from_fake_quantized(self, where: str) -> bytes:
        converter = tf.lite.TFLiteConverter.from_saved_model(self._fake_quantized, signature_keys=[SIGNATURE])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
        return _converted(converter, where)

    def float_model(self, where: str) -> bytes:
        """The float32 model that int8 is quantized from: [1, px, px, 3] in [-1, 1] to probabilities."""
        return self._float_model(where, "scaled")

    def _int8_in_part(self, converter: tf.lite.TFLiteConverter, where: str) -> bytes:
        """Calibrated by the converter, then quantized by the function that it and its debugger call: it alone can leave
        ops out (docs/decisions/0008-quantization.md)."""
        from tensorflow.lite.python.convert import mlir_quantize

        converter._experimental_calibrate_only = True
        calibrated = _converted(converter, where)
        graph = read_graph(calibrated, where)
        made = [graph.tensors[index].name for op in graph.ops for index in op.outputs]
        for layer in self._options.keep_float:
            if not self.names.are_among(made, [layer]):
                shown = list(dict.fromkeys(map(self.names.of, made)))
                next_step = f"{did_you_mean(layer, shown, most=3)}The layers with an op: {', '.join(shown)}."
                must = "must be layers of the student that have an op in the file"
                raise RecipeError("export.keep_float", must, repr(layer), next_step)
        kept = [tensor for tensor in made if self.names.are_among([tensor], self._options.keep_float)]
        pixels = {"input_data_type": tf.uint8, "output_data_type": tf.uint8}
        return mlir_quantize(calibrated, self._options.per_tensor, denylisted_nodes=kept, **pixels)

    @cached_property
    def _calibration(self) -> list[np.ndarray]:
        return list(self._images)

    def _calibration_inputs(self, takes: str) -> Iterator[dict[str, np.ndarray]]:
        """The images in the form of the float graph's input; before them a copy of the first with both ends of the
        pixels' range.

        Two corner pixels, one black and one white, pin the input's range to the whole [-1, 1] or 0..255 and so its
        scale, and leave the ranges further inside as they are; a black and a white image would widen them.
        """
        pinned = self._calibration[0].copy()
        pinned[0, 0], pinned[-1, -1] = 0, 255
        for image in (pinned, *self._calibration):
            yield {INPUT: (to_student_input(image) if takes == "scaled" else image.astype(np.float32))[None]}

    def _float_model(self, where: str, takes: str) -> bytes:
        if takes not in self._float_models:
            self._float_models[takes] = _converted(self._converter(takes), where)
        return self._float_models[takes]

    def _exact(self, where: str, takes: str) -> list[Exact]:
        """The float32 layers of the graph with that input, beside which the rounded ones are corrected."""
        if takes not in self._measured:
            images = self._calibration[:MEAN_IMAGES]
            inputs = images if takes == "uint8" else map(to_student_input, images)
            self._measured[takes] = measure(self._float_model(where, takes), inputs)
        return self._measured[takes]

    def _converter(self, takes: str) -> tf.lite.TFLiteConverter:
        converter = tf.lite.TFLiteConverter.from_saved_model(self._saved(takes), signature_keys=[SIGNATURE])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter

    def _saved(self, takes: str) -> str:
        folder = Path(self._folder.name) / takes
        if not folder.exists():
            dtype, shape = "uint8" if takes == "uint8" else "float32", [1, self._px, self._px, 3]

            def classify(image: tf.Tensor) -> dict[str, tf.Tensor]:
                pixels = image if takes == "scaled" else tf.cast(image, tf.float32) / 127.5 - 1.0
                return {OUTPUT: _probabilities(self._student, pixels)}

            graph = tf.function(classify, input_signature=[tf.TensorSpec(shape, dtype, INPUT)])
            module = tf.Module()
            # A Keras 3 model under a tf.Module hides its variables from the converter, which then freezes nothing.
            module.weights = [variable.value for variable in self._student.variables]
            tf.saved_model.save(module, str(folder), signatures={SIGNATURE: graph})
        return str(folder)


def _probabilities(student: keras.Model, pixels: tf.Tensor) -> tf.Tensor:
    return tf.nn.softmax(tf.cast(student(pixels, training=False), tf.float32))


def _converted(converter: tf.lite.TFLiteConverter, where: str) -> bytes:
    try:
        return converter.convert()
    except Exception as fault:  # ConverterError, and whatever the calibrator and the quantizer raise
        ops = sorted({error.operator.name for error in getattr(fault, "errors", []) if error.operator.name})
        if ops:
            next_step = "Build the student from layers that LiteRT has built-in ops for."
            raise ExportError(where, "must hold built-in LiteRT ops only", ", ".join(ops), next_step) from fault
        if narrow := re.findall(r"16x8-bit not yet supported for op: '(\w+)'", str(fault)):
            must, got = "must hold ops that LiteRT has in int16x8", ", ".join(sorted(set(narrow)))
            raise ExportError(where, must, got, "Leave int16x8 out with --precision, or those ops out.") from fault
        reason = one_line(f"{type(fault).__name__}: {fault}")[:500]
        next_step = "Change the layer in the message, or leave this precision out with --precision."
        raise ExportError(where, "must convert to LiteRT", reason, next_step) from fault


def _shapes(tensors: list) -> list[tuple]:
    return [tuple(tensor.shape) for tensor in tensors]
