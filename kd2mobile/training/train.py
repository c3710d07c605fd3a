"""The stage `student`: trains the small model on the teacher's logits and the labels, or on the labels alone."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd2mobile import progress
from kd2mobile.backend.batch_norm import shorten_memory
from kd2mobile.backend.checkpoint import HISTORY_FILE, remove_checkpoints
from kd2mobile.backend.model_files import save_model
from kd2mobile.errors import TrainingError
from kd2mobile.files import disk_errors
from kd2mobile.losses import LOSSES, make_loss
from kd2mobile.losses.split_targets import pack_output, unpack_output
from kd2mobile.recipe import schema
from kd2mobile.students import build_student, freeze_all_but
from kd2mobile.text import count_of
from kd2mobile.training.examples import Examples
from kd2mobile.training.feed import Evaluated, Feed
from kd2mobile.training.loop import Course, best_line, train_epochs
from kd2mobile.training.results import STUDENT_FILE, StudentResults
from kd2mobile.training.schedule import Schedule

EVALUATION_BATCH = 64


def train_student(
    folder: Path,
    distill: schema.Distill,
    student: schema.Student,
    examples: Examples,
) -> StudentResults:
    """Trains the student and writes `student.keras` (pixels in [-1, 1] to logits, best epoch) and `history.jsonl`.

    folder: empty, or left by a killed call: the training then resumes after the last complete epoch and, on TensorFlow
    on a CPU with a fixed number of threads, ends with the same bytes as an uninterrupted one.
    examples: without a transfer set they need a loss that uses no teacher, as the baseline has. student.train_layers:
    see `freeze_all_but`; in the saved student every layer is trainable again.

    Each epoch shows every training image once, in one of its views (see `feed`), to Adam under a cosine schedule
    with linear warm-up. With m unlabelled images beside n labelled ones an epoch is (n + m) / n times as long as the
    baseline's, which sees the labelled ones alone. distill.class_weights multiplies an example's whole loss.
    After an epoch the student is evaluated on the validation images: the best epoch has the highest top-1, among
    equals the lowest logloss of softmax(z), clipped as in `metrics`, at temperature 1 whatever that of the loss.
    Training stops after `patience` epochs without a better one.

    Raises TrainingError if a loss is not finite, naming epoch and batch; RecipeError, WeightsError, UnknownNameError
    for a student that cannot be built; ArtifactError for a store that cannot be read.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    needs_teacher = LOSSES[distill.loss].needs_teacher
    if examples.transfer_folder is None and needs_teacher:
        must = "must be a loss that needs no teacher, such as `labels`, if there is no transfer set"
        raise TrainingError("distill.loss", must, distill.loss, "Give a transfer set.")
    # a killed call that had only to save does no more
    done = _finished(folder, student)
    if done is not None:
        return done
    taught = examples.transfer_folder if needs_teacher else None
    # data, then the model: its statistics follow the number of steps
    feed = Feed(
        examples.train_labels,
        examples.classes,
        examples.pixels_folder,
        taught,
        distill.batch_size,
        distill.seed,
        examples.unlabelled if taught is not None else None,
        distill.class_weights,
    )
    evaluated = Evaluated(examples.val_labels, examples.pixels_folder)
    model = build_student(student.name, student.input_px, examples.classes, student.weights, distill.seed)
    _shorten_batch_statistics(model, feed.steps)
    trained = freeze_all_but(model, student.train_layers)
    name = f"{student.name} {'on labels alone' if taught is None else 'with the teacher'}"
    if student.train_layers != "all":
        rest = (
            "random, as student.weights is `none`, which is seldom useful" if student.weights == "none" else "unchanged"
        )
        progress.say(f"{name}: {count_of(len(trained), 'layer')} trained, from {trained[0]} on; the rest stays {rest}")
    labelled = len(examples.train_labels)
    if unlabelled := len(feed.labels) - labelled:
        progress.say(f"{name}: an epoch shows {labelled} labelled and {unlabelled} unlabelled images")
    check = ", or check the teacher's logits" if taught else ""
    course = Course(
        folder=folder,
        name=name,
        epochs=distill.epochs,
        images=len(feed.labels),
        batch_size=feed.batch_size,
        schedule=_schedule(distill, feed.steps),
        advice=f"Use a lower distill.learning_rate{check}.",
        patience=distill.patience,
    )
    history = train_epochs(_Student(model, distill, course.schedule, feed, evaluated), course)
    results = _results(history, model)
    _save(folder, model)
    return results


