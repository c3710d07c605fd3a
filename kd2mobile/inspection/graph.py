"""The graphs of any .tflite, read from its bytes alone, so that a file which no runtime can run is read too."""

from typing import NamedTuple

from kd2mobile.inspection import model_schema as schema
from kd2mobile.inspection.flatbuffer import Table, root


class Tensor(NamedTuple):
    """dtype: `uint8`, `float32`, ...; shape: -1 for an open size; scales, zero_points: empty for a float, one for the
    whole tensor or one per channel of `axis`; span: offset and size in bytes of its numbers in the file, (0, 0) if they
    are not in it.
    """

    name: str
    dtype: str
    shape: list[int]
    scales: list[float]
    zero_points: list[int]
    axis: int
    span: tuple[int, int]

    @property
    def constant(self) -> bool:
        """Whether its numbers are in the file."""
        return self.span[1] > 0


class Geometry(NamedTuple):
    """How a convolution slides over its input. strides, dilations: (down, across); same: whether the border is padded
    with zeros, as TensorFlow's SAME."""

    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    same: bool = False


class Op(NamedTuple):
    """custom: whether it is no built-in op of LiteRT; Flex ops are custom. inputs, outputs: indices of tensors, without
    optional inputs that are left out. geometry: of a convolution, None for any other op."""

    name: str
    custom: bool
    inputs: list[int]
    outputs: list[int]
    geometry: Geometry | None = None


class Graph(NamedTuple):
    """inputs, outputs: indices of its tensors."""

    name: str
    tensors: list[Tensor]
    ops: list[Op]
    inputs: list[int]
    outputs: list[int]


class Signature(NamedTuple):
    """graph: the index of its graph; inputs, outputs: the index of a tensor by its name in the signature."""

    key: str
    graph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


class Model(NamedTuple):
    """metadata: offset and size in bytes of each entry by its name."""

    description: str
    graphs: list[Graph]
    signatures: list[Signature]
    metadata: dict[str, tuple[int, int]]


def is_model(data: bytes) -> bool:
    """Whether the bytes begin as those of a .tflite do; they may be damaged all the same."""
    return data[4:8] == schema.IDENTIFIER


def read_model(data: bytes) -> Model:
    """The model at the front of the bytes. Raises ValueError unless it is complete."""
    if not is_model(data):
        raise ValueError(f"no TFL3 at its start but {data[4:8]!r}")
    model = root(data)
    spans = [_span(buffer, len(data)) for buffer in model.tables(schema.MODEL["buffers"])]
    ops = [_op_name(code) for code in model.tables(schema.MODEL["operator_codes"])]
    graphs = [_graph(graph, ops, spans) for graph in model.tables(schema.MODEL["subgraphs"])]
    if not graphs:
        raise ValueError("no graph")
    signatures = [_signature(each, graphs) for each in model.tables(schema.MODEL["signature_defs"])]
    entries = {
        entry.text(schema.METADATA["name"]): _item(spans, entry.number(schema.METADATA["buffer"], "I"), "buffer")
        for entry in model.tables(schema.MODEL["metadata"])
    }
    return Model(model.text(schema.MODEL["description"]), graphs, signatures, entries)


def with_readable_names(data: bytes) -> bytes:
    """The same model with `?` for each byte that is no ASCII in names that are not UTF-8.

    Raises ValueError unless the bytes are a complete model.
    """
    model = root(data)
    names = [(code, schema.OPERATOR_CODE["custom_code"]) for code in model.tables(schema.MODEL["operator_codes"])]
    names += [(entry, schema.METADATA["name"]) for entry in model.tables(schema.MODEL["metadata"])]
    for graph in model.tables(schema.MODEL["subgraphs"]):
        names += [(graph, schema.SUBGRAPH["name"])]
        names += [(tensor, schema.TENSOR["name"]) for tensor in graph.tables(schema.SUBGRAPH["tensors"])]
    for signature in model.tables(schema.MODEL["signature_defs"]):
        names += [(signature, schema.SIGNATURE["signature_key"])]
        ends = [end for field in ("inputs", "outputs") for end in signature.tables(schema.SIGNATURE[field])]
        names += [(end, schema.TENSOR_MAP["name"]) for end in ends]
    readable = None
    for table, field in names:
        first, count = table.span(field)
        name = data[first : first + count]
        try:
            name.decode()
        except UnicodeDecodeError:
            readable = readable or bytearray(data)
            readable[first : first + count] = bytes(byte if byte < 128 else ord("?") for byte in name)
    return data if readable is None else bytes(readable)


