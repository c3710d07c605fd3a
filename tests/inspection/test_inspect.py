"""What `kd2mobile inspect` finds in files of several makers, and what it says of those that are none."""

import io
import json
import subprocess
import sys
import zipfile
from hashlib import sha256

import msgspec
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import kd2mobile
from kd2mobile.cli.commands import main_status
from kd2mobile.inspection import model_schema
from kd2mobile.inspection.graph import read_model
from kd2mobile.inspection.inspect import FloatOps, inspect_file
from kd2mobile.pages.terminal.inspect import inspect_text
from tests.tiny_models import CLASSES


def size_in_a_zip(content: bytes) -> int:
    with zipfile.ZipFile(io.BytesIO(), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("model.tflite", content)
        return archive.getinfo("model.tflite").compress_size


def test_the_numbers_of_ops_and_types_are_the_public_schemas():
    for names, enumeration in ((model_schema.OPS, schema.BuiltinOperator), (model_schema.TYPES, schema.TensorType)):
        public = {name: number for name, number in vars(enumeration).items() if isinstance(number, int)}
        assert [public[name if name in public else name.upper()] for name in names] == list(range(len(public)))


def test_a_file_of_someone_else(models):
    path = models / "uint8.tflite"
    inspection = inspect_file(path)
    content = path.read_bytes()
    assert (inspection.size_bytes, inspection.sha256) == (len(content), sha256(content).hexdigest())
    assert inspection.deflated_bytes == size_in_a_zip(content) < inspection.size_bytes
    (image,), (answer,) = inspection.graphs[0].inputs, inspection.graphs[0].outputs
    assert (image.dtype, image.shape, image.scale) == ("uint8", [1, 8, 8, 3], None)
    assert (answer.dtype, answer.shape) == ("float32", [1, 3])
    assert (inspection.arithmetic, inspection.float_ops, inspection.custom_ops) == ("float32", None, [])
    assert [(s.key, s.inputs, s.outputs) for s in inspection.signatures] == [("serving_default", ["x"], ["output_0"])]
    assert (inspection.tflite_metadata, inspection.kd2mobile, inspection.labels, inspection.record) == (
        None,
        None,
        None,
        None,
    )
    text = inspect_text(inspection)
    assert "Computes in floats." in text and "No TensorFlow Lite Metadata." in text and "No labels." in text


@pytest.mark.parametrize("name", ["uint8", "full_int8", "two_inputs", "two_outputs", "winner", "described", "batch"])
def test_ops_inputs_and_outputs_are_those_of_the_runtime(models, name):
    interpreter = Interpreter(model_path=str(models / f"{name}.tflite"))
    graph = inspect_file(models / f"{name}.tflite").graphs[0]
    ops = [op["op_name"] for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]
    assert {op.name: op.count for op in graph.ops}.keys() == set(ops)
    assert sum(op.count for op in graph.ops) == len(ops)
    ends = (graph.inputs, interpreter.get_input_details()), (graph.outputs, interpreter.get_output_details())
    for infos, details in ends:
        assert [t.shape for t in infos] == [d["shape_signature"].tolist() for d in details]
        assert [t.dtype for t in infos] == [np.dtype(d["dtype"]).name for d in details]
        assert [(t.scale or 0.0, t.zero_point or 0) for t in infos] == [d["quantization"] for d in details]


def test_an_integer_file_and_its_quantization(models):
    inspection = inspect_file(models / "full_uint8.tflite")
    assert inspection.arithmetic == "integer" and inspection.float_ops == []
    (image,) = inspection.graphs[0].inputs
    assert image.dtype == "uint8" and image.scale == pytest.approx(2 / 255, rel=1e-2) and image.zero_point in (127, 128)
    assert "CONV_2D" in {op.name for op in inspection.graphs[0].ops if op.types.startswith("int8, int8, int32 -> int8")}
    assert "Computes in integers; no float op." in inspect_text(inspection)


def test_floats_left_in_an_integer_file_are_listed(models, tmp_path):
    """The inner tensors of an int8 file between two ops, declared floats."""
    stored = schema.ModelT.InitFromPackedBuf((models / "full_int8.tflite").read_bytes(), 0)
    graph = stored.subgraphs[0]
    last = graph.operators[-1]
    for index in last.inputs:
        graph.tensors[index].type, graph.tensors[index].quantization = schema.TensorType.FLOAT32, None
    path = tmp_path / "mixed.tflite"
    path.write_bytes(packed_again(stored))
    inspection = inspect_file(path)
    ops = [schema.BuiltinOperator.SOFTMAX, schema.BuiltinOperator.FULLY_CONNECTED]
    codes = [stored.operatorCodes[op.opcodeIndex].builtinCode for op in (last, graph.operators[-2])]
    assert codes == ops and inspection.arithmetic == "integer"
    tensors = [graph.tensors[op.outputs[0]].name.decode() for op in (graph.operators[-2], last)]
    assert inspection.float_ops == [FloatOps("FULLY_CONNECTED", 1, tensors[0]), FloatOps("SOFTMAX", 1, tensors[1])]
    assert "float ops:\n    1  FULLY_CONNECTED, first at " in inspect_text(inspection)


def packed_again(stored):
    import flatbuffers

    builder = flatbuffers.Builder(0)
    builder.Finish(stored.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_open_sizes_several_signatures_and_flex_ops(models, tmp_path):
    assert inspect_file(models / "open_batch.tflite").graphs[0].inputs[0].shape == [-1, 8, 8, 3]
    flex = inspect_file(models / "flex.tflite")
    assert flex.custom_ops == ["FlexMatrixInverse"]
    assert "Needs a runtime with FlexMatrixInverse, which plain LiteRT does not have." in inspect_text(flex)
    path = tmp_path / "two.tflite"
    subprocess.run([sys.executable, "-c", TWO_SIGNATURES, path], check=True, capture_output=True)
    inspection = inspect_file(path)
    assert {s.key: (s.inputs, s.outputs) for s in inspection.signatures} == {
        "double": (["x"], ["twice"]),
        "halve": (["x"], ["half", "whole"]),
    }
    assert len(inspection.graphs) == 2 and {s.graph for s in inspection.signatures} == {0, 1}
    text = inspect_text(inspection)
    assert "Signature double: x -> twice, graph " in text and "Input of graph 1: x " in text


TWO_SIGNATURES = """
import sys, tensorflow as tf

class Two(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def double(self, x):
        return {"twice": x * 2.0}

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32, name="x")])
    def halve(self, x):
        return {"half": x / 2.0, "whole": x + 0.0}

two = Two()
tf.saved_model.save(two, sys.argv[1] + ".d", signatures={"double": two.double, "halve": two.halve})
open(sys.argv[1], "wb").write(tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + ".d").convert())
"""


def test_metadata_and_labels(packed, own):
    described = inspect_file(packed("described", {"my_labels.txt": "\n".join(CLASSES)}))
    assert described.tflite_metadata.mean == [127.5] and described.labels == CLASSES
    assert "TFLITE_METADATA" in described.metadata and described.kd2mobile is None
    assert "input: (pixel - 127.5) / 127.5" in inspect_text(described)
    ours = inspect_file(own(classes=["a\nb", *CLASSES[1:]], precision="int8"))
    assert (
        ours.kd2mobile.precision == "int8"
        and "Made by kd2mobile: mobilenet025, int8, resize stretch" in inspect_text(ours)
    )
    assert "3 labels: a\\nb, green, red" in inspect_text(ours)


def test_what_is_no_model_is_refused_by_the_command(models, tmp_path, capsys):
    whole = (models / "uint8.tflite").read_bytes()
    for name, content, message in [
        ("text.tflite", b"a text file", "must be a TensorFlow Lite model, got a file that starts with b'a text f'."),
        ("empty.tflite", b"", "must be a TensorFlow Lite model, got an empty file."),
        ("cut.tflite", whole[: len(whole) // 2], "must be a complete TensorFlow Lite model, got a flatbuffer"),
        ("head.tflite", whole[:8], "must be a complete TensorFlow Lite model, got a flatbuffer offset of"),
        ("folder.tflite", None, "must be a readable .tflite file, got Is a directory."),
        ("none.tflite", None, "must be a readable .tflite file, got No such file or directory. Check the path."),
    ]:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        elif name.startswith("folder"):
            path.mkdir()
        assert main_status(["inspect", str(path)]) == 2
        output = capsys.readouterr()
        assert output.out == "" and output.err.startswith(f"{path}: {message}"), output.err
        assert output.err.count("\n") == 1


def test_the_command_and_its_json(models, tmp_path, capsys):
    path = models / "full_int8.tflite"
    assert main_status(["inspect", str(path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == msgspec.to_builtins(kd2mobile.inspect(path))
    assert main_status(["inspect", str(path), f"--json={tmp_path}/i.json"]) == 0
    assert json.loads((tmp_path / "i.json").read_text()) == printed
    assert capsys.readouterr().out.startswith(f"{path}: ")


def test_a_model_without_a_graph_is_none():
    with pytest.raises(ValueError, match="no graph"):
        read_model(b"\x10\0\0\0TFL3\x04\0\x04\0\0\0\0\0\x08\0\0\0")
