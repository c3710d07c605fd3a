"""The losses against a float64 derivation in NumPy that shares nothing with the code, and by what must hold."""

import math
import subprocess
import sys

import keras
import numpy as np
import pytest

from kd2mobile.errors import UnknownNameError
from kd2mobile.losses import LOSSES, make_loss
from kd2mobile.losses.split_targets import pack_output
from kd2mobile.recipe.schema import Distill

BATCH, CLASSES = 6, 7
SETTINGS = [(t, w) for t in (0.5, 1.0, 4.0, 20.0) for w in (0.0, 0.3, 1.0)]


def draw(seed=0, scale=4.0, dtype=np.float64):
    """one_hot, teacher_logits, z: [batch, classes]; the logits are representable in float32."""
    rng = np.random.default_rng(seed)
    one_hot = np.eye(CLASSES)[rng.integers(0, CLASSES, BATCH)]
    teacher, z = (rng.normal(0, scale, (BATCH, CLASSES)).astype(np.float32).astype(dtype) for _ in range(2))
    return one_hot.astype(dtype), teacher, z


def probabilities(logits, temperature):
    """softmax by sums of exponentials of differences: p_i = 1 / sum_j exp((l_j - l_i) / T)."""
    return 1 / np.exp((logits[:, None, :] - logits[:, :, None]) / temperature).sum(-1)


def cross_entropy(p, logits, temperature):
    return -(p * np.log(probabilities(logits, temperature))).sum(-1)


def reference(name, one_hot, teacher, z, temperature, weight):
    hard = cross_entropy(one_hot, z, 1.0)
    soft = cross_entropy(probabilities(teacher, temperature), z, temperature)
    pairs = (z[:, :, None] - z[:, None, :]) - (teacher[:, :, None] - teacher[:, None, :])
    variance = (pairs**2).sum((1, 2)) / (2 * CLASSES**2)  # of z - teacher over the classes, without a mean in sight
    return {
        "kd": weight * hard + (1 - weight) * temperature**2 * soft,
        "kd-split": weight * hard + soft,
        "logits": weight * hard + (1 - weight) * variance / 2,
        "labels": hard,
    }[name]


def reference_gradient(name, one_hot, teacher, z, temperature, weight):
    """d loss / d z in closed form, through both halves of the predictions."""
    hard = probabilities(z, 1.0) - one_hot
    soft = (probabilities(z, temperature) - probabilities(teacher, temperature)) / temperature
    centred = (z - z.mean(1, keepdims=True)) - (teacher - teacher.mean(1, keepdims=True))
    return {
        "kd": weight * hard + (1 - weight) * temperature**2 * soft,
        "kd-split": weight * hard + soft,
        "logits": weight * hard + (1 - weight) * centred / CLASSES,
        "labels": hard,
    }[name]


def distill(name, temperature=4.0, weight=0.5, **options):
    return Distill(loss=name, temperature=temperature, hard_label_weight=weight, loss_options=options)


def loss(name, one_hot, teacher, z, temperature, weight):
    targets, z = keras.ops.convert_to_tensor(np.concatenate([one_hot, teacher], 1)), keras.ops.convert_to_tensor(z)
    return np.asarray(make_loss(distill(name, temperature, weight))(targets, pack_output(z, temperature)))


@pytest.mark.parametrize(("temperature", "weight"), SETTINGS)
@pytest.mark.parametrize("name", list(LOSSES))
def test_agrees_with_the_derivation(name, temperature, weight):
    expected = reference(name, *draw(), temperature, weight)
    got = loss(name, *draw(), temperature, weight)
    assert got.shape == (BATCH,) and got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    single = loss(name, *draw(dtype=np.float32), temperature, weight)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-6, atol=1e-6)


def test_by_hand():
    one_hot, teacher, z = np.array([[1.0, 0.0]]), np.array([[math.log(3), 0.0]]), np.zeros((1, 2))
    ln2 = math.log(2)
    assert loss("kd", one_hot, teacher, z, 2.0, 0.5)[0] == pytest.approx(0.5 * ln2 + 0.5 * 4 * ln2, abs=1e-12)
    assert loss("kd-split", one_hot, teacher, z, 2.0, 0.5)[0] == pytest.approx(0.5 * ln2 + ln2, abs=1e-12)
    assert loss("logits", one_hot, teacher, z, 2.0, 0.0)[0] == pytest.approx(math.log(3) ** 2 / 8, abs=1e-12)
    assert loss("labels", one_hot, teacher, z, 2.0, 0.5)[0] == pytest.approx(ln2, abs=1e-12)


def gradient(name, one_hot, teacher, z, temperature, weight):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("gradients in float64 are taken with TensorFlow")
    z = tf.constant(z)
    targets = tf.concat([one_hot, teacher], 1)
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = make_loss(distill(name, temperature, weight))(targets, pack_output(z, temperature))
    return tape.gradient(value, z).numpy()


