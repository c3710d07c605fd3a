import re
import sys
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from kd2mobile import pixels
from kd2mobile.backend import tensorflow_process
from kd2mobile.errors import ExportError, ImageError, MissingExtraError, RecipeError
from kd2mobile.inspection.inspect import inspect_file
from kd2mobile.inspection.layer_names import layers_in
from kd2mobile.recipe.schema import PRECISIONS
from kd2mobile.tflite import convert, worker
from kd2mobile.tflite.contract import read_graph
from kd2mobile.tflite.export import converting_process, export_student
from kd2mobile.tflite.job import Job
from kd2mobile.tflite.results import TfliteResults, WeightScales

from .conftest import CLASSES, PX, tiny


def run_here(student: Path, folders: dict[str, Path], arguments: dict) -> list[dict]:
    """The worker's work without its process: the results it told before it ended or raised are in the list."""
    results = []
    job = Job(
        student=str(student),
        folders={precision: str(folder) for precision, folder in folders.items()},
        **{**arguments, "images": str(arguments["images"])},
    )
    try:
        worker.work(job, lambda kind, **content: results.append(content["result"]) if kind == "result" else None)
    except ExportError as fault:
        fault.results = results
        raise
    return results


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_result_is_of_the_file(case, precision):
    result, file = case.results[precision], case.file(precision)
    assert file.name == result.file and [path.name for path in file.parent.iterdir()] == [file.name]
    assert (result.size_bytes, result.sha256) == (
        file.stat().st_size,
        sha256(file.read_bytes()).hexdigest(),
    )
    assert result.converter.startswith("tensorflow 2.") and result.seconds > 0
    assert result.parity.n == 51 and result.parity.agreement >= 0.96
    assert result.parity.largest_difference < {"fp32": 1e-5, "fp16": 0.01}.get(precision, 0.15)
    assert 0 < result.compressed_bytes < result.size_bytes
    lost = result.against_student
    assert lost.n == 51 and lost.difference == pytest.approx(lost.top1 - lost.student_top1)
    assert lost.interval_95[0] <= lost.difference <= lost.interval_95[1] and lost.student_top1 > 0.9
    assert result.calibration == ([] if precision == "fp32" else case.ids[:9])
    assert (result.bias_correction is None) == (precision == "fp32")
    assert msgspec.json.decode(msgspec.json.encode(result), type=TfliteResults) == result


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("opened_by", ["path", "bytes"])
def test_the_contract_holds_in_plain_litert(case, precision, opened_by):
    file = case.file(precision)
    how = {"model_path": str(file)} if opened_by == "path" else {"model_content": file.read_bytes()}
    interpreter = Interpreter(**how)
    assert interpreter.get_signature_list() == {"classify": {"inputs": ["image"], "outputs": ["probabilities"]}}
    classify = interpreter.get_signature_runner("classify")
    image, answer = classify.get_input_details()["image"], classify.get_output_details()["probabilities"]
    takes = np.float32 if precision == "int16x8" else np.uint8
    assert image["dtype"] == takes and image["shape"].tolist() == [1, PX, PX, 3]
    assert answer["dtype"] == (np.uint8 if precision == "int8" else np.float32)
    assert answer["shape"].tolist() == [1, len(CLASSES)]
    shown = pixels.load(case.images / case.ids[2], PX, "stretch")
    probabilities = classify(image=shown[None].astype(takes))["probabilities"][0] / (256 if precision == "int8" else 1)
    assert probabilities.argmax() == 2 and abs(probabilities.sum() - 1) < 0.02


def test_int8_takes_the_pixel_itself(case):
    result = case.results["int8"]
    assert result.input.scale == pytest.approx(2 / 255, rel=1e-6)  # though no image is above 140
    assert result.input.zero_point in (127, 128)
    assert (result.output.scale, result.output.zero_point) == (1 / 256, 0)
    assert not {"CAST", "DEQUANTIZE", "MUL", "SUB"} & set(result.ops)
    assert list(result.ops)[:2] == ["QUANTIZE", "CONV_2D"]


