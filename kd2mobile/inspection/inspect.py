"""Describes any .tflite from its bytes, so that no runtime needs to be able to run it."""

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.errors import ModelFileError
from kd2mobile.files import check_regular, sha256_of
from kd2mobile.inspection.graph import Graph, Model, Op, Tensor, is_model, read_model
from kd2mobile.inspection.layer_names import LayerNames, layers_in
from kd2mobile.inspection.metadata import FileMetadata, TFLiteMetadata, read_metadata, read_tflite_metadata
from kd2mobile.inspection.size import deflated_size
from kd2mobile.inspection.weights import Weights, count_weights

MODEL = "model.tflite"
"""The name of the file of a published model in its folder."""
_AGAIN = "Give the .tflite file itself, or export or download it again."


class TensorInfo(msgspec.Struct, frozen=True):
    """An input or output. shape: -1 for an open size. scale, zero_point: of a tensor quantized as a whole, else None;
    channels: the number of scales if each channel has its own, else None."""

    name: str
    dtype: str
    shape: list[int]
    scale: float | None
    zero_point: int | None
    channels: int | None


class OpInfo(msgspec.Struct, frozen=True):
    """The ops of one name and the same types. types: `int8, int8, int32 -> int8`; custom: no built-in op of LiteRT."""

    name: str
    custom: bool
    types: str
    count: int


class FloatOps(msgspec.Struct, frozen=True):
    """Ops of one name that compute in floats in an integer file. first: the location of the first: its layer, as
    `--keep-float` takes it, in a file of kd2mobile's; the tensor that it outputs in any other."""

    name: str
    count: int
    first: str


class GraphInfo(msgspec.Struct, frozen=True):
    """One graph of the file; the first is the one that runs."""

    name: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    ops: list[OpInfo]


class SignatureInfo(msgspec.Struct, frozen=True):
    """graph: the index of its graph; inputs, outputs: their names in the signature."""

    key: str
    graph: int
    inputs: list[str]
    outputs: list[str]


