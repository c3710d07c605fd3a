"""The stage: from nothing, with a new head, unfrozen; killed and gone on; what it says and what it refuses."""

import json

import keras
import msgspec
import numpy as np
import pytest

from kd2mobile.backend.batch_norm import batch_norms
from kd2mobile.errors import TeacherError, TrainingError, UnknownNameError, WeightsError
from kd2mobile.store.stage_records import Validated
from kd2mobile.teachers import fit as fitting
from kd2mobile.teachers import head, training
from kd2mobile.teachers.kinds.zoo import ZOO
from kd2mobile.teachers.reading import TeacherImages
from kd2mobile.teachers.teacher import Teacher, open_teacher
from kd2mobile.training import loop
from tests.teachers.conftest import CLASSES, PX, teacher_config, tiny

FINISHED = ["teacher.json", "teacher.keras"]


@pytest.fixture
def make(tiny_teacher, images, tmp_path):
    """make(under="a", name=..., ...) runs the stage in the folder of that name; returns it and the results."""
    root, split = images

    def run(under="teacher", **fields):
        folder = tmp_path / under
        folder.mkdir(exist_ok=True)
        return folder, ZOO.build(folder, teacher_config(**fields), TeacherImages(root, split, "stretch"))

    return run


def weights_of(folder):
    return keras.saving.load_model(folder / "teacher.keras", compile=False).get_weights()


def test_a_teacher_from_scratch_learns_and_reports_its_accuracy(make, images, capsys):
    folder, results = make(epochs=6)
    assert (results.val.n, results.val.top1) == (15, 1.0) and results.val.logloss < 0.6
    assert "teacher tiny: validation top-1 1.000, logloss 0." in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == FINISHED
    assert results.classes == CLASSES and results.input_px == PX and results.preprocess == "tf"
    assert [entry["epoch"] for entry in results.history] == [1, 2, 3, 4, 5, 6]
    assert json.loads((folder / "teacher.json").read_text("utf-8")) == msgspec.to_builtins(results)
    teacher, _ = open_teacher(folder, 8)
    logits, val = teacher.evaluate(TeacherImages(*images, "stretch"), "again")
    assert val == results.val and logits.shape == (15, 3) and logits.min() < -0.01


def test_the_same_seed_gives_the_same_teacher_and_another_one_another(make):
    one, other, third = (make(name, epochs=2, seed=seed)[0] for name, seed in (("a", 5), ("b", 5), ("c", 6)))
    assert all(map(np.array_equal, weights_of(one), weights_of(other)))
    assert not np.array_equal(weights_of(one)[0], weights_of(third)[0])


def test_a_killed_training_resumes_after_its_last_epoch_to_the_same_weights(make, monkeypatch, capsys):
    whole, results = make("whole", epochs=3)
    save = loop.write_checkpoint
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "write_checkpoint", lambda *a: (save(*a), (_ for _ in ()).throw(KeyboardInterrupt))[0])
        make("broken", epochs=3)
    capsys.readouterr()
    broken, again = make("broken", epochs=3)
    output = capsys.readouterr().err
    assert (
        "teacher: resuming after epoch 1/3" in output
        and "epoch 1/3  loss" not in output
        and "epoch 2/3  loss" in output
    )
    assert all(map(np.array_equal, weights_of(whole), weights_of(broken)))
    assert [entry["loss"] for entry in again.history] == [entry["loss"] for entry in results.history]


def test_a_damaged_checkpoint_is_reported_and_training_starts_again(make, tmp_path, capsys):
    whole, _ = make("whole", epochs=2)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "checkpoint-00001.npz").write_bytes(b"PK\x03\x04 nonsense")
    broken, _ = make("broken", epochs=2)
    assert "checkpoint-00001.npz: damaged checkpoint" in capsys.readouterr().err
    assert all(map(np.array_equal, weights_of(whole), weights_of(broken)))


def test_a_finished_teacher_is_not_built_again(make, capsys):
    folder, results = make(epochs=1)
    before = (folder / "teacher.keras").read_bytes()
    capsys.readouterr()
    assert make(epochs=1)[1] == results
    assert (folder / "teacher.keras").read_bytes() == before and capsys.readouterr().err == ""


def test_a_loss_that_is_not_finite_stops_the_training_with_its_epoch(make):
    with pytest.raises(
        TrainingError, match=r"teacher, epoch 1, batch \d/4, learning rate .*: must have a finite loss, got (nan|inf)\."
    ) as caught:
        make(epochs=2, learning_rate=1e38)
    assert "--set teacher.learning_rate=1e+37" in str(caught.value)


