"""Every student becomes a .tflite: what the contract promises of the file, on untrained weights and real pictures."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from kd2mobile import pixels
from kd2mobile.students import STUDENTS, build_student
from kd2mobile.tflite.contract import read_graph
from kd2mobile.tflite.export import export_student

CLASSES = ["zero", "one"]
SAME_GRAPH = {"mobilenet050", "mobilenet075", "mobilenet100"}  # as mobilenet025, only wider


@pytest.fixture(scope="module", params=[name for name in STUDENTS if name not in SAME_GRAPH])
def exported(request, digit_folder, tmp_path_factory) -> tuple[int, Path, dict[str, Path]]:
    """Side of the input, a picture and the files of one student by precision, made by one converting process."""
    name = request.param
    px = max(32, STUDENTS[name].smallest_px)
    place = tmp_path_factory.mktemp(name)
    build_student(name, px, len(CLASSES), "none", seed=0).save(place / "student.keras")
    ids = sorted(path.relative_to(digit_folder).as_posix() for path in digit_folder.glob("*/*"))
    folders = {precision: place / precision for precision in ("fp32", "int8")}
    results = export_student(
        place / "student.keras",
        folders,
        classes=CLASSES,
        resize="stretch",
        model_name=name,
        student_fingerprint="f00d",
        pictures=digit_folder,
        calibration=ids[1:-1:4],
        validation=[ids[0], ids[-1]],  # two may always differ: an untrained student's classes are a hair apart
    )
    assert [result["precision"] for result in results] == list(folders)
    return px, digit_folder / ids[0], {p: folder / f"{name}-{p}.tflite" for p, folder in folders.items()}


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_plain_litert_takes_pixels_and_answers_probabilities(exported, precision):
    px, picture, files = exported
    classify = Interpreter(model_path=str(files[precision])).get_signature_runner("classify")
    (image,), (answer,) = classify.get_input_details().values(), classify.get_output_details().values()
    assert image["dtype"] == np.uint8 and image["shape"].tolist() == [1, px, px, 3]
    assert answer["dtype"] == (np.uint8 if precision == "int8" else np.float32)
    assert answer["shape"].tolist() == [1, len(CLASSES)]
    probabilities = classify(image=pixels.load(picture, px, "stretch")[None])["probabilities"][0]
    scale, zero_point = answer["quantization"]
    if precision == "int8":
        assert (scale, zero_point) == (1 / 256, 0)
        probabilities = probabilities * scale
    assert (probabilities >= 0).all() and probabilities.sum() == pytest.approx(1, abs=0.01)


def test_int8_has_one_quantize_before_the_first_convolution_and_no_float(exported):
    _, _, files = exported
    ops = [op.name for op in read_graph(files["int8"].read_bytes(), "int8").ops]
    assert ops[0] == "QUANTIZE" and ops[: ops.index("CONV_2D")].count("QUANTIZE") == 1
    assert not {"CAST", "DEQUANTIZE"} & set(ops)
    kinds = {np.dtype(tensor["dtype"]) for tensor in Interpreter(model_path=str(files["int8"])).get_tensor_details()}
    assert kinds <= {np.dtype(kind) for kind in ("uint8", "int8", "int32")}