def _span(buffer: Table, file: int) -> tuple[int, int]:
    """Offset and size in bytes of a buffer. Its bytes lie in the table or, in a large model, somewhere behind it."""
    inside = buffer.span(schema.BUFFER["data"])
    offset, size = (buffer.number(schema.BUFFER[field], "Q") for field in ("offset", "size"))
    if offset > 1 and offset + size > file:
        raise ValueError(f"a buffer that ends at {offset + size} in {file} bytes")
    return (offset, size) if not inside[1] and offset > 1 else inside


def _op_name(code: Table) -> tuple[str, bool]:
    short = code.number(schema.OPERATOR_CODE["deprecated_builtin_code"], "b")
    number = max(short, code.number(schema.OPERATOR_CODE["builtin_code"], "i"))
    if number == schema.CUSTOM:
        return code.text(schema.OPERATOR_CODE["custom_code"]) or "CUSTOM", True
    return schema.OPS[number] if 0 <= number < len(schema.OPS) else f"op {number}", False


def _graph(graph: Table, names: list[tuple[str, bool]], spans: list[tuple[int, int]]) -> Graph:
    tensors = [_tensor(tensor, spans) for tensor in graph.tables(schema.SUBGRAPH["tensors"])]

    def indices(table: Table, field: int) -> list[int]:
        present = [index for index in table.numbers(field, "i") if index != -1]
        for index in present:
            _item(tensors, index, "tensor")
        return present

    ops = []
    for op in graph.tables(schema.SUBGRAPH["operators"]):
        name, custom = _item(names, op.number(schema.OPERATOR["opcode_index"], "I"), "operator code")
        ends = (indices(op, schema.OPERATOR[field]) for field in ("inputs", "outputs"))
        ops.append(Op(name, custom, *ends, _geometry(op, name)))
    ends = (indices(graph, schema.SUBGRAPH[field]) for field in ("inputs", "outputs"))
    return Graph(graph.text(schema.SUBGRAPH["name"]), tensors, ops, *ends)


def _geometry(op: Table, name: str) -> Geometry | None:
    slots = schema.CONVOLUTIONS.get(name)
    if slots is None or not op.has(schema.OPERATOR["builtin_options"]):
        return None
    options = op.table(schema.OPERATOR["builtin_options"])
    strides, dilations = (
        tuple(options.number(slots[f"{what}_{side}"], "i", default) for side in "hw")
        for what, default in (("stride", 0), ("dilation", 1))
    )
    return Geometry(strides, dilations, options.number(slots["padding"], "b") == schema.SAME)


def _tensor(tensor: Table, spans: list[tuple[int, int]]) -> Tensor:
    kind = tensor.number(schema.TENSOR["type"], "b")
    fixed = tensor.numbers(schema.TENSOR["shape"], "i")
    quantization = tensor.table(schema.TENSOR["quantization"]) if tensor.has(schema.TENSOR["quantization"]) else None
    span = _item(spans, tensor.number(schema.TENSOR["buffer"], "I"), "buffer")
    return Tensor(
        tensor.text(schema.TENSOR["name"]),
        schema.TYPES[kind] if 0 <= kind < len(schema.TYPES) else f"type {kind}",
        tensor.numbers(schema.TENSOR["shape_signature"], "i") or fixed,
        quantization.numbers(schema.QUANTIZATION["scale"], "f") if quantization else [],
        quantization.numbers(schema.QUANTIZATION["zero_point"], "q") if quantization else [],
        quantization.number(schema.QUANTIZATION["quantized_dimension"], "i") if quantization else 0,
        span,
    )


def _signature(signature: Table, graphs: list[Graph]) -> Signature:
    index = signature.number(schema.SIGNATURE["subgraph_index"], "I")
    graph = _item(graphs, index, "graph")
    ends = []
    for field in ("inputs", "outputs"):
        by_name = {
            tensor.text(schema.TENSOR_MAP["name"]): tensor.number(schema.TENSOR_MAP["tensor_index"], "I")
            for tensor in signature.tables(schema.SIGNATURE[field])
        }
        for tensor in by_name.values():
            _item(graph.tensors, tensor, "tensor")
        ends.append(by_name)
    return Signature(signature.text(schema.SIGNATURE["signature_key"]), index, *ends)


def _item(items: list, index: int, kind: str):
    if not 0 <= index < len(items):
        raise ValueError(f"{kind} {index} of {len(items)}")
    return items[index]
