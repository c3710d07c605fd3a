"""SqueezeNet's published weights want BGR in 0..255 less the means; a student that holds them wants RGB in [-1, 1]."""

import h5py
import keras
import numpy as np
import pytest

from kd2mobile.students import STUDENTS, build_student
from kd2mobile.students.squeezenet import fold_caffe_preprocessing

PX, CLASSES = 40, 3
MEANS_BGR = np.array([103.939, 116.779, 123.68])


def write_keras_1(file, model):
    """The body's weights in the layout of Keras 1: no version, names with slashes, weights called uniform1, conv1_b."""
    with h5py.File(file, "w") as group:
        names = []
        for i, layer in enumerate(model.layers, start=1):
            if layer.name in ("pixels", "conv10", "logits", "dropout"):
                continue
            name = layer.name.replace("_", "/", 1) if layer.name.startswith("fire") else layer.name
            names.append(name.encode())
            stored = group.create_group(name)
            weights = dict(zip((f"uniform{i}", f"{name}_b"), layer.get_weights(), strict=False))
            stored.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in weights.items():
                stored[weight] = array
        group.attrs["layer_names"] = [b"input_1", *names, b"drop9"]
        for empty in ("input_1", "drop9"):
            group.create_group(empty).attrs["weight_names"] = []


@pytest.fixture(scope="module")
def random_file(tmp_path_factory):
    model = build_student("squeezenet", PX, CLASSES, "none", seed=11)
    rng = np.random.default_rng(11)
    for layer in model.layers:
        if layer.weights:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(0, 0.3, bias.shape)])
    file = tmp_path_factory.mktemp("squeezenet") / "squeezenet.h5"
    write_keras_1(file, model)
    return file


@pytest.fixture(params=["random", "published"])
def file(request, random_file, shared_file):
    return random_file if request.param == "random" else shared_file("squeezenet_v1.1/squeezenet_v1.1_notop.h5")


def body(model):
    return keras.Model(model.input, model.get_layer("fire9_concat").output)


def by_topology(file):
    """The body as Keras itself loads it, by topology; it wants Caffe's pixels."""
    model = body(STUDENTS["squeezenet"].build(keras, PX, CLASSES))
    model.load_weights(str(file))
    return model


def images():
    return np.random.default_rng(2).integers(0, 256, (3, PX, PX, 3), dtype=np.uint8)


def caffe(images):
    return images[..., ::-1].astype(np.float64) - MEANS_BGR


def student_input(images):
    return images / 127.5 - 1


def convolution(x, kernel, bias):
    """3x3, stride 2, valid, in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return np.einsum("nyxchw,hwco->nyxo", windows, kernel) + bias


def test_the_fold_is_exact_in_the_first_convolution(file):
    kernel, bias = (a.astype(np.float64) for a in by_topology(file).get_layer("conv1").get_weights())
    student = build_student("squeezenet", PX, CLASSES, str(file), seed=0)
    folded_kernel, folded_bias = (a.astype(np.float64) for a in student.get_layer("conv1").get_weights())
    expected = convolution(caffe(images()), kernel, bias)
    got = convolution(student_input(images()), folded_kernel, folded_bias)
    assert expected.shape == got.shape == (3, 19, 19, 64)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_the_folded_body_answers_as_the_published_one(file):
    expected = np.asarray(by_topology(file)(caffe(images()).astype(np.float32)))
    student = build_student("squeezenet", PX, CLASSES, str(file), seed=0)
    got = np.asarray(body(student)(student_input(images()).astype(np.float32)))
    assert expected.max() > 0
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * expected.max())


def test_everything_after_the_first_convolution_stays_unchanged(file):
    student = build_student("squeezenet", PX, CLASSES, str(file), seed=0)
    for layer in by_topology(file).layers:
        if layer.weights and layer.name != "conv1":
            for a, b in zip(layer.get_weights(), student.get_layer(layer.name).get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)


def test_a_student_saved_with_the_fold_is_not_folded_again(random_file, tmp_path):
    student = build_student("squeezenet", PX, CLASSES, str(random_file), seed=0)
    student.save_weights(tmp_path / "student.weights.h5")
    again = build_student("squeezenet", PX, CLASSES, str(tmp_path / "student.weights.h5"), seed=0)
    for a, b in zip(student.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_fold_by_hand():
    kernel = np.zeros((3, 3, 3, 1), np.float32)
    kernel[1, 1, 0, 0] = 2.0  # blue of the centre pixel
    weights = {"conv1": [kernel, np.array([10.0], np.float32)]}
    fold_caffe_preprocessing(weights)
    folded, bias = weights["conv1"]
    assert folded[1, 1, 2, 0] == 255.0 and np.count_nonzero(folded) == 1
    assert bias[0] == pytest.approx(10 + 2 * (127.5 - 103.939))
