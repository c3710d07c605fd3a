"""The one training loop: epochs, resuming after a kill, the best epoch, early stopping, NaN, the progress bar.

The student (`train.py`), the teacher (`teachers/fit.py`) and a compression's fine-tuning (`compress/fine_tune.py`) are
each a `Trainee` under it. The loop imports no Keras, so that it runs over Keras 2 and Keras 3 alike.

A community of several models is one Trainee as well: `state` lists the variables of every member and optimizer,
`weights` those of every member, `train_epoch` gives each batch to all of them in turn (so that each can learn from what
the others answer to it), `logits` stacks their answers, and `scores` adds one entry per member to the val_top1 and
val_logloss by which the epoch is chosen.
"""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kd2mobile import progress
from kd2mobile.backend.checkpoint import (
    Checkpoint,
    checkpoint_path,
    resume,
    set_values,
    values_of,
    write_checkpoint,
    write_history,
)
from kd2mobile.errors import TrainingError
from kd2mobile.files import disk_errors
from kd2mobile.training.schedule import Schedule

Line = dict[str, Any]
"""An entry of the history: the results of one epoch."""


class Trainee(Protocol):
    """What the loop trains, in any framework."""

    def state(self) -> list[Any]:
        """Every variable that the training changes: weights, statistics, random seeds, optimizer."""

    def weights(self) -> list[Any]:
        """The variables whose values of the best epoch are kept."""

    def train_epoch(self, epoch: int, after_batch: Callable[[float], None]) -> float:
        """Trains one epoch, counted from 1, and returns its mean loss. It follows from (seed, epoch) alone.

        after_batch: called after each batch with its loss. It raises where that is not finite.
        """

    def logits(self, advance: Callable[[int], None]) -> np.ndarray:
        """Its logits for the validation images, float [..., images, classes]; advance(n) counts n images done."""

    def scores(self, logits: np.ndarray) -> Line:
        """val_top1 (0 to 1), val_logloss (nats) and other JSON values for the history, from the logits."""


def by_top1(line: Line) -> tuple[float, ...]:
    """The highest top-1 on validation is best, among equals the lowest logloss."""
    return line["val_top1"], -line["val_logloss"]


def by_logloss(line: Line) -> tuple[float, ...]:
    """The lowest logloss on validation is best."""
    return (-line["val_logloss"],)


@dataclass(frozen=True)
class Course:
    """The settings of one training.

    folder: for the checkpoints; those of a killed call are resumed. name: of the model in messages and the progress
    bar. epochs: the largest number of epochs. images: training images per epoch; batch_size: images per step. schedule:
    of the learning rate. advice: the next step in the message of a training that diverged.
    best: ranks epochs; the epoch with the highest rank is kept, among equals the first. first_epoch: the first epoch
    that can be the best. patience: number of epochs without a better one after which the training stops, or None.
    start: the scores of the initial weights, which then count as epoch 0; with a first_epoch of 0 these weights are
    kept if no epoch is better.
    evaluated_images: number of images that the progress bar counts per evaluation. history_file: whether
    `history.jsonl` is written.
    """

    folder: Path
    name: str
    epochs: int
    images: int
    batch_size: int
    schedule: Schedule
    advice: str
    best: Callable[[Line], tuple[float, ...]] = by_top1
    patience: int | None = None
    first_epoch: int = 1
    start: Line | None = None
    evaluated_images: int = 0
    history_file: bool = True

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return -(-self.images // self.batch_size)


def best_line(history: list[Line], best: Callable[[Line], tuple] = by_top1, first_epoch: int = 1) -> Line:
    """The best epoch from first_epoch on, among equals the first. If there is none yet, the best of all."""
    return max([line for line in history if line["epoch"] >= first_epoch] or history, key=best)


def train_epochs(trainee: Trainee, course: Course) -> list[Line]:
    """Trains the trainee, or resumes after its last complete checkpoint, and leaves it with the best epoch's weights.

    Returns the history, an entry per epoch: epoch, loss, learning_rate (of its last step), the scores, seconds,
    images_per_s (of the training without the evaluation). The checkpoints stay until the caller has saved the result.
    Raises TrainingError where a loss or a logit is not finite, ArtifactError where nothing can be written.
    """
    history, best = resume(course.folder, trainee.state())
    done = history[-1]["epoch"] if history else 0
    if history:
        progress.say(f"{course.name}: resuming after epoch {done}/{course.epochs}")
    elif course.start is not None:
        history, best = [{"epoch": 0, "loss": None, **course.start, "seconds": 0.0}], values_of(trainee.weights())
    _write(course, history)
    left = (course.epochs - done) * (course.images + course.evaluated_images)
    bar = progress.bar(f"training {course.name}", left, "images") if left > 0 else nullcontext()
    with bar as advance:
        for epoch in range(done + 1, course.epochs + 1):
            if _out_of_patience(course, history):
                break
            line = _run_epoch(trainee, course, epoch, advance)
            history.append(line)
            # the best weights first: the checkpoint holds them
            if best_line(history, course.best, course.first_epoch) is line:
                best = values_of(trainee.weights())
            with disk_errors(course.folder, store=True):
                write_checkpoint(course.folder, Checkpoint(values_of(trainee.state()), best, history))
            _write(course, history)
            progress.say(
                f"epoch {epoch}/{course.epochs}  loss {line['loss']:.3f}  "
                f"val top-1 {line['val_top1']:.3f}  val logloss {line['val_logloss']:.3f}"
            )
    set_values(trainee.weights(), best)
    return history


def _run_epoch(trainee: Trainee, course: Course, epoch: int, advance: Callable[[int], None]) -> Line:
    begun, batch = time.monotonic(), 0

    def after_batch(loss: float) -> None:
        nonlocal batch
        advance(min(course.batch_size, course.images - batch * course.batch_size))
        batch += 1
        if not math.isfinite(loss):
            step = (epoch - 1) * course.steps + batch - 1
            raise _diverged(course, epoch, f"batch {batch}/{course.steps}", step, "must have a finite loss", loss)

    loss = trainee.train_epoch(epoch, after_batch)
    trained = time.monotonic()
    logits, last = trainee.logits(advance), epoch * course.steps - 1
    if not np.isfinite(logits).all():
        raise _diverged(course, epoch, "validation", last, "must have finite logits", "NaN or infinity")
    return {
        "epoch": epoch,
        "loss": loss,
        "learning_rate": course.schedule(last),
        **trainee.scores(logits),
        "seconds": round(time.monotonic() - begun, 3),
        "images_per_s": round(course.images / (trained - begun), 1),
    }


def _diverged(course: Course, epoch: int, position: str, step: int, must: str, got: object) -> TrainingError:
    last = checkpoint_path(course.folder, epoch - (course.start is None))
    kept = f"The state after epoch {epoch - 1} stays in {last}." if epoch > 1 else "No epoch was completed."
    where = f"{course.name}, epoch {epoch}, {position}, learning rate {course.schedule(step):.3g}"
    return TrainingError(where, must, got, f"{kept} {course.advice}")


def _out_of_patience(course: Course, history: list[Line]) -> bool:
    if course.patience is None or not history:
        return False
    best = best_line(history, course.best, course.first_epoch)
    return history[-1]["epoch"] - best["epoch"] >= course.patience


def _write(course: Course, history: list[Line]) -> None:
    if course.history_file:
        with disk_errors(course.folder, store=True):
            write_history(course.folder, history)
