"""The body's weights: every layout that Keras has written, and what is said when a file does not fit."""

import importlib
import warnings

import h5py
import keras
import numpy as np
import pytest

from kd2mobile.errors import WeightsError
from kd2mobile.students import build_student

PX, CLASSES = 32, 3


@pytest.fixture(scope="module", params=[True, False], ids=["with-top", "without-top"])
def published(request):
    """A MobileNet-0.25 of keras.applications with weights, batch statistics and all, that nobody else has."""
    model = keras.applications.MobileNet((PX, PX, 3), 0.25, include_top=request.param, weights=None, classes=10)
    rng = np.random.default_rng(4)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in model.get_weights()])
    return model


def assert_body_equals(student, model):
    for layer in model.layers:
        if layer.weights and layer.name != "conv_preds":
            for a, b in zip(layer.get_weights(), student.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_files_of_keras_3(published, tmp_path, suffix):
    file = tmp_path / f"body{suffix}"
    published.save(file) if suffix == ".keras" else published.save_weights(file)
    assert_body_equals(build_student("mobilenet025", PX, CLASSES, str(file), seed=0), published)


@pytest.mark.parametrize("whole", [True, False], ids=["model.save", "save_weights"])
def test_files_of_older_keras(published, tmp_path, whole):
    file = tmp_path / "body.h5"
    published.save(file)
    if not whole:  # what save_weights of Keras 2 wrote is the same group at the file's root
        with h5py.File(file, "r") as model, h5py.File(tmp_path / "weights.h5", "w") as weights:
            for name in model["model_weights"]:
                model.copy(f"model_weights/{name}", weights)
            weights.attrs.update(model["model_weights"].attrs)
        file = tmp_path / "weights.h5"
    assert_body_equals(build_student("mobilenet025", PX, CLASSES, str(file), seed=0), published)


def test_the_head_depends_on_the_seed_and_not_on_the_body(published, tmp_path):
    published.save_weights(tmp_path / "body.weights.h5")
    filled = build_student("mobilenet025", PX, CLASSES, str(tmp_path / "body.weights.h5"), seed=5)
    empty = build_student("mobilenet025", PX, CLASSES, "none", seed=5)
    for a, b in zip(filled.get_layer("logits").get_weights(), empty.get_layer("logits").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_published_mobilenet_files_fill_the_same_body(shared_file, pixels):
    top, notop = shared_file("mobilenet_0.25_224.weights.h5"), shared_file("mobilenet_0.25_224_notop.weights.h5")
    students = [build_student("mobilenet025", PX, CLASSES, str(file), seed=0) for file in (top, notop)]
    reference = keras.applications.MobileNet((PX, PX, 3), 0.25, include_top=False, weights=str(notop))
    for student in students:
        assert_body_equals(student, reference)
    body = keras.Model(students[0].input, students[0].get_layer("conv_pw_13_relu").output)
    np.testing.assert_array_equal(body(pixels(PX)), reference(pixels(PX)))


def refusal(name, weights):
    with pytest.raises(WeightsError) as caught:
        build_student(name, PX, CLASSES, str(weights), seed=0)
    return str(caught.value)


def test_a_file_of_another_width(published, tmp_path):
    file = tmp_path / "narrow.weights.h5"
    published.save_weights(file)
    assert refusal("mobilenet050", file) == (
        f"{file}, layer conv1: must fit mobilenet050: 3x3x3x16, got 3x3x3x8. "
        "Give the weights of the body of a mobilenet050 (its width too), or `--student-weights none`."
    )


def test_a_file_of_another_network(tmp_path):
    file = tmp_path / "other.weights.h5"
    build_student("small_cnn", PX, CLASSES, "none", seed=0).save_weights(file)
    assert f"{file}, layer conv1: must fit mobilenet025: 3x3x3x8, got no such layer." in refusal("mobilenet025", file)


def test_a_file_with_nan(tmp_path):
    file = tmp_path / "nan.weights.h5"
    model = build_student("small_cnn", PX, CLASSES, "none", seed=0)
    model.get_layer("block2_conv").kernel.assign(np.full((3, 3, 32, 64), np.nan))
    model.save_weights(file)
    assert f"{file}, layer block2_conv: must be finite" in refusal("small_cnn", file)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path / "no.h5", tmp_path):
        assert f"{path}: must be a weights file, got no such file. Check the path" in refusal("mobilenet025", path)


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "zip", "hdf5"])
def test_a_file_that_holds_no_weights(tmp_path, damage):
    file = tmp_path / "bad.weights.h5"
    build_student("small_cnn", PX, CLASSES, "none", seed=0).save_weights(file)
    whole = file.read_bytes()
    if damage == "zip":
        import zipfile

        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "no model in here")
    elif damage == "hdf5":
        with h5py.File(file, "w") as empty:
            empty["x"] = [1.0]
    else:
        file.write_bytes({"text": b"not weights at all", "empty": b"", "cut": whole[: len(whole) // 2]}[damage])
    assert refusal("small_cnn", file).startswith(f"{file}: must ")


@pytest.fixture
def keras_download(monkeypatch):
    """Stands in for Keras's download: what `weights="imagenet"` was asked for, and a body that nobody trained."""
    asked = []

    def stand_in(real):
        def application(input_shape, weights, include_top, **options):
            if weights == "imagenet":
                asked.append((real.__name__, input_shape[0], options.get("alpha", 1.0), include_top))
                print("Downloading data")
                if asked[0] == "fail":
                    raise Exception("URL fetch failure on https://example.invalid: None -- no network")
            return real(input_shape, weights=None, include_top=include_top, **options)

        return application

    for name in ("MobileNet", "MobileNetV2", "MobileNetV3Small"):
        monkeypatch.setattr(keras.applications, name, stand_in(getattr(keras.applications, name)))
    return asked


@pytest.mark.parametrize(
    ("student", "px", "requested"),
    [
        ("mobilenet025", 96, ("MobileNet", 224, 0.25, False)),
        ("mobilenet025", 128, ("MobileNet", 128, 0.25, False)),
        ("mobilenetv2_035", 96, ("MobileNetV2", 96, 0.35, False)),
        ("mobilenetv2_100", 64, ("MobileNetV2", 224, 1.0, False)),
        ("mobilenetv3_small", 64, ("MobileNetV3Small", 224, 1.0, False)),
    ],
)
def test_imagenet_weights_of_the_nearest_published_size(keras_download, capsys, student, px, requested):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_student(student, px, CLASSES, "imagenet", seed=0)
    assert keras_download == [requested]
    out, err = capsys.readouterr()
    assert out == "" and "Downloading data" in err


def test_a_failed_download_names_the_file_to_give(keras_download, monkeypatch, tmp_path):
    keras_download.append("fail")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    message = refusal("mobilenet050", "imagenet")
    assert message.startswith("mobilenet050, ImageNet weights: must be downloaded by Keras, got Exception: URL fetch")
    assert "Get mobilenet_5_0_224_tf_no_top.h5" in message and "`--student-weights FILE`" in message
    assert "damaged" not in message
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mobilenet_5_0_224_tf_no_top.h5").write_bytes(b"half of it")
    assert f"Delete {tmp_path}/models/mobilenet_5_0_224_tf_no_top.h5: it is damaged." in refusal(
        "mobilenet050", "imagenet"
    )


@pytest.mark.parametrize(
    ("student", "file"),
    [
        ("mobilenetv2_035", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"),
        ("mobilenetv2_050", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.5_224_no_top.h5"),
        ("mobilenetv3_small", "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"),
    ],
)
def test_the_file_to_give_is_the_one_that_keras_would_download(monkeypatch, student, file):
    expected = []

    def offline(name, *_, **__):
        expected.append(name)
        raise Exception("URL fetch failure: no network")

    monkeypatch.setattr(importlib.import_module("keras.src.utils.file_utils"), "get_file", offline)
    assert f"Get {file} on another machine" in refusal(student, "imagenet")
    assert expected == [file]


def test_squeezenet_has_no_download_and_says_which_file_fits():
    message = refusal("squeezenet", "imagenet")
    assert "`--student-weights FILE` with squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5" in message
    assert "DeepCognition/keras-squeezenet" in message


@pytest.mark.parametrize("student", ["small_cnn", "mnist_cnn", "mlp-800-800"])
def test_a_student_that_nobody_trained_on_imagenet(student):
    assert "Train it from scratch with `--student-weights none`" in refusal(student, "imagenet")


def test_published_mobilenetv2_file_fills_the_body(shared_file, pixels):
    file = shared_file("mobilenet_v2_1.0_224_notop.weights.h5")
    student = build_student("mobilenetv2_100", PX, CLASSES, str(file), seed=0)
    reference = keras.applications.MobileNetV2((PX, PX, 3), include_top=False, weights=str(file))
    body = keras.Model(student.input, student.get_layer("out_relu").output)
    np.testing.assert_array_equal(body(pixels(PX)), reference(pixels(PX)))
