"""The table of teachers against keras.applications itself."""

import inspect
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from kd2mobile.errors import UnknownNameError
from kd2mobile.teachers.preprocess import MODES, preprocess
from kd2mobile.teachers.zoo import TEACHERS

IN_KERAS = {
    name: make for name, make in vars(keras.applications).items() if inspect.isfunction(make) and name[0].isupper()
}
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)


def test_every_classifier_of_keras_is_listed():
    assert len(IN_KERAS) >= 38
    assert {TEACHERS[name].keras_name for name in TEACHERS} == set(IN_KERAS)
    assert all(name == TEACHERS[name].keras_name.lower() for name in TEACHERS)


@pytest.mark.parametrize("name", list(TEACHERS))
def test_the_mode_is_keras_own_preprocessing_of_that_network(name):
    module = sys.modules[IN_KERAS[TEACHERS[name].keras_name].__module__]
    expected = module.preprocess_input(PIXELS.astype(np.float32))
    ours = preprocess(PIXELS, TEACHERS[name].preprocess)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_a_mode_is_that_of_keras(mode):
    expected = keras.applications.imagenet_utils.preprocess_input(PIXELS.astype(np.float32), mode=mode)
    np.testing.assert_allclose(preprocess(PIXELS, mode), expected, rtol=0, atol=2e-5)


def test_none_leaves_the_pixels_and_an_unknown_mode_is_refused():
    assert np.array_equal(preprocess(PIXELS, "none"), PIXELS)
    with pytest.raises(ValueError, match="got 'zscore'"):
        preprocess(PIXELS, "zscore")
    assert set(MODES) == {TEACHERS[name].preprocess for name in TEACHERS}


@pytest.mark.parametrize("name", list(TEACHERS))
def test_keras_refuses_images_below_the_smallest_size(name):
    px = TEACHERS[name].smallest_px - 1
    with pytest.raises(ValueError, match=rf"at least {px + 1}x{px + 1}"):
        IN_KERAS[TEACHERS[name].keras_name](input_shape=(px, px, 3), include_top=False, weights=None)


@pytest.mark.parametrize("name", list(TEACHERS))
def test_every_classifier_is_built_at_its_smallest_size(name):
    px = TEACHERS[name].smallest_px
    build = IN_KERAS[TEACHERS[name].keras_name]
    with keras.StatelessScope():  # its variables are described, not filled: the big ones have gigabytes
        network = build(input_shape=(px, px, 3), weights=None, classifier_activation=None)
    assert network.input_shape == (None, px, px, 3) and network.output_shape == (None, 1000)
    assert network.layers[-1].activation is keras.activations.linear


@pytest.mark.parametrize("name", [n for n in TEACHERS if not n.startswith("mobilenetv3")])
@pytest.mark.filterwarnings("ignore:.*input_shape.*:UserWarning")
def test_the_size_is_the_one_of_keras_weights(name):
    with pytest.raises(ValueError, match=r"`input_shape` should be") as caught:
        IN_KERAS[TEACHERS[name].keras_name](input_shape=(77, 77, 3), include_top=True, weights="imagenet")
    assert re.search(rf"should be \({TEACHERS[name].px}, {TEACHERS[name].px}, 3\)", str(caught.value))


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UnknownNameError, match="Did you mean 'xception'"):
        TEACHERS["xeption"]


def test_listing_loads_no_framework():
    frameworks = {"keras", "tensorflow", "jax", "PIL", "sklearn"}
    code = f"import sys, kd2mobile.teachers.kinds; print({frameworks} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_teacher_has_a_summary():
    assert TEACHERS.summary("efficientnetb3") == "keras.applications.EfficientNetB3, 300 px"
