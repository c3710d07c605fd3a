"""MobileNet v2 (Sandler et al. 2018, arXiv:1801.04381), with the body as keras.applications writes it."""

from typing import Any

from kd2mobile.students.weights import BodyWeights, download_body

ALPHAS = (0.35, 0.5, 1.0)
PUBLISHED_PX = (96, 128, 160, 192, 224)


def build(keras: Any, input_px: int, classes: int, dropout: float = 0.2, *, alpha: float) -> Any:
    """MobileNet v2 of width `alpha`: body, average pool, dropout (the authors' own 0.2), a dense layer of logits.

    keras: the module to build with. input_px: at least 32. Returns a model that takes "pixels", float32
    [batch, input_px, input_px, 3] in [-1, 1], and gives logits, float32 [batch, classes].
    """
    pixels = keras.layers.Input((input_px, input_px, 3), name="pixels")
    body = keras.applications.MobileNetV2(
        input_shape=(input_px, input_px, 3), alpha=alpha, include_top=False, weights=None, input_tensor=pixels
    )
    x = keras.layers.GlobalAveragePooling2D(name="pool")(body.output)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(classes, name="logits")(x)
    return keras.Model(pixels, logits, name=f"mobilenetv2_{round(100 * alpha):03}")


def download(model: Any, *, alpha: float) -> BodyWeights:
    """The ImageNet weights of the body, from Keras's own download (or its cache, `~/.keras/models`).

    They exist for inputs of 96, 128, 160, 192 and 224 pixels; any other size gets those of 224. Raises WeightsError
    that names the file.
    """
    import keras

    input_px = model.input_shape[1]
    published_px = input_px if input_px in PUBLISHED_PX else 224
    file = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{published_px}_no_top.h5"
    shape = (published_px, published_px, 3)
    return download_body(
        model.name,
        file,
        lambda: keras.applications.MobileNetV2(shape, alpha=alpha, include_top=False, weights="imagenet"),
    )
