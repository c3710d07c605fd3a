"""The training loop: what it leaves, when it stops, and that a broken run ends with the bytes of an unbroken one."""

import json
import math
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from kd2mobile import progress
from kd2mobile.backend import checkpoint
from kd2mobile.data.shards import write_array
from kd2mobile.errors import ArtifactError, TrainingError
from kd2mobile.training import loop, train
from kd2mobile.training.feed import image_order, view_choice
from kd2mobile.training.schedule import Schedule

from .conftest import PX, STUDENT, distill, make_stores, with_unlabelled, without_teacher

HISTORY_FIELDS = ["epoch", "loss", "learning_rate", "val_top1", "val_logloss", "seconds", "images_per_s"]


def run(folder, stores, **fields):
    return train.train_student(folder, distill(**fields), STUDENT, stores)


def history(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]


def without_times(lines: list[dict]) -> list[dict]:
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


def weights(folder: Path) -> list[bytes]:
    model = keras.saving.load_model(folder / "student.keras", compile=False)
    return [np.asarray(v).tobytes() for v in model.weights]


def same_training(folder: Path, other: Path) -> bool:
    return weights(folder) == weights(other) and without_times(history(folder)) == without_times(history(other))


def interrupt_after(monkeypatch, images: int) -> None:
    """Ctrl-C while the batch that passes so many images is being counted."""
    seen = 0

    def interrupted(label, total, unit):
        def advance(done):
            nonlocal seen
            seen += done
            if seen > images:
                raise KeyboardInterrupt

        return nullcontext(advance)

    monkeypatch.setattr(progress, "bar", interrupted)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A finished training with its stores and results; the tests only read it."""
    folder = tmp_path_factory.mktemp("unbroken")
    stores = make_stores(folder / "stores")
    return folder / "student", stores, run(folder / "student", stores)


def test_the_folder_holds_the_student_and_its_history_alone(unbroken):
    folder, _, results = unbroken
    assert sorted(p.name for p in folder.iterdir()) == ["history.jsonl", "student.keras"]
    lines = history(folder)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4] and list(lines[0]) == HISTORY_FIELDS
    model = keras.saving.load_model(folder / "student.keras")
    assert model.output_shape == (None, 3) and not model.compiled
    assert results.epochs_run == 4 and results.parameters == model.count_params()


def test_the_saved_student_scores_what_the_results_say(unbroken):
    folder, stores, results = unbroken
    model = keras.saving.load_model(folder / "student.keras")
    pixels = np.load(stores.pixels_folder / "val-00000.npy")[:, 0]
    z = np.asarray(model(pixels.astype(np.float32) / 127.5 - 1, training=False), np.float64)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    logloss = -np.log(np.maximum(p[np.arange(len(z)), stores.val_labels], 1 / 512)).mean()
    assert results.val_top1 == (z.argmax(axis=1) == stores.val_labels).mean() > 0.9
    assert results.val_logloss == pytest.approx(logloss, rel=1e-4)


def test_the_learning_rate_warms_up_and_falls_to_zero(unbroken):
    rates = [line["learning_rate"] for line in history(unbroken[0])]
    # 4 steps an epoch, of which 4 warm up; epoch e ends with step 4e - 1, so cosine over 12 steps at 3, 7 and 11
    cosine = [0.005 * (1 + math.cos(math.pi * step / 12)) for step in (3, 7, 11)]
    assert rates == pytest.approx([0.0025 + 0.0075 * 3 / 4, *cosine], rel=1e-5)


def test_a_finished_training_called_again_answers_the_same(unbroken):
    folder, stores, results = unbroken
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert run(folder, stores) == results
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_ctrl_c_keeps_the_last_epoch_and_the_next_call_resumes_to_the_same_bytes(
    unbroken, tmp_path, monkeypatch, capsys
):
    whole, stores, _ = unbroken
    with monkeypatch.context() as patch:
        interrupt_after(patch, images=2 * 50 + 20)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "student", stores)
    assert sorted(p.name for p in (tmp_path / "student").iterdir()) == [
        "checkpoint-00001.npz",
        "checkpoint-00002.npz",
        "history.jsonl",
    ]
    run(tmp_path / "student", stores)
    assert "small_cnn with the teacher: resuming after epoch 2/4" in capsys.readouterr().err
    assert same_training(tmp_path / "student", whole)


def test_a_damaged_checkpoint_is_reported_and_costs_one_epoch_but_not_a_byte(unbroken, tmp_path, monkeypatch, capsys):
    whole, stores, _ = unbroken
    with monkeypatch.context() as patch:
        interrupt_after(patch, images=2 * 50 + 20)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "student", stores)
    newest = tmp_path / "student" / "checkpoint-00002.npz"
    newest.write_bytes(newest.read_bytes()[:1000])
    run(tmp_path / "student", stores)
    output = capsys.readouterr().err
    assert "damaged checkpoint" in output and "resuming after epoch 1/4" in output
    assert same_training(tmp_path / "student", whole)


KILLED_AFTER_TWO = """
import os
import signal
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from kd2mobile import progress
from tests.training.conftest import STUDENT, distill, make_stores
from kd2mobile.training.train import train_student
def die(line):
    if line.startswith("epoch 2/4"):
        os.kill(os.getpid(), signal.SIGKILL)
