"""mixed_bfloat16: what it does to the logits is measured, recorded, and refused where it is too much."""

import keras
import numpy as np
import pytest

from kd2mobile.errors import TeacherError
from kd2mobile.teachers.teacher import open_teacher
from kd2mobile.transfer import dtype as dtypes
from kd2mobile.transfer.dtype import effect_of_dtype, set_dtype
from kd2mobile.transfer.label import label
from kd2mobile.transfer.store import Transfer
from tests.teachers.conftest import CLASSES
from tests.transfer.conftest import PX, write_teacher


def to_bfloat16(values):
    """float32 with 8 bits of precision: the sixteen lower bits rounded away, half to even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def test_all_but_the_last_layer_compute_in_bfloat16_with_weights_of_float32():
    keras.utils.set_random_seed(2)
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="hidden")])
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(3, name="logits"), layers.Activation("linear")])
    before = model.get_weights()
    set_dtype(model, "mixed_bfloat16")
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
    seen = np.random.default_rng(0).normal(0, 3, (6, 4)).astype(np.float32)
    (w1, b1), (w2, b2) = before[:2], before[2:]
    product = to_bfloat16(to_bfloat16(seen).astype(np.float64) @ to_bfloat16(w1))
    wanted = to_bfloat16(product + to_bfloat16(b1)).astype(np.float64) @ w2 + b2
    answer = model.predict_on_batch(seen)
    assert answer.dtype == np.float32
    exact = (seen.astype(np.float64) @ w1 + b1) @ w2 + b2
    off = np.abs(answer - wanted).max()
    assert off < 1e-5 or off < 0.3 * np.abs(answer - exact).max(), "a kernel may keep the sum before the bias unrounded"
    assert np.abs(answer - exact).max() > 1e-4, "it was not float32"


def test_the_effect_is_what_it_says(capsys):
    exact = np.array([[3.0, 1.0], [0.0, 2.0], [-5.0, 1.0]], np.float32)
    effect = effect_of_dtype(exact, exact + np.float32([[0.5, 0], [0, -0.25], [0, 0]]), "mixed_bfloat16", "mine")
    assert effect == {
        "pictures": 3,
        "mean_difference": 0.125,
        "largest_difference": 0.5,
        "largest_logit": 5.0,
        "top1_agreement": 1.0,
    }
    assert capsys.readouterr().err == (
        "mixed_bfloat16 beside float32: 100.0% of 3 validation pictures keep their top class; "
        "logits differ by 0.12 on average, 0.5 at most, of up to 5\n"
    )


@pytest.mark.parametrize(
    ("pictures", "changed", "refused"), [(10, 1, False), (10, 2, True), (200, 4, False), (200, 5, True)]
)
def test_under_98_percent_of_agreement_it_is_refused(pictures, changed, refused):
    exact = np.tile(np.float32([1, 0]), (pictures, 1))
    reduced = exact.copy()
    reduced[:changed] = 0, 1
    if not refused:
        assert effect_of_dtype(exact, reduced, "mixed_bfloat16", "mine")["top1_agreement"] == 1 - changed / pictures
        return
    with pytest.raises(TeacherError) as caught:
        effect_of_dtype(exact, reduced, "mixed_bfloat16", "mine")
    said = str(caught.value)
    assert said.startswith(
        "mine, teacher.dtype mixed_bfloat16: must leave 98% of the top classes as float32 has them, "
    )
    assert f"{1 - changed / pictures:.1%} of {pictures} validation pictures" in said
    assert said.endswith("Use `--teacher-dtype float32`.")


def test_nan_is_refused():
    exact = np.tile(np.float32([1, 0]), (3, 1))
    with pytest.raises(TeacherError, match="must leave 98% of the top classes"):
        effect_of_dtype(exact, exact * np.float32([1, np.nan]), "mixed_bfloat16", "mine")


def test_a_pass_in_bfloat16_is_recorded_with_its_effect(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(dtypes, "LEAST_AGREEMENT", 0.5)
    layers = keras.layers
    teacher = write_teacher(tmp_path / "deep", [layers.Dense(16, activation="relu"), layers.Dense(len(CLASSES))])
    root, split, views = pictures
    exact = label(tmp_path / "float32", teacher, root, split, views, 8)
    reduced = label(tmp_path / "bfloat16", teacher, root, split, views, 8, dtype="mixed_bfloat16")
    assert (exact["dtype"], exact["dtype_effect"], reduced["dtype"]) == ("float32", None, "mixed_bfloat16")
    effect = reduced["dtype_effect"]
    stored = [
        Transfer(tmp_path / name).logits("val")[i, 0].astype(float)
        for name in ("float32", "bfloat16")
        for i in range(15)
    ]
    difference = np.abs(np.subtract(stored[:15], stored[15:]))
    assert effect["pictures"] == 15 and difference.max() > 1e-3
    assert effect["largest_difference"] == pytest.approx(difference.max(), rel=0.1)
    assert effect["mean_difference"] == pytest.approx(difference.mean(), rel=0.1)
    assert open_teacher(teacher)[0].model.input_shape == (None, PX, PX, 3)