@pytest.mark.parametrize(("temperature", "weight"), SETTINGS)
@pytest.mark.parametrize("name", list(LOSSES))
def test_gradient_agrees_with_finite_differences_and_closed_form(name, temperature, weight):
    one_hot, teacher, z = draw(seed=1)
    got = gradient(name, one_hot, teacher, z, temperature, weight)
    step = 1e-5
    for i in range(CLASSES):
        up, down = z.copy(), z.copy()
        up[:, i] += step
        down[:, i] -= step
        slope = loss(name, one_hot, teacher, up, temperature, weight)
        slope = (slope - loss(name, one_hot, teacher, down, temperature, weight)) / (2 * step)
        np.testing.assert_allclose(got[:, i], slope, rtol=1e-6, atol=1e-7)
    expected = reference_gradient(name, one_hot, teacher, z, temperature, weight)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", list(LOSSES))
def test_never_negative_and_finite_with_huge_logits(name):
    one_hot, teacher, z = draw(seed=3, scale=3000, dtype=np.float32)
    values = loss(name, one_hot, teacher, z, 2.0, 0.5)
    assert np.isfinite(values).all() and (values >= 0).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kd_is_least_where_the_student_equals_the_teacher(temperature):
    one_hot, teacher, _ = draw(seed=4)
    entropy = cross_entropy(probabilities(teacher, temperature), teacher, temperature)
    np.testing.assert_allclose(loss("kd", one_hot, teacher, teacher + 3, temperature, 0.0), temperature**2 * entropy)
    for seed in range(20):
        z = teacher + np.random.default_rng(seed).normal(0, 2, teacher.shape)
        divergence = loss("kd", one_hot, teacher, z, temperature, 0.0) - temperature**2 * entropy
        assert (divergence >= 0).all()
    assert loss("logits", one_hot, teacher, teacher + 3, temperature, 0.0) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_kd_tends_to_logits_at_high_temperature(weight):
    """Hinton 2015, section 2.1: the gradient of CE goes to (z_i - v_i) / (N T^2) for centred logits; T^2 is in kd."""
    one_hot, teacher, z = draw(seed=5)
    expected = loss("logits", one_hot, teacher, z, 1.0, weight)
    slope = gradient("logits", one_hot, teacher, z, 1.0, weight)
    apart, slopes_apart = [], []
    for temperature in (1e1, 1e2, 1e3, 1e4):
        entropy = cross_entropy(probabilities(teacher, temperature), teacher, temperature)
        constant = (1 - weight) * temperature**2 * entropy
        value = loss("kd", one_hot, teacher, z, temperature, weight) - constant
        apart.append(np.abs(value - expected).max())
        slopes_apart.append(np.abs(gradient("kd", one_hot, teacher, z, temperature, weight) - slope).max())
    for distances in (apart, slopes_apart):  # first order in 1 / T: ten times hotter, ten times nearer
        ratios = np.divide(distances[1:], distances[:-1])
        assert (ratios > 0.05).all() and (ratios < 0.2).all(), distances
    assert slopes_apart[-1] < 1e-3


@pytest.mark.parametrize("temperature", [1.0, 3.0, 8.0])
def test_kd_beside_the_distillation_loss_of_keras(temperature):
    """Its default loss skips softmax and T^2 (shared FACTS); with the KLDivergence class it means what kd means."""
    one_hot, teacher, z = draw(seed=6, dtype=np.float32)
    theirs = keras.distillation.LogitsDistillation(temperature, loss=keras.losses.KLDivergence())
    expected = float(theirs.compute_loss(teacher, z))
    entropy = cross_entropy(probabilities(teacher.astype(np.float64), temperature), teacher, temperature)
    ours = loss("kd", one_hot, teacher, z, temperature, 0.0) - temperature**2 * entropy
    assert ours.mean() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("temperature", "weight"), SETTINGS)
@pytest.mark.parametrize("name", list(LOSSES))
def test_an_image_without_a_label_is_taught_by_the_teacher_alone(name, temperature, weight):
    """Its one-hot row is zero: the soft part stays with the factor that it has beside labels, and nothing else does."""
    one_hot, teacher, z = draw(seed=10)
    unlabelled = np.zeros_like(one_hot)
    expected = reference(name, unlabelled, teacher, z, temperature, weight)
    np.testing.assert_allclose(
        loss(name, unlabelled, teacher, z, temperature, weight), expected, rtol=1e-12, atol=1e-15
    )
    hard = weight * cross_entropy(one_hot, z, 1.0) if name != "labels" else cross_entropy(one_hot, z, 1.0)
    np.testing.assert_allclose(loss(name, one_hot, teacher, z, temperature, weight), hard + expected, rtol=1e-12)
    if name == "labels":
        assert not gradient(name, unlabelled, teacher, z, temperature, weight).any()
    huge = draw(seed=3, scale=3000, dtype=np.float32)
    assert np.isfinite(loss(name, unlabelled.astype(np.float32), *huge[1:], 2.0, 0.5)).all()


def test_an_unknown_loss_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'kd-split'"):
        make_loss(distill("kd_split"))


def test_listing_loads_no_framework():
    code = (
        "import sys; from kd2mobile.losses import LOSSES; [LOSSES.summary(name) for name in LOSSES];"
        "print([m for m in ('keras', 'tensorflow', 'jax', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
