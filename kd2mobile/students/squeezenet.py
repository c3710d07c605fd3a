"""SqueezeNet v1.1 (Iandola et al. 2016, arXiv:1602.07360, and the authors' v1.1 of the same year)."""

from typing import Any

from kd2mobile.students.weights import BodyWeights

CAFFE_MEANS_BGR = (103.939, 116.779, 123.68)
FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}
"""Filters of each fire module: those of the squeeze layer, and of each of the two expand layers."""
PUBLISHED_FILE = "squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"
WITHOUT_DOWNLOAD = (
    f"Give `--student-weights FILE` with {PUBLISHED_FILE} of DeepCognition/keras-squeezenet, or train from scratch "
    "with `--student-weights none`."
)


def build(keras: Any, input_px: int, classes: int, dropout: float = 0.5) -> Any:
    """SqueezeNet v1.1: conv1, eight fire modules, dropout, conv10 with one filter per class, average pool to logits.

    Padding is valid in conv1 and in the 3x3/2 max pools after conv1, fire3 and fire5, as the published weights
    expect. conv10 is drawn with standard deviation 0.01, as published. One departure: the published net has a ReLU
    after conv10, which keeps every logit at or above zero and gives a class whose map is all negative no gradient;
    a student that is to match its teacher's logits must be able to go below zero, so it is left out. It holds no
    weights, so published weights still fit.

    keras: the module to build with. input_px: at least 31. Returns a model that takes "pixels", float32
    [batch, input_px, input_px, 3] in [-1, 1], and gives logits, float32 [batch, classes].
    """
    layers = keras.layers

    def convolution(x, filters, size, name, **options):
        x = layers.Conv2D(filters, size, name=name, **options)(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    x = pixels = layers.Input((input_px, input_px, 3), name="pixels")
    x = convolution(x, 64, 3, "conv1", strides=2)
    x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
    for i, (squeeze, expand) in FIRES.items():
        x = convolution(x, squeeze, 1, f"fire{i}_squeeze1x1")
        left = convolution(x, expand, 1, f"fire{i}_expand1x1")
        right = convolution(x, expand, 3, f"fire{i}_expand3x3", padding="same")
        x = layers.Concatenate(name=f"fire{i}_concat")([left, right])
        if i in (3, 5):
            x = layers.MaxPooling2D(3, strides=2, name=f"pool{i}")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    narrow = keras.initializers.RandomNormal(stddev=0.01)
    x = layers.Conv2D(classes, 1, name="conv10", kernel_initializer=narrow)(x)
    logits = layers.GlobalAveragePooling2D(name="logits")(x)
    return keras.Model(pixels, logits, name="squeezenet")


def fold_caffe_preprocessing(body: BodyWeights) -> None:
    """Rewrites conv1, in place, from Caffe's pixels (BGR in 0..255 less the means) to RGB in [-1, 1].

    With x = rgb / 127.5 - 1 the old input was 127.5 * x + 127.5 - mean in reversed channel order, which is linear,
    and conv1 has no padding whose zeros would mean something else afterwards: so the fold is exact up to rounding.
    """
    import numpy as np

    kernel, bias = (array.astype(np.float64) for array in body["conv1"])
    constant = 127.5 - np.array(CAFFE_MEANS_BGR)
    folded_bias = bias + np.einsum("hwio,i->o", kernel, constant)
    body["conv1"] = [(127.5 * kernel[:, :, ::-1]).astype(np.float32), folded_bias.astype(np.float32)]
