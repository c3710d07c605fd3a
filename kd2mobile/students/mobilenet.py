"""MobileNet v1 (Howard et al. 2017, arXiv:1704.04861), with the body as keras.applications writes it."""

from typing import Any

from kd2mobile.students.weights import BodyWeights, download_body

ALPHAS = (0.25, 0.5, 0.75, 1.0)
KERAS_WIDTHS = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}
"""How Keras spells the width in the names of its files."""
PUBLISHED_PX = (128, 160, 192, 224)


def build(keras: Any, input_px: int, classes: int, dropout: float = 1e-3, *, alpha: float) -> Any:
    """MobileNet v1 of width `alpha`: body, average pool, dropout (the authors' own 0.001), a dense layer of logits.

    keras: the module to build with. input_px: at least 32. Returns a model that takes "pixels", float32
    [batch, input_px, input_px, 3] in [-1, 1], and gives logits, float32 [batch, classes].
    """
    pixels = keras.layers.Input((input_px, input_px, 3), name="pixels")
    body = keras.applications.MobileNet(
        input_shape=(input_px, input_px, 3), alpha=alpha, include_top=False, weights=None, input_tensor=pixels
    )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(body.output)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(pixels, logits, name=f"mobilenet{round(100 * alpha):03}")


def download(model: Any, *, alpha: float) -> BodyWeights:
    """The ImageNet weights of the body, from Keras's own download (or its cache, `~/.keras/models`).

    They exist for inputs of 128, 160, 192 and 224 pixels; any other size gets those of 224. Raises WeightsError
    that names the file.
    """
    import keras

    input_px = model.input_shape[1]
    published_px = input_px if input_px in PUBLISHED_PX else 224
    file = f"mobilenet_{KERAS_WIDTHS[alpha]}_{published_px}_tf_no_top.h5"
    shape = (published_px, published_px, 3)
    return download_body(
        model.name,
        file,
        lambda: keras.applications.MobileNet(shape, alpha=alpha, include_top=False, weights="imagenet"),
    )
