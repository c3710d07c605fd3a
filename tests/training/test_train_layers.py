"""Training the last layers alone: what moves, what stays to the bit, what the record says, going on after a kill."""

import keras
import msgspec
import numpy as np
import pytest

from kd2mobile.students import build_student
from kd2mobile.training import train

from .conftest import CLASSES, PX, STUDENT, distill, make_stores
from .test_train import interrupt_after, same_training

LAST_TWO = msgspec.structs.replace(STUDENT, train_layers="last:2")
TRAINED = ("block3_bn", "logits")


def run(folder, stores):
    return train.train_student(folder, distill(epochs=3), LAST_TWO, stores)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished training of the last two layers with its stores, results and what it said; the tests only read it."""
    folder = tmp_path_factory.mktemp("last")
    stores = make_stores(folder / "stores")
    message = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.progress, "say", message.append)
        results = run(folder / "student", stores)
    return folder / "student", stores, results, message


def test_only_the_last_layers_with_weights_move(trained):
    model = keras.saving.load_model(trained[0] / "student.keras", compile=False)
    drawn = build_student("small_cnn", PX, CLASSES, "none", distill().seed)
    for layer in drawn.layers:
        for name, before, after in zip(
            (v.name for v in layer.weights), layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True
        ):
            assert np.array_equal(before, after) is (layer.name not in TRAINED), (layer.name, name)


def test_the_saved_student_can_be_trained_further(trained):
    model = keras.saving.load_model(trained[0] / "student.keras", compile=False)
    assert all(layer.trainable for layer in model.layers)


def test_the_record_counts_what_was_trained(trained):
    folder, stores, results, _ = trained
    assert results.trainable_parameters == 2 * 128 + 128 * 3 + 3
    assert results.parameters == 27 * 32 + 4 * 32 + 9 * 32 * 64 + 4 * 64 + 9 * 64 * 128 + 4 * 128 + 128 * 3 + 3
    assert run(folder, stores) == results, "a finished one called again says the same"


def test_it_reports_the_trained_layers_and_that_the_rest_is_random(trained):
    assert (
        "small_cnn with the teacher: 2 layers trained, from block3_bn on; "
        "the rest stays random, as student.weights is `none`, which is seldom useful"
    ) in trained[3]


def test_a_killed_training_of_the_last_layers_ends_with_the_same_bytes(trained, tmp_path, monkeypatch):
    folder, stores, _, _ = trained
    with monkeypatch.context() as patch:
        interrupt_after(patch, images=50 + 20)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "student", stores)
    assert (tmp_path / "student" / "checkpoint-00001.npz").exists()
    run(tmp_path / "student", stores)
    assert same_training(tmp_path / "student", folder)