def test_statistics_keep_up_with_a_short_training():
    for steps, momentum in ((40, 0.9), (160, 0.9), (400, 0.95), (100_000, 0.99)):
        model = tiny((PX, PX, 3))
        fitting.shorten_statistics(model, steps)
        assert batch_norms(model)[0].momentum == pytest.approx(momentum)


def test_batch_norms_of_inner_models_are_found():
    inner = tiny((PX, PX, 3))
    outer = keras.Sequential([keras.Input((PX, PX, 3)), inner])
    assert batch_norms(outer) == batch_norms(inner) != []


def test_with_weights_it_gets_a_head_and_its_body_stays(make, body_weights):
    folder, results = make(weights=str(body_weights))
    assert sorted(path.name for path in folder.iterdir()) == FINISHED
    assert results.val.top1 == 1.0 and results.weights == "tiny.weights.h5" and results.head.C > 0
    body = tiny((PX, PX, 3), include_top=False, weights=body_weights)
    assert all(map(np.array_equal, body.get_weights(), weights_of(folder)))


def test_finished_features_are_not_computed_again(make, body_weights, monkeypatch, tmp_path):
    whole, _ = make("whole", weights=str(body_weights))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("kd2mobile.teachers.training.fit_head", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        make("broken", weights=str(body_weights))
    assert sorted(p.name for p in (tmp_path / "broken").iterdir()) == [
        "features-train-00000.npy",
        "features-val-00000.npy",
    ]
    monkeypatch.setattr(head.Teacher, "evaluated_outputs", None, raising=True)
    monkeypatch.setattr(head.Teacher, "evaluate", lambda *_: (np.eye(3), Validated(3, 1.0, 0.0)))
    broken, _ = make("broken", weights=str(body_weights))
    assert all(map(np.array_equal, weights_of(whole), weights_of(broken)))


def test_unfrozen_it_trains_with_every_batch_normalization_frozen(make, body_weights):
    folder, results = make(weights=str(body_weights), fine_tune_epochs=2, fine_tune_learning_rate=1e-3)
    assert [entry["epoch"] for entry in results.fine_tuning] == [0, 1, 2]
    before = tiny((PX, PX, 3), include_top=False, weights=body_weights).get_weights()
    kernel, gamma, beta, mean, variance, *_ = weights_of(folder)
    assert not np.array_equal(kernel, before[0])
    assert all(map(np.array_equal, (gamma, beta, mean, variance), before[1:5]))


def test_fine_tuning_that_makes_it_worse_is_undone(make, body_weights, monkeypatch):
    worse = Validated(15, 0.2, 9.0)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "evaluation", lambda *_: worse)
        folder, results = make(weights=str(body_weights), fine_tune_epochs=1, fine_tune_learning_rate=1e-2)
    before, after = results.fine_tuning
    assert (after["val_top1"], after["val_logloss"]) == (0.2, 9.0)
    assert results.val == Validated(15, before["val_top1"], before["val_logloss"]) != worse
    kernel = tiny((PX, PX, 3), include_top=False, weights=body_weights).get_weights()[0]
    assert np.array_equal(weights_of(folder)[0], kernel)


def test_what_cannot_be_is_refused(make, body_weights):
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        make(name="tinny")
    with pytest.raises(
        WeightsError, match="Fetch tiny_notop.h5 from https://example.org/models/tiny_notop.h5 on another"
    ):
        make(weights="imagenet")
    with pytest.raises(TeacherError, match="must be at least 8 for Tiny, got 4"):
        make(input_px=4)


def test_a_network_of_keras_itself_gets_a_head(make, tmp_path):
    body = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    body.save_weights(tmp_path / "body.weights.h5")
    folder, results = make(name="mobilenetv2", input_px=32, weights=str(tmp_path / "body.weights.h5"))
    assert results.val.n == 15 and results.parameters == 2_257_984 + 1281 * 3
    assert keras.saving.load_model(folder / "teacher.keras").output_shape == (None, 3)


def test_unfreezing_reaches_layers_that_were_saved_frozen(monkeypatch):
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    inner.layers[0].trainable = False
    model = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dense(2)])
    monkeypatch.setattr(training, "fit", lambda *given: [])
    training._unfrozen(None, Teacher(model, 8, "none", "mine"), None, None, {})
    assert inner.layers[0].trainable and model.layers[-1].trainable and not inner.layers[1].trainable