class _Student:
    """A student with its optimizer as the loop trains it."""

    def __init__(
        self, model: keras.Model, distill: schema.Distill, schedule: Schedule, feed: Feed, evaluated: Evaluated
    ) -> None:
        self.model, self.feed, self.evaluated = model, feed, evaluated
        self.trainer = _trainer(model, distill, schedule)

    def state(self) -> list[keras.Variable]:
        return [*self.model.variables, *self.trainer.optimizer.variables]

    def weights(self) -> list[keras.Variable]:
        return self.model.weights

    def train_epoch(self, epoch: int, after_batch: Callable[[float], None]) -> float:
        # batch by batch: `fit` would build an input pipeline around the generator in every epoch
        losses = []
        for batch in self.feed.epoch(epoch - 1):
            self.trainer.reset_metrics()  # the loss that follows is this batch's alone
            losses.append(float(np.asarray(self.trainer.train_on_batch(*batch, return_dict=True)["loss"])))
            after_batch(losses[-1])
        return float(np.mean(losses))

    def logits(self, advance: Callable[[int], None]) -> np.ndarray:
        batches = self.evaluated.batches(EVALUATION_BATCH)
        return np.concatenate([unpack_output(self.trainer.predict_on_batch(batch))[0] for batch in batches])

    def scores(self, logits: np.ndarray) -> dict[str, float]:
        return self.evaluated.scores(logits)


def _trainer(model: keras.Model, distill: schema.Distill, schedule: Schedule) -> keras.Model:
    """The compiled model for training: uint8 pixels, scaled to [-1, 1], through the student to a split output."""
    pixels = keras.Input(model.input_shape[1:], dtype="uint8", name="stored_pixels")
    z = model(keras.ops.cast(pixels, "float32") / 127.5 - 1.0)
    trainer = keras.Model(pixels, pack_output(z, distill.temperature), name="trainer")
    trainer.compile(
        optimizer=keras.optimizers.Adam(schedule.built(keras.optimizers)),
        loss=make_loss(distill),
        jit_compile=False if keras.config.backend() == "tensorflow" else "auto",
    )
    trainer.optimizer.build(trainer.trainable_variables)
    return trainer


def _shorten_batch_statistics(model: keras.Model, steps: int) -> None:
    """Shortens the window of every BatchNormalization to at most a quarter of an epoch.

    Keras's momentum of 0.99 keeps 1e-2 of the initial variance of 1 for 460 steps; a MobileNet trained from scratch
    has variances of 1e-3 and 27 such layers in a row, so on a small data set (40 steps an epoch) it answered at chance
    on validation for more than 12 epochs while its training loss fell.
    """
    shorten_memory(model, max(0.5, 1 - 4 / steps))


def _schedule(distill: schema.Distill, steps: int) -> Schedule:
    """A linear warm-up from one step's share to the peak, of at most epochs - 1 epochs, then a cosine to zero."""
    warmup = min(distill.warmup_epochs, distill.epochs - 1) * steps
    first = distill.learning_rate / warmup if warmup else 0.0
    return Schedule(distill.learning_rate, distill.epochs * steps - warmup, warmup, first)


def _save(folder: Path, model: keras.Model) -> None:
    """Writes the student, then removes the checkpoints."""
    for layer in model.layers:  # on the model itself Keras 3.15 reaches none of them
        layer.trainable = True
    with disk_errors(folder, store=True):
        save_model(model, folder / STUDENT_FILE)
    remove_checkpoints(folder)


def _finished(folder: Path, trained: schema.Student) -> StudentResults | None:
    """The results of a training that was killed after it wrote its last file; None for an unfinished training."""
    student, history = folder / STUDENT_FILE, folder / HISTORY_FILE
    if not (student.exists() and history.exists()):
        return None
    model = keras.saving.load_model(student, compile=False)
    remove_checkpoints(folder)
    freeze_all_but(model, trained.train_layers)
    return _results([json.loads(line) for line in history.read_text("utf-8").splitlines()], model)


def _results(history: list[dict[str, Any]], model: keras.Model) -> StudentResults:
    best = best_line(history)
    return StudentResults(
        best_epoch=best["epoch"],
        epochs_run=len(history),
        val_top1=best["val_top1"],
        val_logloss=best["val_logloss"],
        seconds=round(sum(line["seconds"] for line in history), 3),
        images_per_s=round(len(history) / sum(1 / line["images_per_s"] for line in history), 1),
        parameters=int(model.count_params()),
        trainable_parameters=sum(math.prod(variable.shape) for variable in model.trainable_variables),
    )
