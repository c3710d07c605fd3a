"""The loop over trainees of plain numbers: no framework, so every rule of it is seen by itself."""

import json

import keras
import numpy as np
import pytest

from kd2mobile.errors import TrainingError
from kd2mobile.training.loop import Course, best_line, by_logloss, train_epochs
from kd2mobile.training.schedule import Schedule


class Number:
    """A variable as the loop takes it: it has a shape, can be assigned, and is an array."""

    def __init__(self, value=0.0):
        self.value, self.shape = np.array(value), ()

    def assign(self, value):
        self.value = np.array(value)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.value, dtype)


class Trainee:
    """Adds one to its weight in each batch. scored: (val_top1, val_logloss) of each epoch, from the first on."""

    def __init__(self, scored, batches=2, losses=None):
        self.weight, self.moment, self.epoch = Number(), Number(), 0
        self.scored, self.batches, self.losses = scored, batches, losses or {}

    def state(self):
        return [self.weight, self.moment]

    def weights(self):
        return [self.weight]

    def train_epoch(self, epoch, after_batch):
        self.epoch = epoch
        for batch in range(self.batches):
            self.weight.assign(self.weight.value + 1)
            self.moment.assign(self.moment.value - 1)
            after_batch(self.losses.get((epoch, batch), 0.5))
        return 0.5

    def logits(self, advance):
        advance(3)
        return np.full((3, 2), float(self.epoch))

    def scores(self, logits):
        top1, logloss = self.scored[int(logits[0, 0]) - 1]
        return {"val_top1": top1, "val_logloss": logloss}


class Community:
    """Two trainees as one: both get each batch, and the epoch is chosen by their mean."""

    def __init__(self, *members):
        self.members = members

    def state(self):
        return [variable for member in self.members for variable in member.state()]

    def weights(self):
        return [variable for member in self.members for variable in member.weights()]

    def train_epoch(self, epoch, after_batch):
        losses = [member.train_epoch(epoch, lambda loss: None) for member in self.members]
        for _ in range(2):
            after_batch(float(np.mean(losses)))
        return float(np.mean(losses))

    def logits(self, advance):
        return np.stack([member.logits(advance) for member in self.members])

    def scores(self, logits):
        each = [member.scores(own) for member, own in zip(self.members, logits, strict=True)]
        return {name: float(np.mean([one[name] for one in each])) for name in each[0]} | {"members": each}


def course(folder, **changes):
    folder.mkdir(exist_ok=True)
    given = {"name": "it", "epochs": 4, "images": 5, "batch_size": 3, "schedule": Schedule(0.1, 8)}
    return Course(folder, advice="Use a lower rate.", **given | changes)


SCORED = [(0.5, 1.0), (0.8, 0.9), (0.8, 0.7), (0.8, 0.8), (0.7, 0.1), (0.9, 0.1)]


def test_it_stops_after_the_patience_and_keeps_the_best_epoch(tmp_path):
    trainee = Trainee(SCORED)
    history = train_epochs(trainee, course(tmp_path, epochs=6, patience=2))
    assert [line["epoch"] for line in history] == [1, 2, 3, 4, 5] and best_line(history)["epoch"] == 3
    assert trainee.weight.value == 3 * 2 and trainee.moment.value == -5 * 2
    assert [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()] == history


def test_the_best_epoch_is_chosen_from_first_epoch_on_by_the_given_rank(tmp_path):
    trainee = Trainee(SCORED[:4])
    history = train_epochs(trainee, course(tmp_path / "late", first_epoch=4))
    assert trainee.weight.value == 8 and best_line(history, first_epoch=4)["epoch"] == 4
    trainee = Trainee([(0.9, 0.5), (0.1, 0.2), (0.5, 0.2), (0.2, 0.4)])
    train_epochs(trainee, course(tmp_path / "logloss", best=by_logloss))
    assert trainee.weight.value == 4, "the first of two equals"


def test_the_initial_weights_count_as_epoch_0(tmp_path):
    trainee = Trainee([(0.5, 1.0), (0.6, 1.0)])
    start = {"val_top1": 0.7, "val_logloss": 1.0}
    history = train_epochs(trainee, course(tmp_path, epochs=2, start=start, first_epoch=0, history_file=False))
    assert [line["epoch"] for line in history] == [0, 1, 2] and trainee.weight.value == 0
    assert not (tmp_path / "history.jsonl").exists()


