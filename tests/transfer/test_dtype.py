"""mixed_bfloat16: what it does to the logits is measured, recorded, and refused where it is too much."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kd2mobile.errors import TeacherError
from kd2mobile.teachers.teacher import open_teacher
from kd2mobile.transfer import dtype as dtypes
from kd2mobile.transfer.dtype import effect_of_dtype, set_dtype
from kd2mobile.transfer.label import label
from kd2mobile.transfer.results import DtypeEffect
from kd2mobile.transfer.store import Transfer
from tests.teachers.conftest import CLASSES
from tests.transfer.conftest import PX, write_teacher


@pytest.fixture
def bfloat16():
    """Skips where this process cannot compute in it."""
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        pytest.skip("TensorFlow aborts at bfloat16 where ONEDNN_MAX_CPU_ISA takes its instructions from oneDNN")


def to_bfloat16(values):
    """float32 with 8 bits of precision: the sixteen lower bits rounded away, half to even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)


def gamma(roundings, unit):
    """How far so many roundings in a row can move a term, relatively. Source: Higham 2002, Accuracy and Stability of
    Numerical Algorithms, lemma 3.1."""
    return roundings * unit / (1 - roundings * unit)


HIDDEN = """
import sys
import numpy as np
from tests.transfer.test_dtype import hidden_and_logits
np.savez(sys.argv[1], *hidden_and_logits())
"""


def hidden_and_logits():
    """Two dense layers in mixed_bfloat16: what each answers to six inputs, the inputs, and the weights as they were."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="hidden")])
    model = keras.Sequential([keras.Input((4,)), inner, layers.Dense(3, name="logits"), layers.Activation("linear")])
    before = model.get_weights()
    set_dtype(model, "mixed_bfloat16")
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == np.float32
    both = keras.Model(model.inputs, [model.layers[1].input, model.outputs[0]])
    seen = np.random.default_rng(0).normal(0, 3, (6, 4)).astype(np.float32)
    hidden, logits = both.predict_on_batch(seen)
    assert logits.dtype == np.float32
    return hidden.astype(np.float32), logits, seen, *before


@pytest.mark.parametrize("kernels", ["of this processor", "of any processor"])
def test_all_but_the_last_layer_compute_in_bfloat16_with_weights_of_float32(kernels, tmp_path, request):
    """Within what the format allows, whatever order a kernel adds in and wherever it rounds in between.

    Without oneDNN TensorFlow takes the kernels that it has on a processor without instructions for bfloat16.
    """
    if kernels == "of this processor":
        request.getfixturevalue("bfloat16")
        hidden, logits, seen, w1, b1, w2, b2 = hidden_and_logits()
    else:
        environment = os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", HIDDEN, tmp_path / "found.npz"], env=environment, check=True)
        hidden, logits, seen, w1, b1, w2, b2 = np.load(tmp_path / "found.npz").values()
    np.testing.assert_array_equal(hidden, to_bfloat16(hidden), "the first layer answers in bfloat16")
    exact = seen.astype(np.float64) @ w1 + b1
    terms = np.abs(seen).astype(np.float64) @ np.abs(w1) + np.abs(b1)
    # A product has two rounded factors and is rounded itself, in the sum of four, as a sum, and with the bias: eight.
    assert (np.abs(hidden - exact) <= gamma(8, 2.0**-8) * terms).all()
    assert np.abs(hidden - exact).max() > gamma(8, 2.0**-24) * terms.max(), "it was not float32"
    last = hidden.astype(np.float64) @ w2 + b2
    terms = np.abs(hidden).astype(np.float64) @ np.abs(w2) + np.abs(b2)
    assert (np.abs(logits - last) <= gamma(7, 2.0**-24) * terms).all(), "the last layer is float32"


def test_the_effect_is_computed_as_documented(capsys):
    exact = np.array([[3.0, 1.0], [0.0, 2.0], [-5.0, 1.0]], np.float32)
    effect = effect_of_dtype(exact, exact + np.float32([[0.5, 0], [0, -0.25], [0, 0]]), "mixed_bfloat16", "mine")
    assert effect == DtypeEffect(3, 0.125, 0.5, 5.0, top1_agreement=1.0)
    assert capsys.readouterr().err == (
        "mixed_bfloat16 beside float32: 100.0% of 3 validation images keep their top class; "
        "logits differ by 0.12 on average, 0.5 at most, of up to 5\n"
    )


@pytest.mark.parametrize(
    ("images", "changed", "refused"), [(10, 1, False), (10, 2, True), (200, 4, False), (200, 5, True)]
)
def test_under_98_percent_of_agreement_it_is_refused(images, changed, refused):
    exact = np.tile(np.float32([1, 0]), (images, 1))
    reduced = exact.copy()
    reduced[:changed] = 0, 1
    if not refused:
        assert effect_of_dtype(exact, reduced, "mixed_bfloat16", "mine").top1_agreement == 1 - changed / images
        return
    with pytest.raises(TeacherError) as caught:
        effect_of_dtype(exact, reduced, "mixed_bfloat16", "mine")
    message = str(caught.value)
    assert message.startswith(
        "mine, teacher.dtype mixed_bfloat16: must keep the top class of float32 for at least 98% of the images, "
    )
    assert f"{1 - changed / images:.1%} of {images} validation images" in message
    assert message.endswith("Use `--teacher-dtype float32`.")


def test_nan_is_refused():
    exact = np.tile(np.float32([1, 0]), (3, 1))
    with pytest.raises(TeacherError, match="must keep the top class of float32 for at least 98%"):
        effect_of_dtype(exact, exact * np.float32([1, np.nan]), "mixed_bfloat16", "mine")


def test_a_pass_in_bfloat16_is_recorded_with_its_effect(bfloat16, images, tmp_path, monkeypatch):
    """The effect is that of the very pass, on this machine, but for the float16 in which logits are stored."""
    monkeypatch.setattr(dtypes, "LEAST_AGREEMENT", 0.5)
    layers = keras.layers
    teacher = write_teacher(tmp_path / "deep", [layers.Dense(16, activation="relu"), layers.Dense(len(CLASSES))])
    root, split, views = images
    exact = label(tmp_path / "float32", teacher, root, split, views, 8)
    reduced = label(tmp_path / "bfloat16", teacher, root, split, views, 8, dtype="mixed_bfloat16")
    assert (exact.ran.dtype, exact.ran.dtype_effect, reduced.ran.dtype) == ("float32", None, "mixed_bfloat16")
    effect = reduced.ran.dtype_effect
    one, other = (
        np.stack([Transfer(tmp_path / name).logits("val")[i, 0] for i in range(15)]).astype(np.float64)
        for name in ("float32", "bfloat16")
    )
    difference, stored = np.abs(one - other), 2 * 2.0**-11 * max(np.abs(one).max(), np.abs(other).max())
    assert effect.images == 15 and difference.max() > stored
    assert effect.largest_difference == pytest.approx(difference.max(), abs=stored)
    assert effect.mean_difference == pytest.approx(difference.mean(), abs=stored)
    assert open_teacher(teacher)[0].model.input_shape == (None, PX, PX, 3)
