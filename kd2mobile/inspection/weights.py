"""What the weights in a .tflite are: how many are zero, how few values they share. Counted on the file's own bytes."""

import math

import msgspec
import numpy as np

from kd2mobile.inspection.graph import Graph, Model, Tensor

WITH_WEIGHTS = ("CONV_2D", "FULLY_CONNECTED")
"""The ops whose weights pruning and clustering are for; they are the second input, its first axis the outputs."""
DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1", "uint8": "u1", "int16": "<i2"}
"""Those whose values are whole bytes."""


class Weights(msgspec.Struct, frozen=True):
    """The weights of `layers` convolutions and dense layers, depthwise ones not among them, as they are stored.

    zeros: the fraction that stands for 0. clusters: the most distinct values of a layer; clusters_of_output: of one of
    its outputs: where a BatchNormalization was folded into the weights of a layer, each output has values of its own.
    """

    layers: int
    zeros: float
    clusters: int
    clusters_of_output: int


def count_weights(data: bytes, model: Model) -> Weights | None:
    """What the weights of all graphs are; None if there are none of a type that can be counted.

    data: the bytes that the model was read from.
    """
    zeros, sizes, clusters, of_output = [], [], [], []
    for graph in model.graphs:
        for tensor in _stored_weights(graph):
            stored = _values(data, tensor)
            if stored is None:
                continue
            zeros.append(int((stored == _zero(tensor)).sum()))
            sizes.append(stored.size)
            clusters.append(len(np.unique(stored)))
            ordered = np.sort(stored.reshape(len(stored), -1), axis=1)
            of_output.append(int(1 + (ordered[:, 1:] != ordered[:, :-1]).sum(axis=1).max()))
    if not sizes:
        return None
    return Weights(len(sizes), sum(zeros) / sum(sizes), max(clusters), max(of_output))


def _stored_weights(graph: Graph) -> list[Tensor]:
    """Each tensor once; float16 ones lie behind a DEQUANTIZE."""
    packed = {op.outputs[0]: op.inputs[0] for op in graph.ops if op.name == "DEQUANTIZE" and op.outputs and op.inputs}
    with_weights = {op.inputs[1] for op in graph.ops if op.name in WITH_WEIGHTS and len(op.inputs) > 1}
    return [graph.tensors[index] for index in sorted({packed.get(index, index) for index in with_weights})]


def _values(data: bytes, tensor: Tensor) -> np.ndarray | None:
    first, size = tensor.span
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None or not size or any(side < 1 for side in tensor.shape):
        return None
    count = math.prod(tensor.shape)
    if not tensor.shape or count * np.dtype(dtype).itemsize != size:
        return None
    return np.frombuffer(data, dtype, count, first).reshape(tensor.shape)


def _zero(tensor: Tensor) -> int:
    """The stored value that stands for 0; where each channel has a scale of its own, it is 0 for all."""
    return tensor.zero_points[0] if len(tensor.zero_points) == 1 else 0
