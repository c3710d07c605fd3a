"""MobileNet v3-small in layers of its own answers as the one of keras.applications, whose weights it takes by name."""

import keras
import numpy as np
import pytest

from kd2mobile.students import STUDENTS, build_student
from kd2mobile.students.registry import body_layers

from ..conftest import fit_statistics

PX, CLASSES = 75, 4  # odd at every stride but one: the padding of both has to agree


def images():
    return np.random.default_rng(2).integers(0, 256, (4, PX, PX, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def theirs():
    """keras.applications' own, whole and with its preprocessing: pixels of 0..255 to logits."""
    model = keras.applications.MobileNetV3Small((PX, PX, 3), weights=None, classes=CLASSES, classifier_activation=None)
    rng = np.random.default_rng(6)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.gamma.assign(rng.uniform(0.5, 1.5, layer.gamma.shape))
            layer.beta.assign(rng.uniform(-0.5, 0.5, layer.beta.shape))
    fit_statistics(model, images().astype(np.float32))
    return model


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    file = tmp_path_factory.mktemp("v3") / "theirs.weights.h5"
    theirs.save_weights(file)
    student = build_student("mobilenetv3_small", PX, CLASSES, str(file), seed=0)
    student.get_layer("conv_2").set_weights(theirs.get_layer("conv_2").get_weights())
    kernel, bias = theirs.get_layer("logits").get_weights()
    student.get_layer("logits").set_weights([kernel[0, 0], bias])
    return student


def test_it_takes_student_pixels_and_outputs_as_keras_own_with_its_preprocessing(theirs, ours):
    expected = np.asarray(theirs(images().astype(np.float32), training=False))
    got = np.asarray(ours((images() / 127.5 - 1).astype(np.float32), training=False))
    assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max(), "the images have to make a difference"
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_every_layer_of_the_body_was_filled(theirs, ours):
    body = [layer for layer in body_layers(ours, STUDENTS["mobilenetv3_small"].body_end) if layer.weights]
    head = ("conv_2", "logits")
    assert [layer.name for layer in body] == [x.name for x in theirs.layers if x.weights and x.name not in head]
    for layer in body:
        for a, b in zip(layer.get_weights(), theirs.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_file_of_keras_2_which_spells_the_layers_otherwise(theirs, ours, tmp_path):
    import tf_keras

    older = tf_keras.applications.MobileNetV3Small((PX, PX, 3), weights=None, include_top=False)
    body = keras.applications.MobileNetV3Small((PX, PX, 3), weights=None, include_top=False)
    filled = [layer for layer in older.layers if layer.weights]
    assert filled[0].name == "Conv" and filled[3].name == "expanded_conv/depthwise/BatchNorm"
    for layer, twin in zip(filled, [layer for layer in body.layers if layer.weights], strict=True):
        layer.set_weights(theirs.get_layer(twin.name).get_weights())
    older.save_weights(tmp_path / "older.h5")
    student = build_student("mobilenetv3_small", PX, CLASSES, str(tmp_path / "older.h5"), seed=0)
    for layer in body_layers(student, STUDENTS["mobilenetv3_small"].body_end):
        for a, b in zip(layer.get_weights(), ours.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
