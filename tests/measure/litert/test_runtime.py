import subprocess
import sys
import zipfile

import numpy as np
import pytest

from kd2mobile.errors import ModelFileError, RecipeError
from kd2mobile.inspection.metadata import FileMetadata
from kd2mobile.measure.litert import runtime
from kd2mobile.measure.litert.runtime import Classifier
from tests.tiny_models import by_hand, changed, pixels, probabilities, with_input

COLOURS = [(255, 0, 0), (10, 200, 30), (128, 128, 128), (0, 0, 0)]


@pytest.mark.parametrize("name", ["uint8", "pooled", "logits"])
@pytest.mark.parametrize("colour", COLOURS)
def test_probabilities_are_those_worked_out_by_hand(models, name, colour):
    answer = probabilities(Classifier(models / f"{name}.tflite"), pixels(colour))
    assert answer.dtype == np.float32 and answer.shape == (3,)
    np.testing.assert_allclose(answer, by_hand(colour), atol=1e-6)


@pytest.mark.parametrize("name", ["float", "open_batch"])
@pytest.mark.parametrize("normal", [(127.5, 127.5), ([127.5] * 3, (127.5, 127.5, 127.5))])
def test_float_input_is_normalized_by_the_given_mean_and_std(models, name, normal):
    classifier = Classifier(models / f"{name}.tflite", mean=normal[0], std=normal[1])
    np.testing.assert_allclose(probabilities(classifier, pixels((10, 200, 30))), by_hand((10, 200, 30)), atol=1e-6)


def test_mean_and_std_are_by_channel(models):
    classifier = Classifier(models / "float.tflite", mean=(0, 10, 255), std=(255, 20, 51))
    blue, green, red = np.exp(4 * np.array([(204 - 255) / 51, (50 - 10) / 20, 102 / 255]))
    expected = np.array([blue, green, red]) / (blue + green + red)
    np.testing.assert_allclose(probabilities(classifier, pixels((102, 50, 204))), expected, atol=1e-6)


@pytest.mark.parametrize(("name", "dtype"), [("full_uint8", "uint8"), ("full_int8", "int8")])
@pytest.mark.parametrize("colour", COLOURS)
def test_an_8_bit_input_takes_the_pixel_itself(models, name, dtype, colour):
    classifier = Classifier(models / f"{name}.tflite")
    assert classifier.input.dtype == classifier.output.dtype == dtype
    assert classifier.input.scale == pytest.approx(2 / 255) and classifier.output.scale == 1 / 256
    answer = probabilities(classifier, pixels(colour))
    np.testing.assert_allclose(answer, by_hand(colour), atol=0.06)  # half a pixel's offset and three roundings
    assert np.array_equal(answer * 256, np.round(answer * 256))


@pytest.mark.parametrize("name", ["wide_uint8", "wide_int8"])
@pytest.mark.parametrize("colour", COLOURS)
def test_an_8_bit_input_of_another_scale_takes_what_stands_for_the_pixel(models, name, colour):
    mean, std = (124, 116, 104), (58, 57, 60)
    classifier = Classifier(models / f"{name}.tflite", mean=mean, std=std)
    assert 0.015 < classifier.input.scale < 0.025 and classifier.notes == []
    red, green, blue = (2 * (level - m) / s for level, m, s in zip(colour, mean, std, strict=True))
    powers = [np.e**value for value in (blue, green, red)]
    answer = probabilities(classifier, pixels(colour))
    np.testing.assert_allclose(answer, np.array(powers) / sum(powers), atol=0.02)


@pytest.mark.parametrize(("name", "dtype"), [("wide_uint8", "uint8"), ("wide_int8", "int8")])
def test_an_8_bit_input_of_another_scale_is_never_guessed(models, name, dtype):
    with pytest.raises(ModelFileError) as refused:
        Classifier(models / f"{name}.tflite")
    assert "must take pixels as 0..255, 0..1 or -1..1, or define their normalization" in str(refused.value)
    assert f"got {dtype} from -2.1" in str(refused.value) and "Give --mean and --std" in str(refused.value)


