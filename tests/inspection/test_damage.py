"""Damaged and hostile .tflite files: each is read, or refused in one line."""

import zipfile
from contextlib import suppress

import flatbuffers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd2mobile.api.results import as_json
from kd2mobile.errors import Kd2MobileError, ModelFileError
from kd2mobile.inspection.flatbuffer import root
from kd2mobile.inspection.graph import read_model, with_readable_names
from kd2mobile.inspection.inspect import inspect_file
from kd2mobile.inspection.metadata import read_metadata
from kd2mobile.pages.terminal.inspect import inspect_text
from tests.tiny_models import changed

FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), max_size=5)
CUTS = st.none() | st.floats(0, 1)


def damaged(data, flips, cut):
    """The bytes with bits flipped, and cut off: both places are fractions of their length."""
    data = bytearray(data)
    for position, bit in flips:
        data[int(position * len(data))] ^= 1 << bit
    return bytes(data if cut is None else data[: int(cut * len(data))])


@pytest.fixture(scope="module")
def whole(models, tmp_path_factory):
    """Bytes of small models by name, and a path for damaged ones. `packed` has a ZIP with deflated labels behind it."""
    path = tmp_path_factory.mktemp("damage") / "damaged.tflite"
    contents = {name: (models / f"{name}.tflite").read_bytes() for name in ("full_uint8", "two_outputs")}
    path.write_bytes((models / "described.tflite").read_bytes())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("my_labels.txt", "0 blue\n1 green\n2 red\n")
    return contents | {"packed": path.read_bytes()}, path


@given(st.sampled_from(["full_uint8", "two_outputs", "packed"]), FLIPS, CUTS)
@settings(max_examples=300)
def test_damaged_bytes_are_read_or_refused_in_a_line(whole, name, flips, cut):
    contents, path = whole
    path.write_bytes(damaged(contents[name], flips, cut))
    try:
        inspection = inspect_file(path)
        texts = [as_json(inspection), inspect_text(inspection)]
    except Kd2MobileError as fault:
        assert isinstance(fault, ModelFileError) and "\n" not in str(fault) and str(fault).startswith(str(path))
    else:
        assert all(text.encode() for text in texts)


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_behind_the_mark_are_read_or_refused(rest):
    for data in (b"\x08\0\0\0TFL3" + rest, rest[:4] + b"TFL3" + rest[4:]):
        for read in (read_model, with_readable_names):
            with suppress(ValueError):
                read(data)


def test_names_that_are_not_utf8_are_shown(models, tmp_path, capsys):
    def change(stored):
        stored.description = b"mod\xe8le"
        graph = stored.subgraphs[0]
        graph.name = b"gr\xe2ph"
        for tensor in graph.tensors:
            tensor.name = b"\xe9t\xe9"
        for signature in stored.signatureDefs or []:
            signature.signatureKey = b"cl\xe9"
            for end in (*signature.inputs, *signature.outputs):
                end.name = b"\xff"

    path = changed(tmp_path / "latin.tflite", (models / "uint8.tflite").read_bytes(), change)
    inspection = inspect_file(path)
    assert (inspection.description, inspection.graphs[0].name) == ("mod\ufffdle", "gr\ufffdph")
    assert inspection.signatures[0].key == "cl\ufffd" and inspection.graphs[0].inputs[0].name == "\ufffd"
    assert "\ufffd" in inspect_text(inspection)
    readable = read_model(with_readable_names(path.read_bytes()))
    assert readable.graphs[0].tensors[0].name == "?t?" and readable.signatures[0].key == "cl?"
    whole = (models / "uint8.tflite").read_bytes()
    assert with_readable_names(whole) is whole


def test_labels_inside_that_are_not_utf8_are_refused(packed):
    with pytest.raises(ModelFileError, match=r"labels.txt: must be UTF-8 text, got byte 0 of 4 that is none"):
        read_metadata(packed("uint8", {"labels.txt": b"\xe9t\xe9\n"}))


def test_tables_that_all_point_to_one_long_vector_are_refused_before_it_is_read_each_time():
    builder, many = flatbuffers.Builder(0), 2000
    builder.StartVector(4, many, 4)
    for number in range(many):
        builder.PrependInt32(number)
    numbers = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, numbers, 0)
    table = builder.EndObject()
    builder.StartVector(4, many, 4)
    for _ in range(many):
        builder.PrependUOffsetTRelative(table)
    tables = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, tables, 0)
    builder.Finish(builder.EndObject())
    shared = root(bytes(builder.Output())).tables(0)
    assert len(shared) == many and shared[0].numbers(0, "i")[:2] == [many - 1, many - 2]
    with pytest.raises(ValueError, match="vectors that are many times as long as their file together"):
        for one in shared:
            one.numbers(0, "i")


def test_an_empty_and_a_short_file_are_refused(tmp_path):
    for content in (b"", b"\x1c\0\0\0TFL3", b"\x1c\0\0"):
        (tmp_path / "short.tflite").write_bytes(content)
        with pytest.raises(ModelFileError):
            inspect_file(tmp_path / "short.tflite")
