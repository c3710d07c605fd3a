"""The error of each layer by quantization: a quantized file compared, op by op, with a float file of the same student.

Both run the same images with every tensor kept, and the tensors that both have are compared. So the error at a layer
is its own and what the layers before it left of theirs. To tell the two apart the float file is run once more, cut at
these tensors: each of its layers gets what the quantized file gives that layer, and what they then differ in is the
layer's own.
"""

from collections.abc import Iterable
from copy import copy

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from flatbuffers import Builder

from kd2mobile.inspection.layer_names import LayerNames
from kd2mobile.inspection.model_schema import IDENTIFIER
from kd2mobile.pixels import to_student_input
from kd2mobile.tflite.contract import Graph, read_graph
from kd2mobile.tflite.results import LayerError

CARRIERS = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "CAST", "PAD", "SQUEEZE")
"""Ops that pass their input on; they have no line of their own."""


def layer_errors(
    model: bytes, reference: bytes, images: Iterable[np.ndarray], names: LayerNames, where: str
) -> list[LayerError]:
    """Of each op that both files have, in the order of the quantized file. Raises ExportError for a file without
    the signature.

    model: the quantized .tflite; reference: a float32 one of the same student, from uint8 pixels or from [-1, 1].
    images: uint8 [px, px, 3]. Tensors are matched by their names; where another converter gave other names, by op and
    layer, in their order, if both files have as many of them.
    """
    graphs = read_graph(model, where), read_graph(reference, where)
    pairs = _pairs(*graphs, names)
    parts, input_of = _cut(reference, list(pairs.values()))
    quantized, exact, cut = _Run(model, graphs[0]), _Run(reference, graphs[1]), _Run(parts, graphs[1])
    sums = {index: np.zeros(5) for index in pairs}
    for image in images:
        quantized.evaluate(image)
        exact.evaluate(image)
        got = {index: quantized.values(index) for index in pairs}
        cut.evaluate(image, {input_of[twin]: got[index] for index, twin in pairs.items()})
        for index, twin in pairs.items():
            true = exact.values(twin)
            all_of_it, own = got[index] - true, got[index] - cut.values(twin)
            sums[index] += true.size, true.sum(), (true**2).sum(), (all_of_it**2).sum(), (own**2).sum()
    makers = {index: op.name for op in graphs[0].ops for index in op.outputs}
    return [_error(graphs[0], makers[index], index, sums[index], names) for index in pairs if sums[index][0]]


class _Run:
    """One file with all its tensors kept."""

    def __init__(self, model: bytes, graph: Graph):
        self._interpreter = Interpreter(
            model_content=model,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        self._graph = graph

    def evaluate(self, pixels: np.ndarray, further_inputs: dict[int, np.ndarray] | None = None) -> None:
        """Runs it on one image. pixels: uint8 [px, px, 3]; further_inputs: values of other inputs by tensor index."""
        is_float = self._graph.tensors[self._graph.input].dtype == "float32"
        shown = to_student_input(pixels) if is_float else pixels
        self._interpreter.set_tensor(self._graph.input, shown[None])
        for index, values in (further_inputs or {}).items():
            self._interpreter.set_tensor(index, values.astype(np.float32))
        self._interpreter.invoke()

    def values(self, index: int) -> np.ndarray:
        """The tensor, dequantized, float64."""
        tensor, values = self._graph.tensors[index], self._interpreter.get_tensor(index).astype(np.float64)
        return values if tensor.scale is None else (values - tensor.zero_point) * tensor.scale


def _cut(model: bytes, tensors: list[int]) -> tuple[bytes, dict[int, int]]:
    """The model with its ops reading these tensors from further inputs, and the number of each one's input."""
    stored = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = stored.subgraphs[0]
    input_of = {tensor: len(graph.tensors) + number for number, tensor in enumerate(tensors)}
    for tensor in tensors:
        into = copy(graph.tensors[tensor])
        into.name = b"given;" + into.name
        graph.tensors.append(into)
    for op in graph.operators:
        op.inputs = [input_of.get(int(index), int(index)) for index in op.inputs]
    graph.inputs = [*map(int, graph.inputs), *input_of.values()]
    stored.signatureDefs = None
    builder = Builder(len(model))
    builder.Finish(stored.Pack(builder), IDENTIFIER)
    return bytes(builder.Output()), input_of


def _pairs(graph: Graph, reference: Graph, names: LayerNames) -> dict[int, int]:
    """The tensors that ops of the first graph output and that the second graph has too, by index, with the index
    there."""
    by_name = {reference.tensors[index].name: index for index in _computed(reference)}
    ours, theirs = (_by_layer(one, names) for one in (graph, reference))
    by_layer = {
        index: twin
        for name in ours.keys() & theirs.keys()
        if len(ours[name]) == len(theirs[name])
        for index, twin in zip(ours[name], theirs[name], strict=True)
    }
    twins = {index: by_name.get(graph.tensors[index].name, by_layer.get(index)) for index in _computed(graph)}
    return {
        index: twin
        for index, twin in twins.items()
        if twin is not None and reference.tensors[twin].shape == graph.tensors[index].shape
    }


def _computed(graph: Graph) -> list[int]:
    """The tensors that ops output, except carriers, in the order of the graph."""
    return [index for op in graph.ops if op.name not in CARRIERS for index in op.outputs]


def _by_layer(graph: Graph, names: LayerNames) -> dict[tuple[str, str], list[int]]:
    """The same tensors by (op, name of its layer)."""
    by_name: dict[tuple[str, str], list[int]] = {}
    for op in graph.ops:
        for index in op.outputs if op.name not in CARRIERS else ():
            by_name.setdefault((op.name, names.of(graph.tensors[index].name)), []).append(index)
    return by_name


def _error(graph: Graph, op: str, index: int, sums: np.ndarray, names: LayerNames) -> LayerError:
    tensor = graph.tensors[index]
    mean, square, noise, own = sums[1:] / sums[0]
    variance = square - mean**2
    error, own_error = (np.sqrt(n / variance) if variance > 1e-12 * square else None for n in (noise, own))
    decibels = 10 * np.log10(square / noise) if noise > 0 and square > 0 else None
    steps = np.sqrt(noise) / tensor.scale if tensor.scale else None
    numbers = (None if value is None else float(value) for value in (error, own_error, decibels, steps))
    return LayerError(names.of(tensor.name), op, tensor.dtype, *numbers)