def test_a_narrower_scale_in_an_own_file_gets_the_same_pixels(models, own, tmp_path):
    """Its quantized input ends at pixel 204: what is darker must be seen as it is."""
    narrow = with_input(tmp_path / "narrow.tflite", (models / "full_uint8.tflite").read_bytes(), 0.00627451, 159)
    with pytest.raises(ModelFileError, match="got uint8 from -0.9976 to 0.6024 and no metadata"):
        Classifier(narrow)
    with zipfile.ZipFile(narrow, "a") as archive, zipfile.ZipFile(own("uint8")) as source:
        archive.writestr("kd2mobile.json", source.read("kd2mobile.json"))
    for colour in [(200, 10, 90), (60, 70, 50), (0, 0, 0)]:
        answer = probabilities(Classifier(narrow), pixels(colour))
        np.testing.assert_allclose(answer, by_hand(colour), atol=0.02)


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0, 0), (-0.5, 3), (float("nan"), 0), (float("inf"), 0)])
def test_a_scale_that_is_none_is_refused(models, tmp_path, scale, zero_point):
    path = with_input(tmp_path / "odd.tflite", (models / "full_int8.tflite").read_bytes(), scale, zero_point)
    with pytest.raises(ModelFileError, match="must"):
        Classifier(path)


def test_metadata_that_does_not_fit_a_plain_input_is_reported_and_not_used(models, monkeypatch):
    """As of a uint8 file whose metadata says mean 0, std 1: it means the pixel itself."""
    monkeypatch.setattr(runtime, "read_metadata", lambda path: FileMetadata(mean=[0.0], std=[1.0]))
    classifier = Classifier(models / "full_uint8.tflite")
    why = "the mean and std in its metadata do not fit its input and are not used"
    assert classifier.notes == [f"full_uint8.tflite: {why}"] and classifier.mean is None
    np.testing.assert_allclose(probabilities(classifier, pixels((9, 200, 7))), by_hand((9, 200, 7)), atol=0.06)
    monkeypatch.setattr(runtime, "read_metadata", lambda path: FileMetadata(mean=[0.0], std=[255.0]))
    assert Classifier(models / "full_uint8.tflite").std == [255]


def test_its_own_description(models):
    classifier = Classifier(models / "uint8.tflite", threads=2)
    assert (classifier.input_px, classifier.classes, classifier.last_op) == (8, 3, "SOFTMAX")
    assert classifier.input == ("uint8", None, None) and classifier.notes == []
    assert classifier.runtime.startswith("ai-edge-litert 2.") and classifier.runtime.endswith(", XNNPACK")
    assert classifier.init_ms > 0 and classifier.first_run_ms > 0
    assert Classifier(models / "sigmoid.tflite").last_op == "LOGISTIC"
    assert Classifier(models / "full_uint8.tflite").last_op == "SOFTMAX"  # behind it a QUANTIZE


def test_a_zip_behind_the_model_does_not_matter(models, packed):
    path = packed("uint8", {"labels.txt": "b\ng\nr\n", "large.txt": "x" * 100_000})
    assert zipfile.is_zipfile(path)
    colour = pixels((10, 200, 30))
    expected = probabilities(Classifier(models / "uint8.tflite"), colour)
    np.testing.assert_array_equal(probabilities(Classifier(path), colour), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two_inputs", "must take one image, got 2 inputs"),
        ("two_outputs", "must output one vector, got 2 outputs"),
        ("grey", "must take one RGB image [1, px, px, 3], got [1, 8, 8, 1]"),
        ("channels_first", "must take one RGB image [1, px, px, 3], got [1, 3, 8, 8]"),
        ("batch", "must take one image per run, got a batch of 2"),
        ("open_size", "must have a fixed input size, got [1, -1, -1, 3]"),
        ("oblong", "must take a square image, got 10 x 8 pixels"),
        ("integers", "must take 8-bit or float pixels, got int32"),
        ("heat_map", "must output one vector [1, classes] per image, got [1, 8, 3]"),
        ("winner", "must output one vector [1, classes] per image, got [1]"),
        ("flex", "must run in LiteRT, got the Flex op FlexMatrixInverse"),
    ],
)
def test_what_is_no_single_image_classifier_is_refused_with_the_reason(models, name, message):
    with pytest.raises(ModelFileError) as refused:
        Classifier(models / f"{name}.tflite")
    assert str(refused.value).startswith(f"{models / name}.tflite: {message}")


