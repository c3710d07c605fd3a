"""A student as a Keras 2 model and back: the same definition built with tf_keras, weights carried by name."""

import keras
import numpy as np
import tensorflow as tf
import tf_keras

from kd2mobile.errors import CompressionError
from kd2mobile.students import STUDENTS

LARGEST_DIFFERENCE = 1e-5
"""Of a logit, relative to the largest one where that is above 1."""


def twin_of(student: keras.Model, name: str) -> tf_keras.Model:
    """The student built with tf_keras, its weights those of the student. name: in the registry of students."""
    _, px, _, _ = student.input_shape
    twin = STUDENTS[name].build(tf_keras, px, student.output_shape[-1])
    for layer in student.layers:
        twin.get_layer(layer.name).set_weights(layer.get_weights())
    return twin


def check_twin(student: keras.Model, twin: tf_keras.Model, pixels: np.ndarray) -> float:
    """The largest difference of a logit on these pixels, float32 [batch, px, px, 3] in [-1, 1].

    Raises CompressionError if it is above 1e-5 of the largest logit.
    """
    expected = np.asarray(student(pixels, training=False))
    difference = float(np.abs(twin(pixels, training=False).numpy() - expected).max())
    if not difference <= LARGEST_DIFFERENCE * max(1.0, float(np.abs(expected).max())):
        must = "must answer in Keras 2 as it does in Keras 3"
        raise CompressionError(student.name, must, f"a difference of {difference:.2g}", "Please report it.")
    return difference


def weight_names(twin: tf_keras.Model) -> dict[str, list[str]]:
    """The names of each layer's weights. To be asked before the twin is wrapped: some wrappers take it apart."""
    return {layer.name: [_own_name(weight) for weight in layer.weights] for layer in twin.layers}


def carry_back(trained: tf_keras.Model, names: dict[str, list[str]], student: keras.Model) -> None:
    """Gives the student the weights of the trained model, wrapped or not. names: of the twin, see `weight_names`."""
    trained_layers = {getattr(layer, "layer", layer).name: layer for layer in trained.layers}
    for layer in student.layers:
        weights = {_own_name(weight): weight for weight in trained_layers[layer.name].weights}
        layer.set_weights([weights[name].numpy() for name in names[layer.name]])


def _own_name(weight: tf.Variable) -> str:
    """`kernel:0`, without its layer's."""
    return weight.name.rpartition("/")[2]
