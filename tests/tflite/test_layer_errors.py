import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from kd2mobile.tflite import convert
from kd2mobile.tflite.layer_errors import layer_errors
from kd2mobile.tflite.layers import DEPTHWISE, read_layers
from kd2mobile.tflite.results import LayerError, LayerErrors
from tests.made_results import tflite_results

from .conftest import dark_images


@pytest.fixture(scope="module")
def student(case):
    return convert.load_student(case.student, 3)[0]


@pytest.fixture(scope="module")
def names(student):
    return convert.layer_names(student)


def answers(model: bytes, images: np.ndarray) -> np.ndarray:
    """What plain LiteRT answers, without the delegate that rounds otherwise: float64 [images, classes]."""
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    classify = Interpreter(model_content=model, experimental_op_resolver_type=kernels).get_signature_runner("classify")
    scale, zero_point = classify.get_output_details()["probabilities"]["quantization"]
    raw = np.stack([classify(image=image[None])["probabilities"][0] for image in images]).astype(np.float64)
    return (raw - zero_point) * scale if scale else raw


def test_the_error_at_the_end_is_that_of_the_answers(case, names):
    shown, _ = dark_images(12)
    models = [case.file(precision).read_bytes() for precision in ("int8", "fp32")]
    errors = layer_errors(*models, shown, names, "a.tflite")
    quantized, exact = (answers(model, shown) for model in models)
    noise = np.sqrt(((quantized - exact) ** 2).mean())
    last = errors[-1]
    assert (last.layer, last.op, last.dtype) == ("probabilities", "SOFTMAX", "int8")
    assert last.error == pytest.approx(noise / exact.std(), rel=1e-6)
    assert last.steps == pytest.approx(noise * 256, rel=1e-6)
    assert last.sqnr_db == pytest.approx(20 * np.log10(np.sqrt((exact**2).mean()) / noise), rel=1e-6)


def test_every_layer_with_weights_has_a_line_in_the_order_of_the_graph(case, student, names):
    errors = layer_errors(case.file("int8").read_bytes(), case.file("fp32").read_bytes(), dark_images(3)[0], names, "a")
    lines = [line.layer for line in errors]
    assert [layer for layer in lines if layer in names.weighted] == [
        layer.name for layer in student.layers if layer.name in names.weighted
    ]
    recorded = case.results["int8"].layer_errors
    assert recorded.images == 51 and [line.layer for line in recorded.layers] == lines
    assert case.results["fp16"].layer_errors is None


def test_a_file_beside_itself_has_no_error(case, names):
    model = case.file("fp32").read_bytes()
    errors = layer_errors(model, model, dark_images(3)[0], names, "a")
    assert {(line.error, line.own_error, line.sqnr_db, line.steps) for line in errors} == {(0.0, 0.0, None, None)}


def test_another_converter_s_names_are_matched_by_op_and_layer(case, names):
    """Here the model's own scope is called otherwise, so that no tensor has the same name."""
    int8, fp32 = (case.file(precision).read_bytes() for precision in ("int8", "fp32"))
    renamed = fp32.replace(b"functional_", b"quantized__")
    assert renamed != fp32
    shown = dark_images(3)[0]
    assert layer_errors(int8, renamed, shown, names, "a") == layer_errors(int8, fp32, shown, names, "a")


def test_the_error_of_a_spoiled_layer_is_attributed_to_it(case, names):
    model = bytearray(case.file("int8").read_bytes())
    (depthwise,) = (layer for layer in read_layers(model) if layer.kind == DEPTHWISE)
    depthwise.weights[:] = depthwise.weights // 2
    errors = layer_errors(bytes(model), case.file("fp32").read_bytes(), dark_images(6)[0], names, "a")
    (line,) = (line for line in errors if line.op == "DEPTHWISE_CONV_2D")
    before, after = errors[: errors.index(line)], errors[errors.index(line) + 1 :]
    assert line.error == pytest.approx(line.own_error, rel=0.1) and line.own_error > 0.3
    assert all(other.error < 0.03 for other in before) and max(other.error for other in after) > 0.2
    assert all(other.own_error < 0.05 for other in (*before, *after)), "the others make the best of what they get"


def test_the_first_layer_has_no_error_but_its_own(case, names):
    models = [case.file(precision).read_bytes() for precision in ("int8", "fp32")]
    first = layer_errors(*models, dark_images(6)[0], names, "a")[0]
    assert first.error == pytest.approx(first.own_error, rel=1e-3) and first.error > 0


def test_the_worst_are_those_with_the_largest_errors():
    layers = [
        LayerError(name, "CONV_2D", "int8", error, error, None, None)
        for name, error in zip("abcd", (0.1, None, 0.4, 0.2), strict=True)
    ]
    assert [layer.layer for layer in LayerErrors(1, layers).worst(2)] == ["c", "d"]
    assert tflite_results().worst_layers() == []