def test_int16x8_takes_the_pixel_as_a_float_and_computes_in_integers(case):
    graph = read_graph(case.file("int16x8").read_bytes(), "int16x8")
    first, last = graph.ops[0], graph.ops[-1]
    assert (first.name, last.name) == ("QUANTIZE", "DEQUANTIZE")
    pixels = graph.tensors[first.outputs[0]]  # though no image is above 140
    assert pixels.dtype == "int16" and pixels.scale == pytest.approx(255 / 32767, rel=1e-6) and pixels.zero_point == 0
    inner = [graph.tensors[i].dtype for op in graph.ops[1:-1] for i in (*op.inputs, *op.outputs)]
    assert set(inner) <= {"int8", "int16", "int32", "int64"} and {"int8", "int16", "int64"} <= set(inner)
    corrected = case.results["int16x8"].bias_correction
    assert corrected.layers == corrected.corrected == 5


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8_dynamic"])
def test_the_others_hold_the_preprocessing(case, precision):
    ops = case.results[precision].ops
    assert ops["CAST"] == 1 and "QUANTIZE" not in ops
    assert (case.results[precision].input.scale, case.results[precision].output.scale) == (None, None)


def test_one_process_does_several_jobs_and_each_gives_the_same_bytes(case, tmp_path):
    """After a job that is refused, and when other precisions are requested in another order."""
    refused = r"missing.keras: must be a Keras model .*File not found.*Train it again\."
    with converting_process() as process:
        with pytest.raises(ExportError, match=refused):
            export_student(case.job(tmp_path / "missing.keras", {"fp32": tmp_path / "out"}), process)
        first = export_student(case.job(case.student, {"fp16": tmp_path / "a"}), process)
        folders = {"int8": tmp_path / "a", "fp32": tmp_path / "b"}
        second = export_student(case.job(case.student, folders), process)
    assert [result.precision for result in first + second] == ["fp16", "int8", "fp32"]
    for result in first + second:
        assert result.sha256 == case.results[result.precision].sha256


