"""The contract of every exported file, checked on the file itself: its ops, its tensors, its signature.

The graph is read from the bytes (`inspection/graph.py`), before any delegate of an interpreter can rewrite it.
"""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from kd2mobile.errors import ExportError
from kd2mobile.inspection.graph import Tensor as StoredTensor
from kd2mobile.inspection.graph import read_model
from kd2mobile.inspection.layer_names import NO_NAMES, LayerNames
from kd2mobile.tflite.results import TensorOfFile

SIGNATURE, INPUT, OUTPUT = "classify", "image", "probabilities"
PIXEL_SCALE = 2 / 255
"""int8's input scale: the step between two neighbouring 8-bit pixels in [-1, 1]."""
PIXEL_ZERO_POINTS = (127, 128)
"""The 8-bit pixel that stands for 0.0. The true one is 127.5, so the whole input is off by half a step, 0.004."""
PROBABILITY_SCALE = 1 / 256
INT16_PIXEL_SCALE = 255 / 32767
"""int16x8's scale of the pixels 0..255, whose zero point is 0: half of its range is never used."""

_FLOATS = ("float16", "float32", "float64", "bfloat16")


class Tensor(NamedTuple):
    """dtype: `uint8`, `float32`, ...; scale and zero_point: None unless quantized as a whole tensor.

    name: as the converter wrote it, from the layers. scales: the number of its scales, 0 for a float.
    constant: whether its numbers are in the file.
    """

    dtype: str
    shape: list[int]
    scale: float | None
    zero_point: int | None
    name: str = ""
    scales: int = 0
    constant: bool = False


class Op(NamedTuple):
    """inputs, outputs: indices into the graph's tensors."""

    name: str
    inputs: list[int]
    outputs: list[int]


class Graph(NamedTuple):
    """A .tflite's main graph. custom: names of ops that are not built in; dynamic: whether any size is open."""

    tensors: list[Tensor]
    ops: list[Op]
    input: int
    output: int
    custom: list[str]
    dynamic: bool

    def op_counts(self) -> dict[str, int]:
        """How often each op occurs, in the order of first use."""
        return dict(Counter(op.name for op in self.ops))


def read_graph(model: bytes, where: str) -> Graph:
    """The graph behind the signature `classify`. Raises ExportError if that signature or its tensors are missing."""
    try:
        stored = read_model(model)
    except ValueError as fault:
        raise ExportError(where, "must be a complete TensorFlow Lite model", fault, _REPORT) from fault
    signatures = {signature.key: signature for signature in stored.signatures}
    if list(signatures) != [SIGNATURE] or len(stored.graphs) != 1:
        got = f"{list(signatures)} and {len(stored.graphs)} graphs"
        raise ExportError(where, f"must have one signature, {SIGNATURE!r}, and one graph", got, _REPORT)
    inputs, outputs = signatures[SIGNATURE].inputs, signatures[SIGNATURE].outputs
    if list(inputs) != [INPUT] or list(outputs) != [OUTPUT]:
        got = f"{list(inputs)} to {list(outputs)}"
        raise ExportError(where, f"must have the input {INPUT!r} and the output {OUTPUT!r}", got, _REPORT)
    (graph,) = stored.graphs
    custom = list(dict.fromkeys(op.name for op in graph.ops if op.custom))
    ops = [Op(op.name, op.inputs, op.outputs) for op in graph.ops]
    dynamic = any(-1 in tensor.shape for tensor in graph.tensors)
    return Graph([_tensor(one) for one in graph.tensors], ops, inputs[INPUT], outputs[OUTPUT], custom, dynamic)


_REPORT = "The converter of this TensorFlow version behaves differently; please report it."
_FLEX = "Build the student from layers that LiteRT has built-in ops for."
_FLOAT_OPS = (
    "Build the student from layers that LiteRT quantizes, keep those layers float with --keep-float, or leave int8 "
    "out with --precision."
)
_DTYPES = {"int8": ("uint8", "uint8"), "int16x8": ("float32", "float32")}
"""The input and output types of a precision, if not uint8 and float32."""


def check_graph(
    graph: Graph,
    precision: str,
    input_px: int,
    class_count: int,
    where: str,
    names: LayerNames = NO_NAMES,
    keep_float: Collection[str] = (),
) -> None:
    """Raises ExportError unless the graph keeps the contract of its precision.

    All: built-in ops only, every size fixed, uint8 pixels [1, input_px, input_px, 3] to probabilities
    [1, class_count]. fp32, fp16, int8_dynamic: float32 probabilities. int8: the pixel is the quantized input (scale
    2/255), one QUANTIZE (uint8 to int8) stands before the first layer, no op touches a float but those of the layers in
    keep_float and what converts to and from them, the probabilities are uint8 in steps of 1/256. int16x8: float32
    pixels 0..255 to float32 probabilities, a QUANTIZE of the whole range first and a DEQUANTIZE last, no other op
    touches a float.
    """
    if graph.custom:
        raise ExportError(where, "must hold built-in LiteRT ops only", ", ".join(graph.custom), _FLEX)
    if graph.dynamic:
        raise ExportError(where, "must have a fixed size for every tensor", "an open size", _FLEX)
    pixels, probabilities = graph.tensors[graph.input], graph.tensors[graph.output]
    takes, answers = _DTYPES.get(precision, ("uint8", "float32"))
    expected = (takes, [1, input_px, input_px, 3], answers, [1, class_count])
    got = (pixels.dtype, pixels.shape, probabilities.dtype, probabilities.shape)
    if got != expected:
        raise ExportError(where, f"must go from {_ends_text(*expected)}", _ends_text(*got), _REPORT)
    if precision == "int8":
        _check_int8(graph, where, names, keep_float)
    if precision == "int16x8":
        _check_int16x8(graph, where)