class Killed(BaseException):
    pass


@pytest.mark.parametrize(("start", "left"), [(None, "checkpoint-00002.npz"), ({"val_top1": 0, "val_logloss": 9}, None)])
def test_a_killed_one_resumes_to_the_same_end(tmp_path, monkeypatch, capsys, start, left):
    whole = Trainee(SCORED)
    lines = train_epochs(whole, course(tmp_path / "whole", start=start))
    broken = Trainee(SCORED)

    def train_epoch(epoch, after_batch):
        if epoch == 3:
            broken.weight.assign(99)
            raise Killed
        return Trainee.train_epoch(broken, epoch, after_batch)

    monkeypatch.setattr(broken, "train_epoch", train_epoch)
    with pytest.raises(Killed):
        train_epochs(broken, course(tmp_path / "broken", start=start))
    assert (tmp_path / "broken" / (left or "checkpoint-00003.npz")).exists()
    resumed = Trainee(SCORED)
    again = train_epochs(resumed, course(tmp_path / "broken", start=start))
    assert "it: resuming after epoch 2/4" in capsys.readouterr().err
    assert [line["epoch"] for line in again] == [line["epoch"] for line in lines]
    assert (resumed.weight.value, resumed.moment.value) == (whole.weight.value, whole.moment.value)


def test_a_loss_that_is_not_finite_stops_it_with_batch_and_learning_rate(tmp_path):
    trainee = Trainee(SCORED, losses={(2, 1): float("nan")})
    with pytest.raises(TrainingError) as caught:
        train_epochs(trainee, course(tmp_path))
    kept = tmp_path / "checkpoint-00001.npz"
    assert str(caught.value) == (
        "it, epoch 2, batch 2/2, learning rate 0.0691: must have a finite loss, got nan. "
        f"The state after epoch 1 stays in {kept}. Use a lower rate."
    )
    assert kept.exists()


def test_logits_that_are_not_finite_stop_it(tmp_path, monkeypatch):
    trainee = Trainee(SCORED)
    monkeypatch.setattr(trainee, "logits", lambda advance: np.array([[np.inf, 0.0]]))
    with pytest.raises(TrainingError) as caught:
        train_epochs(trainee, course(tmp_path))
    assert "it, epoch 1, validation, learning rate 0.0962: must have finite logits, got NaN or inf" in str(caught.value)
    assert str(caught.value).endswith("No epoch was completed. Use a lower rate.")


def test_the_bar_counts_images_of_what_is_left(tmp_path, monkeypatch):
    counted, bars = [], []

    class Bar:
        def __init__(self, label, total, unit):
            bars.append((label, total, unit))

        def __enter__(self):
            return counted.append

        def __exit__(self, *exc):
            pass

    monkeypatch.setattr("kd2mobile.progress.bar", Bar)
    train_epochs(Trainee(SCORED), course(tmp_path, epochs=2, evaluated_images=3))
    assert bars == [("training it", 16, "images")] and counted == [3, 2, 3, 3, 2, 3]


def test_a_community_is_one_trainee(tmp_path):
    """The third epoch has the best mean, though the first member alone is best in the second."""
    one, other = Trainee([(0.5, 1), (0.9, 1), (0.8, 1), (0.1, 1)]), Trainee([(0.5, 1), (0.2, 1), (0.8, 1), (0.7, 1)])
    history = train_epochs(Community(one, other), course(tmp_path))
    assert best_line(history)["epoch"] == 3 and (one.weight.value, other.weight.value) == (6, 6)
    assert [member["val_top1"] for member in history[1]["members"]] == [0.9, 0.2]


@pytest.mark.parametrize(
    "schedule", [Schedule(0.01, 12, 4, 0.0025), Schedule(3e-4, 20), Schedule(1e-3, 18, 2), Schedule(1.0, 1, 1)]
)
def test_the_schedule_is_what_keras_builds_of_it(schedule):
    built = schedule.built(keras.optimizers)
    for step in range(schedule.warmup_steps + schedule.decay_steps + 3):
        assert float(built(step)) == pytest.approx(schedule(step), rel=1e-5, abs=1e-9), step
