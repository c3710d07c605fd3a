import keras
import numpy as np
import pytest

from kd2mobile.inspection.layer_names import LayerNames
from kd2mobile.tflite.convert import layer_names

NAMES = LayerNames(frozenset(["conv", "conv_1", "conv_bn", "add", "relu"]), frozenset(["conv", "conv_1"]))


@pytest.mark.parametrize(
    "tensor, within, shown",
    [
        (
            "net_1/relu_1/Relu6;net_1/conv_bn_1/batchnorm/add_1;net_1/conv_1/convolution",
            ["relu", "conv_bn", "conv"],
            "conv",
        ),
        ("net_1/conv_1_1/convolution", ["conv_1"], "conv_1"),
        ("net_1/conv_1_2/convolution", ["conv_1"], "conv_1"),
        ("net_1/conv_bn_1/batchnorm/add_1", ["conv_bn"], "conv_bn"),
        ("net/block_1/add/add", ["add"], "add"),
        ("net/quant_conv/Conv2D", ["conv"], "conv"),
        ("StatefulPartitionedCall:01", [], "probabilities"),
        ("conv_1;conv", [], "conv_1"),
        ("net_1/Sin", [], "net_1/Sin"),
    ],
)
def test_a_tensor_is_named_after_its_layers(tensor, within, shown):
    assert NAMES.within(tensor) == within and NAMES.of(tensor) == shown


def test_an_op_goes_by_each_of_its_names():
    tensors = ["net_1/relu_1/Relu6;net_1/conv_1/convolution"]
    assert NAMES.are_among(tensors, ["relu"]) and NAMES.are_among(tensors, ["conv"])
    assert not NAMES.are_among(tensors, ["conv_1"]) and not NAMES.are_among(tensors, [])


def test_layers_inside_a_model_are_named_and_the_model_is_not():
    inner = keras.Sequential([keras.layers.Dense(2, name="dense"), keras.layers.ReLU(name="relu")], name="inner")
    outer = keras.Sequential([inner, keras.layers.Dense(2, name="head")], name="outer")
    outer(np.zeros((1, 3)))
    assert layer_names(outer) == (frozenset(["dense", "relu", "head"]), frozenset(["dense", "head"]))
