"""The layers with weights in a .tflite's bytes, open for editing in place."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

CONV, DEPTHWISE, DENSE = (
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
)
_OPTIONS = {CONV: schema.Conv2DOptions, DEPTHWISE: schema.DepthwiseConv2DOptions}
_DTYPES = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT32: np.dtype("<i4"),
    schema.TensorType.INT64: np.dtype("<i8"),
    schema.TensorType.INT8: np.dtype("i1"),
}


class Layer(NamedTuple):
    """One convolution or dense layer.

    kind: CONV, DEPTHWISE or DENSE. input: the tensor that it takes; input_scale: of that, 1 unless quantized.
    weights, bias: views into the file's bytes; bias is None if there is none, or if another layer reads the same one.
    scale: turns the stored weights into real ones, broadcastable to them. strides, dilations: (down, across);
    same: whether the border is padded with zeros, as TensorFlow's SAME.
    """

    kind: int
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
    """The layers whose weights are constants, in the order of the ops. float16 weights are found behind DEQUANTIZE."""
    stored = schema.Model.GetRootAs(model, 0)
    graph = stored.Subgraphs(0)
    ops = [graph.Operators(index) for index in range(graph.OperatorsLength())]
    kinds = [stored.OperatorCodes(op.OpcodeIndex()).BuiltinCode() for op in ops]
    packed = {
        op.Outputs(0): op.Inputs(0)
        for op, kind in zip(ops, kinds, strict=True)
        if kind == schema.BuiltinOperator.DEQUANTIZE
    }
    read: list[tuple[Layer, int | None]] = []
    for op, kind in zip(ops, kinds, strict=True):
        if kind not in (CONV, DEPTHWISE, DENSE):
            continue
        weights = graph.Tensors(packed.get(op.Inputs(1), op.Inputs(1)))
        if not stored.Buffers(weights.Buffer()).DataLength():
            continue
        bias = op.Inputs(2) if op.InputsLength() > 2 else -1
        bias_tensor = graph.Tensors(packed.get(bias, bias)) if bias >= 0 else None
        layer = Layer(
            kind,
            op.Inputs(0),
            float(_scale(graph.Tensors(op.Inputs(0))).reshape(-1)[0]),
            _view(stored, weights),
            None if bias_tensor is None else _view(stored, bias_tensor),
            _scale(weights),
            **_geometry(op, kind),
        )
        read.append((layer, None if bias_tensor is None else bias_tensor.Buffer()))
    readers = Counter(buffer for _, buffer in read)
    return [layer if readers[buffer] == 1 else layer._replace(bias=None) for layer, buffer in read]


def _geometry(op: schema.Operator, kind: int) -> dict:
    if kind == DENSE:
        return {}
    options, table = _OPTIONS[kind](), op.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return {
        "strides": (options.StrideH(), options.StrideW()),
        "dilations": (options.DilationHFactor(), options.DilationWFactor()),
        "same": options.Padding() == schema.Padding.SAME,
    }


def _view(stored: schema.Model, tensor: schema.Tensor) -> np.ndarray:
    data = stored.Buffers(tensor.Buffer()).DataAsNumpy()
    return data.view(_DTYPES[tensor.Type()]).reshape(tensor.ShapeAsNumpy())


def _scale(tensor: schema.Tensor) -> np.ndarray:
    """The tensor's scale, broadcastable to it; 1 where it has none."""
    quantization = tensor.Quantization()
    if quantization is None or not quantization.ScaleLength():
        return np.ones(1)
    scale = quantization.ScaleAsNumpy().astype(np.float64)
    if len(scale) == 1:
        return scale
    shape = [1] * tensor.ShapeLength()
    shape[quantization.QuantizedDimension()] = len(scale)
    return scale.reshape(shape)
