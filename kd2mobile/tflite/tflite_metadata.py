"""TensorFlow Lite Metadata: what MediaPipe's and Android's task APIs ask of a file, as a flatbuffer inside the model.

Schema: `inspection/metadata_schema.py`, which the reading side shares. The labels themselves lie in the ZIP behind the
model (`metadata.py`); the metadata names their file.
"""

from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from kd2mobile.inspection import metadata_schema as tables
from kd2mobile.inspection.metadata import LABELS_FILE
from kd2mobile.inspection.model_schema import IDENTIFIER

_PREPEND = {"b": "PrependInt8Slot", "B": "PrependUint8Slot", "I": "PrependUint32Slot"}
_RESIZED = {
    "crop": "the image's centre square of 7/8 of its short side, scaled",
    "stretch": "the whole image, stretched",
    "pad": "the whole image in a black square, scaled",
}
DATA_ALIGNMENT = 16
"""Bytes; what schema.fbs asks of a buffer's data (force_align). The converter's own files do not keep it."""


class _Table(NamedTuple):
    """A table of the schema and its fields by name: texts, numbers, tables, lists of tables or of floats, or None."""

    kind: str
    fields: dict[str, Any]


def describe(
    *,
    name: str,
    classes: int,
    input_px: int,
    resize: str,
    precision: str,
    takes_floats: bool,
    version: str | None = None,
    author: str | None = None,
    licence: str | None = None,
) -> bytes:
    """The metadata of a classifier; what is None is left out. The same arguments give the same bytes.

    takes_floats: whether the input is float32, pixels from 0 to 255: then NormalizationOptions say so (mean 0, std 1),
    without which the task APIs refuse such a file.
    """
    # from the leaves up, as a flatbuffer is written: the image, the labels, the graph, the model
    size = _Table("ImageSize", {"width": input_px, "height": input_px})
    image = _Table("ImageProperties", {"color_space": tables.RGB, "default_size": size})
    as_they_are = _Table("NormalizationOptions", {"mean": [0.0], "std": [1.0]})
    unit = _Table("ProcessUnit", {"options_type": tables.NORMALIZATION_OPTIONS, "options": as_they_are})
    labels = {
        "name": LABELS_FILE,
        "description": "The classes, one per line, in the order of the outputs.",
        "type": tables.TENSOR_AXIS_LABELS,
    }
    pixels = f"RGB pixels from 0 to 255: {_RESIZED[resize]} to {input_px} x {input_px}."
    takes = {
        "name": "image",
        "description": pixels,
        "content": _content(tables.IMAGE_PROPERTIES, image),
        "process_units": [unit] if takes_floats else None,
    }
    gives = {
        "name": "probabilities",
        "description": f"The probabilities of the {classes} classes.",
        "content": _content(tables.FEATURE_PROPERTIES, _Table("FeatureProperties", {})),
        "associated_files": [_Table("AssociatedFile", labels)],
    }
    graph = {
        "input_tensor_metadata": [_Table("TensorMetadata", takes)],
        "output_tensor_metadata": [_Table("TensorMetadata", gives)],
    }
    model = {
        "name": name,
        "description": f"Image classifier of {classes} classes in {precision}, made with kd2mobile.",
        "version": version,
        "subgraph_metadata": [_Table("SubGraphMetadata", graph)],
        "author": author,
        "license": licence,
        "min_parser_version": tables.PARSER_VERSION,
    }
    # an identifier last: readers look for it
    builder = flatbuffers.Builder(0)
    builder.Finish(_write(builder, _Table("ModelMetadata", model)), tables.IDENTIFIER)
    return bytes(builder.Output())


def embed(model: bytes, metadata: bytes) -> bytes:
    """The model with the metadata as the buffer of its entry TFLITE_METADATA, in the place of one that it has.

    Everything else of the model stays, though not where it lies in the file. What stands behind the model is dropped.
    """
    stored = schema.ModelT.InitFromPackedBuf(model, 0)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata, np.uint8)
    entries = stored.metadata or []
    entry = next((entry for entry in entries if entry.name == tables.ENTRY.encode()), None)
    if entry is None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = tables.ENTRY, len(stored.buffers)
        stored.metadata = [*entries, entry]
        stored.buffers.append(buffer)
    else:
        stored.buffers[entry.buffer] = buffer
    builder = _Aligning(len(model) + len(metadata))
    builder.Finish(stored.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


class _Aligning(flatbuffers.Builder):
    """A builder that puts every vector of bytes at a multiple of 16 in the file: the weights are one."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        """As flatbuffers' own, with the alignment that its Python code does not take from the schema."""
        return super().StartVector(elemSize, numElems, DATA_ALIGNMENT if elemSize == 1 else alignment)


def _content(kind: int, properties: _Table) -> _Table:
    return _Table("Content", {"content_properties_type": kind, "content_properties": properties})


def _write(builder: flatbuffers.Builder, table: _Table) -> int:
    """Writes the table behind what it refers to, and says where."""
    set_fields = {field: value for field, value in table.fields.items() if value is not None}
    offsets = {field: _offset_of(builder, value) for field, value in set_fields.items() if field not in tables.SCALARS}
    builder.StartObject(len(tables.FIELDS[table.kind]))
    for field, value in set_fields.items():
        slot = tables.slot(table.kind, field)
        if field in offsets:
            builder.PrependUOffsetTRelativeSlot(slot, offsets[field], 0)
        else:
            getattr(builder, _PREPEND[tables.SCALARS[field]])(slot, value, 0)
    return builder.EndObject()


def _offset_of(builder: flatbuffers.Builder, value: str | _Table | list) -> int:
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, _Table):
        return _write(builder, value)
    if isinstance(value[0], float):
        return builder.CreateNumpyVector(np.array(value, "<f4"))
    offsets = [_write(builder, table) for table in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()
