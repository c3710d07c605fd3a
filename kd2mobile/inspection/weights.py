"""Counts, in the bytes of a .tflite, the zeros and the distinct values of its weights."""

import math

import msgspec
import numpy as np

from kd2mobile.inspection.graph import Graph, Model, Tensor

WITH_WEIGHTS = ("CONV_2D", "FULLY_CONNECTED")
"""The ops whose weights are pruned and clustered. The weights are the second input; its first axis is the outputs."""
DTYPES = {"float32": "<f4", "float16": "<f2", "int8": "i1", "uint8": "u1", "int16": "<i2"}
"""Those whose values are whole bytes."""


class Weights(msgspec.Struct, frozen=True):
    """The stored weights of `layers` convolutions and dense layers, without depthwise convolutions.

    zeros: the fraction of weights that stand for 0. clusters: the largest number of distinct values in a layer;
    clusters_of_output: in one output of a layer, because a folded BatchNormalization gives each output values of its
    own.
    """

    layers: int
    zeros: float
    clusters: int
    clusters_of_output: int


def count_weights(data: bytes, model: Model) -> Weights | None:
    """Counts the weights of all graphs; None if there are none of a type that can be counted.

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