class FoundRecord(msgspec.Struct, frozen=True):
    """A record of this file, matched by its SHA-256. path: the file that holds it; content: the record."""

    path: str
    content: dict[str, Any]


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What `kd2mobile inspect --json` writes; a field is None if the file does not have it.

    deflated_bytes: of the file compressed by DEFLATE, as a ZIP or an app's package holds it. arithmetic: `float32`,
    `float16 weights`, `int8 weights` (dynamic range: the ops compute in floats, or in integers on their own account),
    `integer`; None without any op that tells. float_ops: those left in an integer file; but for the QUANTIZE of an
    input and the DEQUANTIZE of an output; None if the file is not integer. custom_ops: those that only a runtime
    which has them can run. weights: of its convolutions and dense layers. metadata: bytes of each metadata entry of
    the model. tflite_metadata: what TensorFlow Lite Metadata says; kd2mobile: what a file of kd2mobile's says besides.
    labels: of the outputs, in order. record: how it came to be; benchmark: what was measured of it; notes: what of the
    records beside it could not be read: `api.inspect` adds these three.
    """

    file: str
    size_bytes: int
    deflated_bytes: int
    sha256: str
    description: str | None
    arithmetic: str | None
    float_ops: list[FloatOps] | None
    custom_ops: list[str]
    weights: Weights | None
    signatures: list[SignatureInfo]
    graphs: list[GraphInfo]
    metadata: dict[str, int]
    tflite_metadata: TFLiteMetadata | None
    kd2mobile: FileMetadata | None
    labels: list[str] | None
    record: FoundRecord | None = None
    benchmark: FoundRecord | None = None
    notes: list[str] = []


def inspect_file(path: Path) -> Inspection:
    """Describes the .tflite, or that in the folder of a published model, from its bytes alone.

    Raises ModelFileError if it cannot be read or is not a complete model.
    """
    path = Path(path)
    if (path / MODEL).is_file():
        path = path / MODEL
    check_regular(path, ModelFileError, "Save the model to a file, and give that.")
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise ModelFileError(path, "must be a readable .tflite file", fault.strerror, "Check the path.") from fault
    if not is_model(data):
        got = f"a file that starts with {data[:8]!r}" if data else "an empty file"
        raise ModelFileError(path, "must be a TensorFlow Lite model", got, _AGAIN)
    try:
        model = read_model(data)
    except ValueError as fault:
        raise ModelFileError(path, "must be a complete TensorFlow Lite model", fault, _AGAIN) from fault
    metadata = read_metadata(path)
    arithmetic, float_ops = _arithmetic(model.graphs, metadata.own)
    return Inspection(
        file=str(path),
        size_bytes=len(data),
        deflated_bytes=deflated_size(data),
        sha256=sha256_of(path),
        description=model.description or None,
        arithmetic=arithmetic,
        float_ops=float_ops,
        custom_ops=sorted({op.name for graph in model.graphs for op in graph.ops if op.custom}),
        weights=count_weights(data, model),
        signatures=[SignatureInfo(s.key, s.graph, list(s.inputs), list(s.outputs)) for s in model.signatures],
        graphs=[_graph(model, index) for index in range(len(model.graphs))],
        metadata={name: size for name, (_, size) in model.metadata.items()},
        tflite_metadata=read_tflite_metadata(path),
        kd2mobile=metadata if metadata.own else None,
        labels=metadata.classes,
    )


def _graph(model: Model, index: int) -> GraphInfo:
    graph = model.graphs[index]
    counts = Counter((op.name, op.custom, _types(graph, op)) for op in graph.ops)
    own = [signature for signature in model.signatures if signature.graph == index]
    inputs = _ends(graph, graph.inputs, [signature.inputs for signature in own])
    outputs = _ends(graph, graph.outputs, [signature.outputs for signature in own])
    return GraphInfo(graph.name, inputs, outputs, [OpInfo(*kind, count) for kind, count in counts.items()])


def _ends(graph: Graph, indices: list[int], signature_names: list[dict[str, int]]) -> list[TensorInfo]:
    names = {index: name for names in signature_names for name, index in names.items()}
    return [_tensor(graph.tensors[index], names.get(index)) for index in indices]


def _tensor(tensor: Tensor, name: str | None) -> TensorInfo:
    one = len(tensor.scales) == 1
    return TensorInfo(
        name or tensor.name,
        tensor.dtype,
        tensor.shape,
        tensor.scales[0] if one else None,
        tensor.zero_points[0] if one and tensor.zero_points else None,
        len(tensor.scales) if len(tensor.scales) > 1 else None,
    )


def _types(graph: Graph, op: Op) -> str:
    takes, gives = ([graph.tensors[i].dtype for i in side] for side in (op.inputs, op.outputs))
    return f"{', '.join(takes) or 'nothing'} -> {', '.join(gives) or 'nothing'}"


def _arithmetic(graphs: list[Graph], own: bool) -> tuple[str | None, list[FloatOps] | None]:
    """The type in which the ops compute; and, if that is integers, the ops left in floats."""
    floats, integers, weights = [], 0, set()
    for graph in graphs:
        names = layers_in(graph.tensors[i].name for op in graph.ops for i in op.outputs) if own else None
        for op in graph.ops:
            tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs)]
            moving = [tensor for tensor in tensors if not tensor.constant]
            if any(_is_float(tensor) for tensor in moving):
                if not _is_end(graph, op):
                    floats.append((op.name, _layer_of(graph, op, names)))
                weights |= {tensor.dtype for tensor in tensors if tensor.constant and _is_packed(tensor)}
            elif op.name != "QUANTIZE" and any(tensor.scales for tensor in moving):
                integers += 1
    if integers:
        counts, first = Counter(name for name, _ in floats), dict(reversed(floats))
        return "integer", [FloatOps(name, count, first[name]) for name, count in counts.items()]
    if not floats:
        return None, None
    return (f"{', '.join(sorted(weights))} weights" if weights else "float32"), None


def _layer_of(graph: Graph, op: Op, names: LayerNames | None) -> str:
    """The location of an op for a reader; an op that converts for a layer has the location of that layer."""
    near = {
        "DEQUANTIZE": [o for o in graph.ops if set(o.inputs) & set(op.outputs)],
        "QUANTIZE": [o for o in graph.ops if set(o.outputs) & set(op.inputs)],
    }.get(op.name)
    at = (near or [op])[0].outputs[:1]
    layers = [names.of(graph.tensors[i].name) if names else graph.tensors[i].name.partition(";")[0] for i in at]
    return layers[0] if layers else ""


def _is_end(graph: Graph, op: Op) -> bool:
    """Whether the op only turns an input into integers, or an output into floats."""
    turned = {"QUANTIZE": (op.inputs, graph.inputs), "DEQUANTIZE": (op.outputs, graph.outputs)}.get(op.name)
    return turned is not None and set(turned[0]) <= set(turned[1])


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype.startswith(("float", "bfloat"))


def _is_packed(tensor: Tensor) -> bool:
    """Whether a constant of a float op is stored in fewer bits than it computes in."""
    return bool(tensor.scales) or tensor.dtype in ("float16", "bfloat16")
