"""One grey channel of the three, for nets that were published on grey images."""

from typing import Any


def grey(layers: Any, pixels: Any, input_px: int) -> Any:
    """The mean of red, green and blue: [batch, input_px, input_px, 3] to [batch, input_px, input_px, 1].

    It holds no weights, and quantizes. A row of px pixels of 3 values is a row of 3 px values, of which each three in
    a row are one pixel.
    """
    x = layers.Reshape((input_px, 3 * input_px, 1), name="channels")(pixels)
    return layers.AveragePooling2D((1, 3), name="grey")(x)