def test_an_op_that_litert_lacks_is_reported(case, tmp_path):
    import keras

    tiny(keras.ops.erf).save(tmp_path / "erf.keras")
    with pytest.raises(ExportError, match=r"tiny-fp32.tflite: must hold built-in LiteRT ops only, got tf.Erf\. "):
        run_here(tmp_path / "erf.keras", {"fp32": tmp_path}, case.arguments())
    assert [path.name for path in tmp_path.iterdir()] == ["erf.keras"]


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated:UserWarning")  # TensorFlow's own, in its calibrator
def test_a_float_op_left_in_int8_is_reported_and_fp32_is_still_written(case, tmp_path):
    import keras

    tiny(keras.ops.sin).save(tmp_path / "sin.keras")
    folders = {"int8": tmp_path / "int8", "fp32": tmp_path / "fp32"}
    for folder in folders.values():
        folder.mkdir()
    with pytest.raises(ExportError, match=r"tiny-int8.tflite: must hold no float op, got .*SIN.*--precision") as raised:
        run_here(tmp_path / "sin.keras", folders, case.arguments())
    assert [result.precision for result in raised.value.results] == ["fp32"]
    assert [path.name for path in folders["fp32"].iterdir()] == ["tiny-fp32.tflite"]
    assert not list(folders["int8"].iterdir())
    layer = re.search(r"SIN \(([^)]+)\)", str(raised.value))[1]
    (kept,) = run_here(tmp_path / "sin.keras", {"int8": tmp_path}, case.arguments(keep_float=[layer]))
    assert [row.op for row in kept.op_types if row.output == "float32"] == ["DEQUANTIZE", "SIN"]


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated:UserWarning")  # TensorFlow's own, in its calibrator
def test_a_layer_that_is_kept_float_is_the_only_one(case, tmp_path):
    student, _ = convert.load_student(case.student, 3)
    conv, depthwise, *_, dense = [layer.name for layer in student.layers if hasattr(layer, "kernel")]
    (result,) = run_here(case.student, {"int8": tmp_path}, case.arguments(keep_float=[dense, conv]))
    assert result.file == "tiny-int8-keep_float.tflite" and result.keep_float == sorted([dense, conv])
    floats = [(row.op, row.count) for row in result.op_types if row.weights == "float32"]
    assert floats == [("CONV_2D", 1), ("FULLY_CONNECTED", 1)]
    assert result.weight_scales == WeightScales(3, 0, 2)
    assert result.parity.agreement >= 0.96 and result.input.scale == pytest.approx(2 / 255, rel=1e-6)
    graph = read_graph((tmp_path / result.file).read_bytes(), "kept")
    made = {op.name: graph.tensors[op.outputs[0]].name for op in graph.ops}
    names = convert.layer_names(student)
    assert names.of(made["FULLY_CONNECTED"]) == dense
    tensors = [graph.tensors[index].name for op in graph.ops for index in op.outputs]
    by_file = layers_in(tensors)
    assert [by_file.of(tensor) for tensor in tensors] == [names.of(tensor) for tensor in tensors]
    first_of = {op.name: op.first for op in inspect_file(tmp_path / result.file).float_ops}
    assert (first_of["CONV_2D"], first_of["FULLY_CONNECTED"]) == (conv, dense), "as --keep-float takes them"
    assert first_of["DEQUANTIZE"] in (conv, dense) and first_of["QUANTIZE"] in (conv, dense)


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated:UserWarning")
def test_a_layer_that_the_student_does_not_have_is_refused_with_those_it_has(case, tmp_path):
    student, _ = convert.load_student(case.student, 3)
    conv = next(layer.name for layer in student.layers if hasattr(layer, "kernel"))
    message = rf"must be layers of the student .*, got '{conv}x'. Did you mean '{conv}'.*\? The layers .*: {conv}, "
    with pytest.raises(RecipeError, match=message) as raised:
        run_here(case.student, {"int8": tmp_path}, case.arguments(keep_float=[f"{conv}x"]))
    near, shown = re.search(r"mean (.*)\? The layers with an op: (.*)\.", str(raised.value)).groups()
    assert {name.strip("'") for name in near.split(" or ")} <= set(shown.split(", "))
    assert not list(tmp_path.iterdir())


def test_a_file_that_disagrees_with_its_student_is_not_written(case, tmp_path, monkeypatch):
    turned = lambda student: lambda shown: np.eye(3, dtype=np.float32)[[1] * len(shown)]  # noqa: E731
    monkeypatch.setattr(convert, "probabilities_of", turned)
    with pytest.raises(ExportError, match=r"tiny-fp32.tflite: must agree .* at least 99.9% .*, got 33.3% of 51"):
        run_here(case.student, {"fp32": tmp_path}, case.arguments())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["fp16", "int8_dynamic", "int8", "int16x8"])
def test_rounding_without_calibration_images_is_refused(case, tmp_path, precision):
    with pytest.raises(ExportError, match=rf"tiny-{precision}.tflite: must be calibrated, got no images"):
        run_here(case.student, {precision: tmp_path}, case.arguments(calibration=[]))


def test_an_unreadable_calibration_image_is_reported(case, tmp_path):
    with pytest.raises(ImageError, match="0/missing.png: must be there"):
        run_here(case.student, {"int8": tmp_path}, case.arguments(calibration=["0/missing.png"]))


def test_the_message_of_the_converter_is_reported(case):
    class Fails:
        def convert(self):
            raise RuntimeError("Quantization not yet supported for op: 'X'.\nsecond line")

    with pytest.raises(ExportError, match=r"a.tflite: must convert to LiteRT, got RuntimeError: Quant.*'X'\.\\nsecond"):
        convert._converted(Fails(), "a.tflite")