def float_ops(graph: Graph) -> list[Op]:
    """The ops that read or output a float, and every CAST, in the order of the graph: there is no CAST between
    integers."""

    def floats(op: Op) -> bool:
        return op.name == "CAST" or any(graph.tensors[i].dtype in _FLOATS for i in (*op.inputs, *op.outputs))

    return [op for op in graph.ops if floats(op)]


def _check_int8(graph: Graph, where: str, names: LayerNames, keep_float: Collection[str]) -> None:
    def op_text(op: Op) -> str:
        layer = names.of(graph.tensors[op.outputs[0]].name) if op.outputs else ""
        return f"{op.name} ({layer})" if layer else op.name

    kept = [op for op in graph.ops if names.are_among((graph.tensors[i].name for i in op.outputs), keep_float)]
    reads, makes = {i for op in kept for i in op.inputs}, {i for op in kept for i in op.outputs}
    left = [
        op
        for op in float_ops(graph)
        if op not in kept
        and not (op.name == "DEQUANTIZE" and set(op.outputs) & reads)
        and not (op.name == "QUANTIZE" and set(op.inputs) & makes)
    ]
    left = [op for op in left if op.name not in ("QUANTIZE", "DEQUANTIZE")] or left
    if left:
        must = "must hold no float op" + (" except in the layers of --keep-float" if keep_float else "")
        raise ExportError(where, must, ", ".join(dict.fromkeys(map(op_text, left))), _FLOAT_OPS)
    pixels, probabilities = graph.tensors[graph.input], graph.tensors[graph.output]
    if not _close(pixels.scale, PIXEL_SCALE) or pixels.zero_point not in PIXEL_ZERO_POINTS:
        must = f"must take pixels with scale {PIXEL_SCALE:.6f} and zero point 127 or 128"
        raise ExportError(where, must, f"{pixels.scale} and {pixels.zero_point}", _REPORT)
    if not _close(probabilities.scale, PROBABILITY_SCALE) or probabilities.zero_point != 0:
        must = "must output steps of 1/256 from 0"
        raise ExportError(where, must, f"{probabilities.scale} from {probabilities.zero_point}", _REPORT)
    first = [op for op in graph.ops if graph.input in op.inputs]
    second = [op for op in graph.ops for one in first if set(one.outputs) & set(op.inputs)]
    starts = ["QUANTIZE"], *([["DEQUANTIZE"]] if kept else [])
    if [op.name for op in first] not in starts or any(op.name == "QUANTIZE" for op in second):
        got = " and ".join(op.name for op in (*first, *second))
        raise ExportError(where, "must start with a single QUANTIZE before the first layer", got, _FLOAT_OPS)


def _check_int16x8(graph: Graph, where: str) -> None:
    floats = [op for op in graph.ops if any(graph.tensors[i].dtype in _FLOATS for i in (*op.inputs, *op.outputs))]
    ends = [("QUANTIZE", [graph.input]), ("DEQUANTIZE", [graph.output])]
    got = [(op.name, op.inputs if op.name == "QUANTIZE" else op.outputs) for op in floats]
    if got != ends:
        must = "must hold no float op between the first QUANTIZE and the last DEQUANTIZE"
        raise ExportError(where, must, ", ".join(op.name for op in floats), _FLOAT_OPS.replace("int8", "int16x8"))
    pixels = graph.tensors[floats[0].outputs[0]]
    if pixels.dtype != "int16" or not _close(pixels.scale, INT16_PIXEL_SCALE) or pixels.zero_point != 0:
        must = f"must take the pixels 0..255 as int16 with scale {INT16_PIXEL_SCALE:.6f} and zero point 0"
        raise ExportError(where, must, f"{pixels.dtype} with {pixels.scale} and {pixels.zero_point}", _REPORT)


def describe(tensor: Tensor, name: str) -> TensorOfFile:
    """The tensor for a record."""
    return TensorOfFile(name, tensor.dtype, list(tensor.shape), tensor.scale, tensor.zero_point)


def _ends_text(dtype: str, shape: list[int], to_dtype: str, to_shape: list[int]) -> str:
    return f"{dtype} {shape} to {to_dtype} {to_shape}"


def _close(value: float | None, to: float) -> bool:
    return value is not None and abs(value / to - 1) < 1e-6


def _tensor(stored: StoredTensor) -> Tensor:
    one = len(stored.scales) == 1
    return Tensor(
        stored.dtype,
        stored.shape,
        stored.scales[0] if one else None,
        stored.zero_points[0] if one else None,
        stored.name,
        len(stored.scales),
        stored.constant,
    )
