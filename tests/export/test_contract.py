"""export/CONTRACT.md says what an export writes."""

import json
import zipfile
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from kd2mobile.inspection.metadata import read_tflite_metadata
from kd2mobile.recipe.schema import PRECISIONS
from kd2mobile.tflite.contract import read_graph

CONTRACT = (Path(__file__).parent.parent.parent / "export" / "CONTRACT.md").read_text("utf-8")


def table() -> dict[str, list[str]]:
    """The cells behind each precision: weights, activations, image, probabilities."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in CONTRACT.splitlines() if line.startswith("|")]
    assert rows[0] == ["precision", "weights", "activations", "`image`", "`probabilities`"]
    return {row[0]: row[1:] for row in rows[2:]}


def test_the_tables_dtypes_are_those_of_the_files(digits_in_tflite):
    rows = table()
    assert list(rows) == list(PRECISIONS)
    for precision, (weights, between, image, probabilities) in rows.items():
        file = digits_in_tflite.files[precision]
        classify = Interpreter(model_path=str(file)).get_signature_runner("classify")
        takes, gives = classify.get_input_details(), classify.get_output_details()
        assert [*takes, *gives] == ["image", "probabilities"]
        assert takes["image"]["dtype"].__name__ == image and gives["probabilities"]["dtype"].__name__ == probabilities
        assert list(takes["image"]["shape"]) == [1, 16, 16, 3] and list(gives["probabilities"]["shape"]) == [1, 10]
        graph = read_graph(file.read_bytes(), precision)
        layers = [op for op in graph.ops if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")]
        made_from = {i: graph.tensors[op.inputs[0]] for op in graph.ops if op.name == "DEQUANTIZE" for i in op.outputs}
        stored = [made_from.get(op.inputs[1], graph.tensors[op.inputs[1]]) for op in layers]
        assert stored and all(tensor.constant for tensor in stored)
        assert {tensor.dtype for tensor in stored} <= {word for word in weights.replace(",", "").split()}, precision
        assert stored[0].dtype == weights.split(",")[0] or precision == "int8_dynamic"
        assert {graph.tensors[op.outputs[0]].dtype for op in layers} == {between}, precision


def test_its_statements_on_quantization_hold(digits_in_tflite):
    for precision, file in digits_in_tflite.files.items():
        graph = read_graph(file.read_bytes(), precision)
        image, probabilities = graph.tensors[graph.input], graph.tensors[graph.output]
        if precision == "int8":
            assert abs(image.scale - 2 / 255) < 1e-8 and image.zero_point in (127, 128)
            assert (probabilities.scale, probabilities.zero_point) == (1 / 256, 0)
        else:
            assert image.scale is None and probabilities.scale is None
    for words in ("scale 2/255 and zero point 127 or 128", "scale 1/256 and zero point 0"):
        assert words in CONTRACT


def test_its_statements_on_the_zip_and_the_metadata_hold(digits_in_tflite):
    for precision, file in digits_in_tflite.files.items():
        with zipfile.ZipFile(file) as behind:
            assert behind.namelist() == ["labels.txt", "kd2mobile.json"]
            assert {member.compress_type for member in behind.infolist()} == {zipfile.ZIP_STORED}
            assert behind.read("labels.txt").decode() == "".join(f"digit {number}\n" for number in range(10))
            fields = json.loads(behind.read("kd2mobile.json")).keys()
        inside = read_tflite_metadata(file)
        assert (inside.mean, inside.std) == (([0.0], [1.0]) if precision == "int16x8" else (None, None))
        assert inside.label_file == "labels.txt"
        assert all(f"`{field}`" in CONTRACT for field in fields) and len(fields) == 8
