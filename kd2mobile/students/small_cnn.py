"""A small convolutional network for tiny images: digits, icons, toys."""

from typing import Any

FILTERS = (32, 64, 128)


def build(keras: Any, input_px: int, classes: int, dropout: float = 0.2) -> Any:
    """Three blocks of 3x3 convolution, batch norm, ReLU and 2x2 max pool; average pool, dropout, logits.

    keras: the module to build with. input_px: at least 8. Returns a model that takes "pixels", float32
    [batch, input_px, input_px, 3] in [-1, 1], and gives logits, float32 [batch, classes].
    """
    layers = keras.layers
    x = pixels = layers.Input((input_px, input_px, 3), name="pixels")
    for i, filters in enumerate(FILTERS, start=1):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"block{i}_conv")(x)
        x = layers.BatchNormalization(name=f"block{i}_bn")(x)
        x = layers.ReLU(name=f"block{i}_relu")(x)
        x = layers.MaxPooling2D(2, name=f"block{i}_pool")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(pixels, logits, name="small_cnn")
