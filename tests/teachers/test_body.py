"""Bodies and their weights: files with a top, without, of another network, damaged, and downloads that fail."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from kd2mobile.errors import TeacherError, WeightsError
from kd2mobile.teachers.body import build_body
from kd2mobile.teachers.zoo import TEACHERS, Architecture
from tests.teachers.conftest import PX, tiny

WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
TINY = Architecture("Tiny", PX, 8, "tf")


@pytest.fixture(autouse=True)
def _tiny(tiny_teacher):
    pass


def body_of(weights):
    return build_body(TINY, PX, str(weights))


@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
@pytest.mark.parametrize("top", [True, False])
def test_a_file_serves_with_its_top_and_without(tmp_path, suffix, top):
    whole = tiny((PX, PX, 3), include_top=top)
    path = tmp_path / f"stored{suffix}"
    whole.save_weights(path) if suffix == ".weights.h5" else whole.save(path)
    body = body_of(path)
    assert body.output_shape == (None, 8)
    for ours, stored in zip(body.get_weights(), whole.get_weights(), strict=False):
        assert np.array_equal(ours, stored)


@pytest.mark.parametrize("top", [True, False])
@pytest.mark.filterwarnings("ignore:.*HDF5.*")
def test_the_older_hdf5_serves_too(tmp_path, top):
    whole = tiny((PX, PX, 3), include_top=top)
    whole.save(tmp_path / "stored.h5")
    assert all(map(np.array_equal, body_of(tmp_path / "stored.h5").get_weights(), whole.get_weights()))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    other = keras.Sequential([keras.Input((PX, PX, 3)), keras.layers.Conv2D(5, 3), keras.layers.BatchNormalization()])
    other.save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(
        WeightsError, match=r"other.weights.h5: must hold the weights of Tiny, without its head or with"
    ) as e:
        body_of(tmp_path / "other.weights.h5")
    assert "\n" not in str(e.value) and "Give a .weights.h5, .h5 or .keras file of that network" in str(e.value)


def test_a_damaged_file_is_refused(tmp_path):
    path = tmp_path / "cut.weights.h5"
    tiny((PX, PX, 3), include_top=False).save_weights(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="cut.weights.h5: must hold the weights of Tiny"):
        body_of(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        WeightsError, match="gone.h5: must be a weights file, got no such file. Check --teacher-weights"
    ):
        body_of(tmp_path / "gone.h5")


def test_weights_that_hold_nan_are_refused(tmp_path):
    body = tiny((PX, PX, 3), include_top=False)
    body.set_weights([np.full_like(w, np.nan) for w in body.get_weights()])
    body.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(WeightsError, match="must be finite, got NaN"):
        body_of(tmp_path / "nan.weights.h5")


def test_a_size_below_the_smallest_is_refused():
    with pytest.raises(
        TeacherError, match="teacher.input_px: must be at least 71 for Xception, got 64. Use 299, its own."
    ):
        build_body(TEACHERS["xception"], 64, "none")


def test_a_failed_download_names_the_file_to_give_instead(monkeypatch):
    def no_network(name, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -2] Name or service not known")

    monkeypatch.setattr(file_utils, "get_file", no_network)
    with pytest.raises(WeightsError, match="--teacher-weights imagenet, MobileNetV2: must be downloadable") as caught:
        build_body(TEACHERS["mobilenetv2"], 96, "imagenet")
    assert "Name or service not known" in str(caught.value)
    assert "Fetch mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5 from https://" in str(caught.value)
    assert "give it with `--teacher-weights FILE`" in str(caught.value)


def test_efficientnet_weights_from_a_file_get_the_pixels_of_a_download(tmp_path, monkeypatch):
    entry = TEACHERS["efficientnetb0"]
    published = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    norm = next(layer for layer in published.layers if isinstance(layer, keras.layers.Normalization))
    std = np.array([0.229, 0.224, 0.225], np.float32)
    norm.set_weights([np.array([0.485, 0.456, 0.406], np.float32), std, *norm.get_weights()[2:]])
    path = tmp_path / "efficientnetb0_notop.weights.h5"
    published.save_weights(path)
    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(path))
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    bodies = [build_body(entry, 32, weights) for weights in ("imagenet", str(path))]
    first_pixels = [keras.Model(body.input, body.get_layer("stem_conv").input)(pixels) for body in bodies]
    np.testing.assert_allclose(first_pixels[1], first_pixels[0], rtol=1e-4, atol=1e-5)
    assert abs(np.asarray(first_pixels[0]).std() - 1) < 0.5


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no ../shared/weights beside this checkout")
def test_the_real_weights_with_and_without_their_top_are_the_same_body():
    entry = TEACHERS["mobilenetv2"]
    bodies = [build_body(entry, 96, str(WEIGHTS / f"mobilenet_v2_1.0_224{t}.weights.h5")) for t in ("", "_notop")]
    assert all(map(np.array_equal, *(body.get_weights() for body in bodies)))
    with pytest.raises(WeightsError, match="must hold the weights of MobileNetV2"):
        build_body(entry, 96, str(WEIGHTS / "mobilenet_0.25_224_notop.weights.h5"))
