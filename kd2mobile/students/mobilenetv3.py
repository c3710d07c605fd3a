"""MobileNet v3-small (Howard et al. 2019, arXiv:1905.02244, table 2), in layers that other tools can take apart.

keras.applications has the same net with operators on tensors in it (`x + 3`) and a hard-swish in one piece; tools that
rewrite a model layer by layer refuse those. Here each step is a layer with a name. Layers with weights are called as in
keras.applications, so its weights fit by name.
"""

from typing import Any, NamedTuple

from kd2mobile.students.weights import BodyWeights, download_body

PUBLISHED_PX = 224
PUBLISHED_FILE = "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"


class Block(NamedTuple):
    """An inverted residual block. kernel: side of the depthwise one; expanded, filters: channels inside and after it;
    squeezed: channels between the two layers of squeeze-and-excite, 0 without it; swish: hard-swish, else ReLU."""

    kernel: int
    expanded: int
    filters: int
    squeezed: int
    swish: bool
    strides: int


BLOCKS = (
    Block(3, 16, 16, 8, False, 2),
    Block(3, 72, 24, 0, False, 2),
    Block(3, 88, 24, 0, False, 1),
    Block(5, 96, 40, 24, True, 2),
    Block(5, 240, 40, 64, True, 1),
    Block(5, 240, 40, 64, True, 1),
    Block(5, 120, 48, 32, True, 1),
    Block(5, 144, 48, 40, True, 1),
    Block(5, 288, 96, 72, True, 2),
    Block(5, 576, 96, 144, True, 1),
    Block(5, 576, 96, 144, True, 1),
)
LAST_CONVOLUTION, HIDDEN = 576, 1024


def build(keras: Any, input_px: int, classes: int, dropout: float = 0.2) -> Any:
    """MobileNet v3-small: body, average pool, the published hidden layer of 1024, dropout, a dense layer of logits.

    The hidden layer is part of the head: keras.applications' weights without top do not have it.

    keras: the module to build with. input_px: at least 32. Returns a model that takes "pixels", float32
    [batch, input_px, input_px, 3] in [-1, 1], and gives logits, float32 [batch, classes].
    """
    layers = keras.layers
    x = pixels = layers.Input((input_px, input_px, 3), name="pixels")
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = _activated(layers, _normalized(layers, x, "conv"), "conv", swish=True)
    for i, block in enumerate(BLOCKS):
        x = _inverted_residual(layers, x, block, "expanded_conv" if i == 0 else f"expanded_conv_{i}")
    x = layers.Conv2D(LAST_CONVOLUTION, 1, use_bias=False, name="conv_1")(x)
    x = _activated(layers, _normalized(layers, x, "conv_1"), "conv_1", swish=True)
    x = layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = _activated(layers, layers.Conv2D(HIDDEN, 1, name="conv_2")(x), "conv_2", swish=True)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    logits = layers.Dense(classes, name="logits")(x)
    return keras.Model(pixels, logits, name="mobilenetv3_small")


def download(model: Any) -> BodyWeights:
    """The ImageNet weights of the body, from Keras's own download (or its cache, `~/.keras/models`).

    They exist for inputs of 224 pixels; any other size gets those. Keras's own body scales pixels of 0..255 to [-1, 1]
    before its first layer, as a student takes them. Raises WeightsError that names the file.
    """
    import keras

    shape = (PUBLISHED_PX, PUBLISHED_PX, 3)
    return download_body(
        model.name,
        PUBLISHED_FILE,
        lambda: keras.applications.MobileNetV3Small(shape, include_top=False, weights="imagenet"),
    )


def _inverted_residual(layers: Any, x: Any, block: Block, name: str) -> Any:
    shortcut, filters = x, x.shape[-1]
    if block.expanded != filters:
        x = layers.Conv2D(block.expanded, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _activated(layers, _normalized(layers, x, f"{name}_expand"), f"{name}_expand", block.swish)
    x = layers.DepthwiseConv2D(
        block.kernel, strides=block.strides, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = _activated(layers, _normalized(layers, x, f"{name}_depthwise"), f"{name}_depthwise", block.swish)
    if block.squeezed:
        x = _squeeze_and_excite(layers, x, block, f"{name}_squeeze_excite")
    x = layers.Conv2D(block.filters, 1, use_bias=False, name=f"{name}_project")(x)
    x = _normalized(layers, x, f"{name}_project")
    return layers.Add(name=f"{name}_add")([shortcut, x]) if (block.strides, block.filters) == (1, filters) else x


def _squeeze_and_excite(layers: Any, x: Any, block: Block, name: str) -> Any:
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_avg_pool")(x)
    gate = layers.ReLU(name=f"{name}_relu")(layers.Conv2D(block.squeezed, 1, name=f"{name}_conv")(gate))
    gate = layers.Conv2D(block.expanded, 1, name=f"{name}_conv_1")(gate)
    return layers.Multiply(name=f"{name}_mul")([x, _hard_sigmoid(layers, gate, name)])


def _normalized(layers: Any, x: Any, name: str) -> Any:
    return layers.BatchNormalization(epsilon=1e-3, momentum=0.999, name=f"{name}_bn")(x)


def _activated(layers: Any, x: Any, name: str, swish: bool) -> Any:
    """hard-swish(x) = x * hard-sigmoid(x), or ReLU. LiteRT's converter makes one HARD_SWISH of these layers."""
    if swish:
        return layers.Multiply(name=f"{name}_swish")([x, _hard_sigmoid(layers, x, name)])
    return layers.ReLU(name=f"{name}_relu")(x)


def _hard_sigmoid(layers: Any, x: Any, name: str) -> Any:
    """min(max(x + 3, 0), 6) / 6."""
    x = layers.Rescaling(1.0, offset=3.0, name=f"{name}_plus_3")(x)
    return layers.Rescaling(1 / 6, name=f"{name}_sixth")(layers.ReLU(6.0, name=f"{name}_relu6")(x))
