"""TensorFlow Lite Metadata: written here, read by the measuring side and by a walk over the bytes by hand."""

import struct

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from kd2mobile.inspection.metadata import TFLiteMetadata, read_tflite_metadata
from kd2mobile.tflite.contract import read_graph
from kd2mobile.tflite.tflite_metadata import describe, embed

from .conftest import PX, dark_images

SAID = {"name": "tiny", "classes": 3, "input_px": PX, "resize": "stretch", "precision": "int8", "takes_floats": False}


def at(data: bytes, offset: int, *slots: int) -> int | None:
    """The place of the field that these slots lead to from the table at `offset`, tables and first elements followed.

    Written from https://flatbuffers.dev/internals/ alone, apart from the reader in kd2mobile.measure.
    """
    for depth, slot in enumerate(slots):
        vtable = offset - struct.unpack_from("<i", data, offset)[0]
        size = struct.unpack_from("<H", data, vtable)[0]
        distance = struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0] if 4 + 2 * slot < size else 0
        if not distance:
            return None
        offset += distance
        if depth < len(slots) - 1:
            offset += struct.unpack_from("<I", data, offset)[0]
    return offset


def element(data: bytes, offset: int) -> int:
    """The first table of the vector that the field at `offset` refers to."""
    vector = offset + struct.unpack_from("<I", data, offset)[0]
    return vector + 4 + struct.unpack_from("<I", data, vector + 4)[0]


def text(data: bytes, offset: int) -> str:
    start = offset + struct.unpack_from("<I", data, offset)[0]
    return data[start + 4 : start + 4 + struct.unpack_from("<I", data, start)[0]].decode()


def test_the_fields_lie_where_the_public_schema_has_them():
    """ModelMetadata.subgraph_metadata is slot 3, SubGraphMetadata.output_tensor_metadata 3, and so on."""
    data = describe(**SAID | {"takes_floats": True}, version="7", author="Zoë", licence="MIT")
    model = struct.unpack_from("<I", data, 0)[0]
    assert data[4:8] == b"M001"
    texts = {slot: text(data, at(data, model, slot)) for slot in (0, 2, 4, 5, 7)}
    assert texts == {0: "tiny", 2: "7", 4: "Zoë", 5: "MIT", 7: "1.0.0"}
    graph = element(data, at(data, model, 3))
    image, answer = element(data, at(data, graph, 2)), element(data, at(data, graph, 3))
    assert (text(data, at(data, image, 0)), text(data, at(data, answer, 0))) == ("image", "probabilities")
    assert data[at(data, image, 3, 0)] == 2 and data[at(data, answer, 3, 0)] == 1  # ImageProperties, FeatureProperties
    assert data[at(data, image, 3, 1, 0)] == 1  # RGB
    size = [struct.unpack_from("<I", data, at(data, image, 3, 1, 1, slot))[0] for slot in (0, 1)]
    assert size == [PX, PX]
    unit = element(data, at(data, image, 4))
    assert data[at(data, unit, 0)] == 1  # NormalizationOptions
    for slot, value in ((0, 0.0), (1, 1.0)):
        vector = at(data, unit, 1, slot)
        vector += struct.unpack_from("<I", data, vector)[0]
        assert struct.unpack_from("<If", data, vector) == (1, value)
    labels = element(data, at(data, answer, 6))
    assert text(data, at(data, labels, 0)) == "labels.txt" and data[at(data, labels, 2)] == 2  # TENSOR_AXIS_LABELS


def test_what_is_not_given_is_left_out():
    data = describe(**SAID)
    model = struct.unpack_from("<I", data, 0)[0]
    assert [at(data, model, slot) for slot in (2, 4, 5)] == [None] * 3
    image = element(data, at(data, element(data, at(data, model, 3)), 2))
    assert at(data, image, 4) is None and data == describe(**SAID)


@pytest.mark.parametrize("precision", ["fp32", "int8", "int16x8"])
def test_the_measuring_side_reads_it(case, precision):
    wide = precision == "int16x8"
    assert read_tflite_metadata(case.file(precision)) == TFLiteMetadata(
        name="tiny",
        description=f"Image classifier of 3 classes in {precision}, made with kd2mobile.",
        version="f00d",
        author="Zoë",
        license="Apache-2.0",
        min_parser_version="1.0.0",
        mean=[0.0] if wide else None,
        std=[1.0] if wide else None,
        label_file="labels.txt",
    )


@pytest.mark.parametrize("precision", ["fp16", "int8", "int16x8"])
def test_nothing_else_of_the_model_changes(case, precision):
    model = case.file(precision).read_bytes()
    again = embed(model, b"other")
    before, after = (schema.ModelT.InitFromPackedBuf(data, 0) for data in (model, again))
    names = [entry.name for entry in before.metadata]
    assert names.count(b"TFLITE_METADATA") == 1 and names == [entry.name for entry in after.metadata]
    assert read_graph(model, "before") == read_graph(again, "after")
    changed = next(entry.buffer for entry in after.metadata if entry.name == b"TFLITE_METADATA")
    assert bytes(after.buffers[changed].data) == b"other" and b"labels.txt" not in again
    for index, (one, other) in enumerate(zip(before.buffers, after.buffers, strict=True)):
        assert index == changed or np.array_equal(one.data, other.data)
    shown = dark_images(1)[0]
    answers = []
    for data in (model, again):
        classify = Interpreter(model_content=data).get_signature_runner("classify")
        takes = classify.get_input_details()["image"]["dtype"]
        answers.append(classify(image=shown.astype(takes))["probabilities"])
    np.testing.assert_array_equal(*answers)


def test_weights_lie_at_multiples_of_16(case):
    """As schema.fbs asks of a buffer's data: an int64 bias at another place is a fault on some processors."""
    model = schema.Model.GetRootAs(case.file("int16x8").read_bytes(), 0)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    offsets = [buffer._tab.Vector(buffer._tab.Offset(4)) for buffer in buffers if buffer.DataLength()]
    assert len(offsets) > 10 and not any(offset % 16 for offset in offsets)
