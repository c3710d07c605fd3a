"""What must hold of every registered loss, and of a trial one with options that relates the examples of a batch."""

import re

import keras
import msgspec
import numpy as np
import pytest

from kd2mobile.losses import LOSSES, make_loss
from kd2mobile.losses.loss import SHARED
from kd2mobile.losses.split_targets import pack_output, pack_targets
from kd2mobile.recipe.schema import Distill

BATCH, CLASSES = 6, 5
LABELS = np.array([0, 3, 2, 4, 1, 2])
SETTING = {"temperature": 3.0, "hard_label_weight": 0.4}


@pytest.fixture(params=[*LOSSES, "trial"])
def name(request):
    return request.getfixturevalue("trial_loss") if request.param == "trial" else request.param


def draw(seed=0, scale=4.0, dtype=np.float64):
    """teacher_logits and z, [batch, classes]."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, scale, (BATCH, CLASSES)).astype(np.float32).astype(dtype) for _ in range(2))


def value(name, teacher, z, labels=LABELS, **changes):
    fields = {"loss_options": {}} | SETTING | changes
    keywords = LOSSES[name].keywords(Distill(loss=name, **fields))
    one_hot = pack_targets(labels, CLASSES)[:, :CLASSES].astype(z.dtype)
    z, teacher, one_hot = (keras.ops.convert_to_tensor(given) for given in (z, teacher, one_hot))
    return np.asarray(LOSSES[name].function(z, teacher, one_hot, **keywords))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_gives_a_finite_number_per_row_in_the_logits_type(name, dtype):
    for scale in (4.0, 3000.0):
        got = value(name, *draw(scale=scale, dtype=dtype))
        assert got.shape == (BATCH,) and got.dtype == dtype and np.isfinite(got).all()


def test_rows_without_a_label_are_finite_and_teach_nothing_without_a_teacher(name):
    got = value(name, *draw(), labels=np.full(BATCH, -1))
    assert np.isfinite(got).all()
    if not LOSSES[name].needs_teacher:
        assert (got == 0).all()


def test_the_order_of_the_rows_and_of_the_classes_does_not_matter(name):
    teacher, z = draw(seed=1)
    still, rows, classes = value(name, teacher, z), np.array([3, 1, 5, 0, 2, 4]), np.array([2, 0, 4, 1, 3])
    np.testing.assert_allclose(value(name, teacher[rows], z[rows], LABELS[rows]), still[rows], rtol=1e-12)
    moved = value(name, teacher[:, classes], z[:, classes], classes.argsort()[LABELS])
    np.testing.assert_allclose(moved, still, rtol=1e-12)


def test_a_shift_of_either_logits_changes_nothing(name):
    teacher, z = draw(seed=2)
    shift, still = np.linspace(-50, 50, BATCH)[:, None], value(name, teacher, z)
    np.testing.assert_allclose(value(name, teacher, z + shift), still, rtol=1e-9)
    np.testing.assert_allclose(value(name, teacher + shift, z), still, rtol=1e-9)


def test_it_uses_the_teacher_exactly_if_declared(name):
    teacher, z = draw(seed=3)
    loss, still = LOSSES[name], value(name, teacher, z)
    assert (value(name, 0 * teacher, z) != still).any() == loss.needs_teacher
    at_one = [value(name, given, z, hard_label_weight=1.0) for given in (teacher, 0 * teacher)]
    assert np.array_equal(*at_one) == (loss.rest_to_teacher or not loss.needs_teacher)


def test_the_fields_it_uses_change_it_and_its_options_are_described(name):
    teacher, z = draw(seed=4)
    loss, still = LOSSES[name], value(name, teacher, z)
    assert sorted(loss.uses + loss.ignores) == sorted(SHARED)
    for field, other in {"temperature": 1.5, "hard_label_weight": 0.9}.items():
        assert (value(name, teacher, z, **{field: other}) != still).any() == (field in loss.uses), field
    for option in msgspec.structs.fields(loss.options):
        kind, default = type(option.default), option.default
        other = {bool: not default, int: default + 1, float: default / 2 or 0.01}[kind]
        assert (value(name, teacher, z, loss_options={option.name: other}) != still).any(), option.name
        described = next(line for line in loss.describe_options() if line.startswith(f"--loss-option {option.name}="))
        assert re.search(
            r"Takes (true or false|a (whole )?number (from|above) .* (to|and below|and at most) .+)\.$", described
        )


def test_it_trains_a_keras_model_with_image_weights(name):
    """The mean of weight times row, as Keras takes a loss that returns [batch]; and the gradient is finite."""
    teacher, z = draw(seed=5, dtype=np.float32)
    weights = np.array([0.5, 2.0, 1.0, 1.0, 0.0, 3.0], np.float32)
    pixels = keras.Input((CLASSES,))
    shift = keras.layers.Dense(CLASSES, kernel_initializer="identity")
    model = keras.Model(pixels, pack_output(shift(pixels), SETTING["temperature"]))
    model.compile(keras.optimizers.SGD(0.1), make_loss(Distill(loss=name, **SETTING)), jit_compile=False)
    got = model.train_on_batch(z, pack_targets(LABELS, CLASSES, teacher), weights, return_dict=True)["loss"]
    assert float(got) == pytest.approx((weights * value(name, teacher, z)).mean(), rel=1e-5)
    assert np.isfinite(shift.get_weights()[0]).all() and not np.array_equal(shift.get_weights()[0], np.eye(CLASSES))