@pytest.mark.parametrize(
    ("op", "got", "next_step"),
    [
        (
            b"edgetpu-custom-op",
            "a file for the Edge TPU (its op edgetpu-custom-op)",
            "whose name does not end in _edgetpu",
        ),
        (b"my-op", "the custom op my-op", "Plain LiteRT does not have it: export the model without it."),
        (b"\xff-op", "the custom op ?-op", "Plain LiteRT does not have it"),
    ],
)
def test_a_custom_op_is_reported_with_the_next_step(models, tmp_path, op, got, next_step):
    def change(stored):
        last = stored.operatorCodes[stored.subgraphs[0].operators[-1].opcodeIndex]
        last.builtinCode, last.deprecatedBuiltinCode, last.customCode = 32, 32, op

    path = changed(tmp_path / "custom.tflite", (models / "uint8.tflite").read_bytes(), change)
    with pytest.raises(ModelFileError) as refused:
        Classifier(path)
    assert f"must run in LiteRT, got {got}. " in str(refused.value) and next_step in str(refused.value)
    assert "Flex" not in str(refused.value)


def test_names_that_are_not_utf8_change_nothing(models, tmp_path):
    def change(stored):
        graph = stored.subgraphs[0]
        graph.name = b"\xfe"
        for number, tensor in enumerate(graph.tensors):
            tensor.name = b"\xe9t\xe9 %d" % number

    path = changed(tmp_path / "latin.tflite", (models / "full_uint8.tflite").read_bytes(), change)
    here, there = Classifier(models / "full_uint8.tflite"), Classifier(path)
    assert there.last_op == "SOFTMAX" and there.runtime == here.runtime
    np.testing.assert_array_equal(there.outputs(pixels((1, 2, 3))), here.outputs(pixels((1, 2, 3))))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ([1, 5000, 5000, 3], "must take an image of at most 4096 x 4096 pixels, got 5000 x 5000"),
        ([1, 2**30, 2**30, 3], "must hold no tensor of more than 1.1 GB, got 3,458,764,514 GB"),
        ([1, 8, -5, 3], "must be a complete TensorFlow Lite model"),
        ([1, 0, 0, 3], "must have a fixed input size"),
        ([], "must take one RGB image"),
    ],
)
def test_absurd_shapes_are_refused_before_memory_is_taken(models, tmp_path, shape, message):
    def change(stored):
        tensor = stored.subgraphs[0].tensors[stored.subgraphs[0].inputs[0]]
        tensor.shape, tensor.shapeSignature = shape, None

    path = changed(tmp_path / "absurd.tflite", (models / "uint8.tflite").read_bytes(), change)
    with pytest.raises(ModelFileError, match=message):
        Classifier(path)


def test_answers_that_are_no_numbers_are_refused(models):
    with pytest.raises(ModelFileError, match="must output finite numbers, got NaN"):
        probabilities(Classifier(models / "nan.tflite"), pixels((0, 0, 0)))