progress.say = die
folder = Path({folder!r})
train_student(folder / "student", distill(), STUDENT, make_stores(folder / "stores"))
"""


def test_killed_and_started_again_it_reaches_the_bytes_of_an_unbroken_run(unbroken, tmp_path):
    whole, _, _ = unbroken
    code = KILLED_AFTER_TWO.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert not (tmp_path / "student" / "student.keras").exists()
    assert (tmp_path / "student" / "checkpoint-00002.npz").exists()
    run(tmp_path / "student", make_stores(tmp_path / "stores"))
    assert same_training(tmp_path / "student", whole)


def test_killed_between_its_last_two_files_it_still_answers(unbroken, tmp_path):
    whole, stores, results = unbroken
    shutil.copytree(whole, tmp_path / "student")
    (tmp_path / "student" / "checkpoint-00004.npz").write_bytes(b"not yet removed")
    assert run(tmp_path / "student", stores) == results
    assert sorted(p.name for p in (tmp_path / "student").iterdir()) == ["history.jsonl", "student.keras"]


def test_the_baseline_never_looks_at_the_teacher(stores, tmp_path):
    bad = np.full((50, 2, 3), np.nan, np.float16)
    write_array(stores.transfer_folder / "train-00000.npy", bad)
    run(tmp_path / "beside", stores, loss="labels", epochs=2)
    run(tmp_path / "without", without_teacher(stores), loss="labels", epochs=2)
    assert same_training(tmp_path / "beside", tmp_path / "without")


def test_a_teacher_changes_the_student(unbroken, tmp_path):
    run(tmp_path / "baseline", without_teacher(unbroken[1]), loss="labels")
    assert weights(tmp_path / "baseline") != weights(unbroken[0])


def test_unlabelled_images_change_the_student_and_a_broken_training_ends_with_the_same_bytes(
    unbroken, tmp_path, monkeypatch, capsys
):
    stores = with_unlabelled(make_stores(tmp_path / "stores"))
    run(tmp_path / "whole", stores, epochs=2)
    output = capsys.readouterr().err
    assert "small_cnn with the teacher: an epoch shows 50 labelled and 20 unlabelled images" in output
    with monkeypatch.context() as patch:
        interrupt_after(patch, images=70 + 20)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "broken", stores, epochs=2)
    run(tmp_path / "broken", stores, epochs=2)
    assert "resuming after epoch 1/2" in capsys.readouterr().err
    assert same_training(tmp_path / "broken", tmp_path / "whole")
    run(tmp_path / "without", unbroken[1], epochs=2)
    assert weights(tmp_path / "without") != weights(tmp_path / "whole")


def test_the_baseline_never_trains_on_unlabelled_images(stores, tmp_path):
    run(tmp_path / "beside", without_teacher(with_unlabelled(stores)), loss="labels", epochs=1)
    run(tmp_path / "without", without_teacher(stores), loss="labels", epochs=1)
    assert same_training(tmp_path / "beside", tmp_path / "without")


@pytest.mark.parametrize("loss", ["kd", "labels"])
def test_class_weights_weigh_loss_and_gradient(loss):
    """A student of one Dense layer takes one step of plain gradient descent; the same by hand in float64."""
    rng = np.random.default_rng(11)
    pixels = rng.integers(0, 256, (6, 2, 2, 3)).astype(np.uint8)
    labels, logits = np.array([0, 0, 0, 1, 1, -1]), rng.normal(0, 3, (6, 3))
    weights, start = np.array([2 / 3, 2 / 3, 2 / 3, 1, 1, 1]), rng.normal(0, 0.1, (12, 3))
    one_hot = np.eye(4)[labels][:, :3]
    model = keras.Sequential([keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(3, use_bias=False)])
    model.layers[-1].kernel.assign(start)
    asked = distill(loss=loss, temperature=2.0, hard_label_weight=0.25)
    trainer = train._trainer(model, asked, Schedule(1.0, 1))
    trainer.compile(keras.optimizers.SGD(1.0), loss=trainer.loss, jit_compile=False)
    targets = np.concatenate([one_hot, logits], axis=1).astype(np.float32)
    value = trainer.train_on_batch(pixels, targets, weights.astype(np.float32), return_dict=True)["loss"]

    x = pixels.reshape(6, 12) / 127.5 - 1.0
    z = x @ start

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(axis=1, keepdims=True)

    labelled = one_hot.sum(axis=1)
    hard, hard_slope = -(one_hot * np.log(softmax(z))).sum(axis=1), labelled[:, None] * softmax(z) - one_hot
    soft = -(softmax(logits / 2) * np.log(softmax(z / 2))).sum(axis=1)
    soft_slope = (softmax(z / 2) - softmax(logits / 2)) / 2
    losses, slopes = (hard, hard_slope) if loss == "labels" else (hard / 4 + 3 * soft, hard_slope / 4 + 3 * soft_slope)
    assert float(value) == pytest.approx((weights * losses).sum() / 6, rel=1e-5)
    step = x.T @ (weights[:, None] * slopes) / 6
    np.testing.assert_allclose(np.asarray(model.layers[-1].kernel), start - step, atol=1e-5)


def test_class_weights_change_student_and_baseline(unbroken, tmp_path):
    stores, lopsided = unbroken[1], np.where(np.arange(50) < 40, 0, unbroken[1].train_labels)
    for name, fields in {"kd": {}, "labels": {"loss": "labels"}}.items():
        for weighted in (False, True):
            given = replace(stores, train_labels=lopsided)
            asked = distill(epochs=1, class_weights=weighted, **fields)
            train.train_student(tmp_path / f"{name} {weighted}", asked, STUDENT, given)
        assert weights(tmp_path / f"{name} True") != weights(tmp_path / f"{name} False")


def test_a_loss_that_needs_a_teacher_is_refused_without_one(stores, tmp_path):
    with pytest.raises(
        TrainingError, match="distill.loss: must be a loss that needs no teacher, such as `labels`, .*, got kd"
    ):
        run(tmp_path / "student", without_teacher(stores))


def test_a_diverging_training_stops_with_its_epoch_and_batch(stores, tmp_path):
    with pytest.raises(TrainingError) as caught:
        run(tmp_path / "student", stores, learning_rate=1e30, warmup_epochs=0)
    assert str(caught.value).startswith("small_cnn with the teacher, epoch 1, batch 2/4, learning rate ")
    assert "must have a finite loss, got nan. No epoch was completed. Use a lower distill.learning_rate" in str(
        caught.value
    )
    assert not (tmp_path / "student" / "student.keras").exists()


def test_a_nan_loss_names_epoch_and_batch_and_leaves_the_last_good_checkpoint(stores, tmp_path):
    # an image of the second epoch's third batch, in the view that the first epoch does not show
    poisoned = image_order(50, 3, 1)[2 * 16 + 5]
    assert poisoned not in image_order(50, 3, 0)[:14], "the first epoch fills its last batch with this view"
    logits = np.load(stores.transfer_folder / "train-00000.npy")
    logits[poisoned, view_choice(50, 2, 3, 1)[poisoned]] = np.nan
    write_array(stores.transfer_folder / "train-00000.npy", logits)
    with pytest.raises(TrainingError) as caught:
        run(tmp_path / "student", stores)
    message = str(caught.value)
    assert message.startswith("small_cnn with the teacher, epoch 2, batch 3/4, learning rate 0.00"), message
    kept = tmp_path / "student" / "checkpoint-00001.npz"
    assert f"got nan. The state after epoch 1 stays in {kept}. " in message and kept.exists()
    assert message.endswith("Use a lower distill.learning_rate, or check the teacher's logits.")
    assert len(history(tmp_path / "student")) == 1


def test_a_full_disk_is_reported_and_the_training_resumes_when_there_is_room(unbroken, tmp_path, monkeypatch):
    whole, stores, _ = unbroken
    written = checkpoint.write_checkpoint

    def full(folder, state):
        if len(state.history) == 3:
            raise OSError(28, "No space left on device")
        return written(folder, state)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_checkpoint", full)
        with pytest.raises(ArtifactError, match="no space left on device"):
            run(tmp_path / "student", stores)
    run(tmp_path / "student", stores)
    assert same_training(tmp_path / "student", whole)


def test_batch_statistics_forget_within_an_epoch_and_never_slower_than_their_own_momentum():
    layer = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input((PX, PX, 3)), layer])
    for steps, momentum in ((1000, 0.99), (40, 0.9), (2, 0.5)):
        layer.momentum = 0.99
        train._shorten_batch_statistics(model, steps)
        assert layer.momentum == pytest.approx(momentum)
