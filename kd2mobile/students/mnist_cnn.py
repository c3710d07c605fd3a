"""The convolutional net of the well-known Keras example for MNIST: 1,199,882 weights on 28 px and 10 classes."""

from typing import Any

from kd2mobile.students.grey import grey


def build(keras: Any, input_px: int, classes: int, dropout: float = 0.5) -> Any:
    """The mean of the three channels, two 3x3 convolutions, 2x2 max pool, dropout of a half of `dropout`, a dense layer
    of 128, dropout, logits.

    keras: the module to build with. input_px: at least 6. Returns a model that takes "pixels", float32
    [batch, input_px, input_px, 3] in [-1, 1], and gives logits, float32 [batch, classes].
    """
    layers = keras.layers
    pixels = layers.Input((input_px, input_px, 3), name="pixels")
    x = grey(layers, pixels, input_px)
    for i, filters in enumerate((32, 64), start=1):
        x = layers.Conv2D(filters, 3, name=f"conv{i}")(x)
        x = layers.ReLU(name=f"conv{i}_relu")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Dropout(dropout / 2, name="pool_dropout")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(128, name="dense")(x)
    x = layers.ReLU(name="dense_relu")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(pixels, logits, name="mnist_cnn")