def test_an_op_without_int16x8_is_reported_once(case):
    """As the converter says it of mobilenetv3_small."""

    class Fails:
        def convert(self):
            raise RuntimeError("Quantization to 16x8-bit not yet supported for op: 'HARD_SWISH'.\n" * 9)

    with pytest.raises(ExportError, match=r"^a.tflite: must hold ops .* in int16x8, got HARD_SWISH\. Leave"):
        convert._converted(Fails(), "a.tflite")


def test_a_student_of_other_classes_is_refused(case):
    with pytest.raises(ExportError, match=r"must go from .* to the logits of 4 classes, got .*3\)\]"):
        convert.load_student(case.student, 4)


def test_a_file_that_is_no_keras_model_is_refused(tmp_path):
    (tmp_path / "student.keras").write_text("hello")
    with pytest.raises(ExportError, match=r"student.keras: must be a Keras model without code in it, got \w+: "):
        convert.load_student(tmp_path / "student.keras", 3)


@pytest.fixture
def child(case, tmp_path, monkeypatch):
    """export_student with some other program in the place of the converting process."""

    def run(program: str):
        monkeypatch.setattr(tensorflow_process, "_command", lambda module: ["-c", program])
        with converting_process() as process:
            return export_student(case.job(case.student, {"fp32": tmp_path}), process)

    return run


def test_a_bug_keeps_its_traceback(child):
    with pytest.raises(RuntimeError, match=r"(?s)status 1:\nTraceback .*in <module>.*ZeroDivisionError"):
        child("import sys; sys.stdin.read(1); print('noise', file=sys.stderr); 1 / 0")


def test_a_process_that_ends_before_it_reads_is_reported(child):
    with pytest.raises(RuntimeError, match="status 3"):
        child("import os; os.close(0); os._exit(3)")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_is_reported(child):
    with pytest.raises(ExportError, match=r"export: must run to its end, got SIGKILL .*memory"):
        child("import os; os.kill(os.getpid(), 9)")


def test_a_fault_of_the_system_is_an_os_error(child):
    program = """
from kd2mobile.backend.child import serve

def answer(request, give):
    raise OSError(28, "No space left on device", "x.tflite")

serve(answer, dict)
"""
    with pytest.raises(OSError, match="No space left on device: 'x.tflite'") as raised:
        child(program)
    assert raised.value.errno == 28


def test_without_tensorflow_the_error_names_the_extra(case, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtraError, match=r'export: needs the package tensorflow.*\[train\]"'):
        export_student(case.job(case.student, {"fp32": tmp_path}), converting_process())


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated:UserWarning")  # TensorFlow's own, in its calibrator
def test_one_scale_per_tensor(case, tmp_path):
    """As the file has it, beside the default's scale a channel; what has no scales keeps its name and its bytes."""
    folders = {precision: tmp_path for precision in ("fp16", "int8_dynamic", "int8")}
    results = run_here(case.student, folders, case.arguments(per_tensor=True))
    assert [result.file for result in results] == [
        "tiny-fp16.tflite", "tiny-int8_dynamic-per_tensor.tflite", "tiny-int8-per_tensor.tflite",
    ]  # fmt: skip
    int8 = Interpreter(model_path=str(tmp_path / "tiny-int8-per_tensor.tflite")).get_tensor_details()
    assert {len(tensor["quantization_parameters"]["scales"]) for tensor in int8} <= {0, 1}
    assert results[2].weight_scales == WeightScales(0, 5, 0) and results[2].per_tensor
    default = case.results["int8"]
    assert default.weight_scales == WeightScales(5, 0, 0) and not default.per_tensor
    assert results[0].sha256 == case.results["fp16"].sha256 and not results[0].per_tensor