@pytest.mark.parametrize("kept", [20, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(models, tmp_path, kept):
    whole = (models / "uint8.tflite").read_bytes()
    path = tmp_path / "cut.tflite"
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(ModelFileError, match="must be a complete TensorFlow Lite model, got .*not a valid Flatbuffer"):
        Classifier(path)


def test_files_that_are_something_else(tmp_path):
    (tmp_path / "empty.tflite").touch()
    (tmp_path / "text.tflite").write_text("hello, world")
    for name, message in [
        ("none.tflite", "must be a readable .tflite file, got No such file or directory. Check the path."),
        (".", "must be a readable .tflite file, got Is a directory"),
        ("empty.tflite", "must be a TensorFlow Lite model, got an empty file"),
        ("text.tflite", "must be a TensorFlow Lite model, got a file that starts with b'hello, w'"),
    ]:
        with pytest.raises(ModelFileError) as refused:
            Classifier(tmp_path / name)
        assert message in str(refused.value)


def test_a_float_input_is_never_guessed(models):
    with pytest.raises(ModelFileError) as refused:
        Classifier(models / "float.tflite")
    assert "must define how a pixel becomes a float" in str(refused.value)
    assert "--mean and --std" in str(refused.value)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (127.5, None, "must be given both --mean and --std, or neither, got mean alone. Add --std."),
        (None, 127.5, "got std alone. Add --mean."),
        (0.0, 0.0, "the std not 0, got mean 0.0, std 0.0"),
        ([1.0, 2.0], 1.0, "must be normalized by one finite value or three"),
        (float("nan"), 1.0, "must be normalized by one finite value or three"),
    ],
)
def test_bad_normalization_is_refused(models, mean, std, message):
    with pytest.raises(ModelFileError) as refused:
        Classifier(models / "float.tflite", mean=mean, std=std)
    assert message in str(refused.value)


def test_normalization_of_an_input_without_a_scale_is_noted_not_used(models):
    classifier = Classifier(models / "uint8.tflite", mean=0, std=1)
    assert classifier.notes == ["uint8.tflite: its uint8 input takes the pixel itself: --mean and --std are not used"]
    np.testing.assert_allclose(probabilities(classifier, pixels((9, 8, 7))), by_hand((9, 8, 7)), atol=1e-6)


def test_pixels_must_be_as_large_as_the_input(models):
    with pytest.raises(ValueError, match=r"uint8 \[8, 8, 3\], got uint8 \(9, 9, 3\)"):
        Classifier(models / "uint8.tflite").outputs(pixels((0, 0, 0), px=9))


def test_threads(models):
    with pytest.raises(RecipeError, match="benchmark.threads: must be at least 1, got 0"):
        Classifier(models / "uint8.tflite", threads=0)


def test_the_runtime_prints_nothing(models, capfd):
    Classifier(models / "uint8.tflite")
    assert capfd.readouterr() == ("", "")


def test_without_a_runtime_the_error_names_the_package_to_install(models, monkeypatch):
    monkeypatch.setattr(runtime, "RUNTIMES", {"no_such_runtime": "none", "another_one": "none"})
    with pytest.raises(ModelFileError) as refused:
        Classifier(models / "uint8.tflite")
    assert "LiteRT: must be installed to run a .tflite file" in str(refused.value)
    assert "pip install ai-edge-litert" in str(refused.value)


def test_tflite_runtime_serves_where_litert_is_missing(models):
    """A stand-in tflite_runtime with LiteRT's Interpreter, in a process that cannot import ai_edge_litert by name."""
    program = f"""
import importlib.metadata, sys, types
from ai_edge_litert import interpreter
stand_in = types.ModuleType("tflite_runtime.interpreter")
stand_in.Interpreter, stand_in.OpResolverType = interpreter.Interpreter, interpreter.OpResolverType
sys.modules |= {{"tflite_runtime": types.ModuleType("tflite_runtime"), "tflite_runtime.interpreter": stand_in}}
sys.modules |= {{"ai_edge_litert": None, "ai_edge_litert.interpreter": None}}
importlib.metadata.version = lambda name: {{"tflite-runtime": "2.14.0"}}[name]
from kd2mobile.measure.litert.runtime import Classifier
print(Classifier({str(models / "uint8.tflite")!r}).runtime)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "tflite-runtime 2.14.0, XNNPACK", done.stderr
