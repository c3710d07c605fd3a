"""The layers with weights in a .tflite's bytes, open for editing in place."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from kd2mobile.inspection.graph import Geometry, Tensor, read_model

CONV, DEPTHWISE, DENSE = "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"
_DTYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "int64": "<i8", "int8": "i1"}


class Layer(NamedTuple):
    """One convolution or dense layer.

    kind: CONV, DEPTHWISE or DENSE. input: the tensor that it takes; input_scale: of that, 1 unless quantized.
    weights, bias: views into the file's bytes; bias is None if there is none, or if another layer reads the same one.
    scale: turns the stored weights into real ones, broadcastable to them. strides, dilations: (down, across);
    same: whether the border is padded with zeros, as TensorFlow's SAME.
    """

    kind: str
    input: int
    input_scale: float
    weights: np.ndarray
    bias: np.ndarray | None
    scale: np.ndarray
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    same: bool = False

    @property
    def real_weights(self) -> np.ndarray:
        """The weights as the layer multiplies with them, float64: convolution [out, height, width, in], depthwise
        [1, height, width, out], dense [out, in]."""
        return self.weights.astype(np.float64) * self.scale

    def by_output(self, values: np.ndarray) -> np.ndarray:
        """Values of the weights' shape as [out, the others]."""
        return np.moveaxis(values, 3 if self.kind == DEPTHWISE else 0, 0).reshape(self.outputs, -1)

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.weights.shape[3 if self.kind == DEPTHWISE else 0]


def read_layers(model: bytearray) -> list[Layer]:
    """The layers whose weights are constants, in the order of the ops. float16 weights are read through their
    DEQUANTIZE."""
    graph = read_model(bytes(model)).graphs[0]
    packed = {op.outputs[0]: op.inputs[0] for op in graph.ops if op.name == "DEQUANTIZE"}
    read: list[tuple[Layer, tuple[int, int] | None]] = []
    for op in graph.ops:
        if op.name not in (CONV, DEPTHWISE, DENSE):
            continue
        _, weights, *bias = (graph.tensors[packed.get(index, index)] for index in op.inputs)
        if not weights.constant:
            continue
        geometry = op.geometry or Geometry()
        layer = Layer(
            op.name,
            op.inputs[0],
            float(_scale(graph.tensors[op.inputs[0]]).reshape(-1)[0]),
            _view(model, weights),
            _view(model, bias[0]) if bias else None,
            _scale(weights),
            *geometry,
        )
        read.append((layer, bias[0].span if bias else None))
    readers = Counter(span for _, span in read)
    return [layer if readers[span] == 1 else layer._replace(bias=None) for layer, span in read]


def _view(model: bytearray, tensor: Tensor) -> np.ndarray:
    first, size = tensor.span
    dtype = np.dtype(_DTYPES[tensor.dtype])
    return np.frombuffer(model, dtype, size // dtype.itemsize, first).reshape(tensor.shape)


def _scale(tensor: Tensor) -> np.ndarray:
    """The tensor's scale, broadcastable to it; 1 where it has none."""
    if not tensor.scales:
        return np.ones(1)
    scale = np.array(tensor.scales, np.float64)
    if len(scale) == 1:
        return scale
    shape = [1] * len(tensor.shape)
    shape[tensor.axis] = len(scale)
    return scale.reshape(shape)
