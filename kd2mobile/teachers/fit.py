"""Trains a teacher: from scratch, or with its body unfrozen. A killed training resumes after its last epoch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd2mobile.backend.batch_norm import shorten_memory
from kd2mobile.data.in_threads import in_threads
from kd2mobile.recipe import schema
from kd2mobile.store.stage_records import Validated
from kd2mobile.teachers.preprocess import preprocess
from kd2mobile.teachers.reading import TeacherImages
from kd2mobile.teachers.teacher import Teacher, check_logits, evaluation
from kd2mobile.training.loop import Course, best_line, by_logloss, train_epochs
from kd2mobile.training.schedule import Schedule

SMALLEST_AREA = 0.7
"""Smallest fraction of an image's area in its random training box. No image is mirrored, because a mirrored digit is
another digit."""
FASTEST_FORGETTING = 0.9
"""The lowest momentum of a BatchNormalization's statistics."""


def shorten_statistics(model: keras.Model, steps: int) -> None:
    """Lowers the momentum of every BatchNormalization, so that its statistics follow a short training.

    With Keras's 0.99 or 0.999 the initial statistics last for hundreds of steps, and a network that trained for fewer
    steps gives wrong outputs at inference. The window becomes a twentieth of the steps, but at least ten.
    steps: number of training steps.
    """
    shorten_memory(model, max(FASTEST_FORGETTING, 1 - 20 / steps))


def fit(
    folder: Path,
    teacher: Teacher,
    images: TeacherImages,
    config: schema.Teacher,
    start: Validated | None = None,
) -> list[dict[str, Any]]:
    """Trains the teacher's model on the training images; leaves it with the weights of the best epoch.

    Adam, its rate warmed up over the first epoch (a tenth of the steps if there are fewer than ten epochs), then
    cosine to zero. The state after each epoch goes to a checkpoint in the folder, from which a killed call resumes. The
    best epoch has the lowest logloss on validation.
    config: its epochs, batch_size, learning_rate and seed are used. start: the `evaluation` of a model that already
    knows the classes, for fine-tuning: it counts as epoch 0, which may stay the best, and fine_tune_epochs and
    fine_tune_learning_rate are used instead.
    Returns the history of `training.loop`, a line per epoch. Raises TrainingError if a loss or a logit is not finite.
    """
    name, rate = ("teacher, unfrozen", "fine_tune_learning_rate") if start else ("teacher", "learning_rate")
    epochs, peak = config.fine_tune_epochs if start else config.epochs, getattr(config, rate)
    n_train = len(images.samples_of("train"))
    batch_size = min(config.batch_size, n_train)
    course = Course(
        folder=folder,
        name=name,
        epochs=epochs,
        images=n_train,
        batch_size=batch_size,
        schedule=_schedule(peak, -(-n_train // batch_size), epochs),
        advice=f"Use a lower teacher.{rate}, for example `--set teacher.{rate}={peak / 10:g}`.",
        best=by_logloss,
        first_epoch=0,
        start=start and _scores(start),
        evaluated_images=len(images.samples_of("val")),
        history_file=False,
    )
    return train_epochs(_Trained(teacher, images, course, config.seed), course)


def best_val(history: list[dict[str, Any]], images: int) -> Validated:
    """The `evaluation` of the weights that `fit` kept. images: number of validation images."""
    line = best_line(history, by_logloss, first_epoch=0)
    return Validated(images, line["val_top1"], line["val_logloss"])


class _Trained:
    """A teacher with its optimizer as the loop trains it."""

    def __init__(self, teacher: Teacher, images: TeacherImages, course: Course, seed: int):
        self.teacher, self.images, self.course, self.seed = teacher, images, course, seed
        self.model = teacher.model
        self.model.compile(
            keras.optimizers.Adam(course.schedule.built(keras.optimizers)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )
        self.model.optimizer.build(self.model.trainable_variables)
        self._weights = self.model.variables
        self._state = [*self._weights, *self.model.optimizer.variables]

    def state(self) -> list[keras.Variable]:
        return self._state

    def weights(self) -> list[keras.Variable]:
        return self._weights

    def train_epoch(self, epoch: int, after_batch: Callable[[float], None]) -> float:
        steps, batch_size = self.course.steps, self.course.batch_size
        order = np.random.default_rng([self.seed, epoch]).permutation(self.course.images)
        order = np.concatenate([order, order[: steps * batch_size - len(order)]])
        losses = []
        for shown, labels in _batches(self.teacher, self.images, order.reshape(steps, batch_size), self.seed, epoch):
            self.model.reset_metrics()
            losses.append(float(np.asarray(self.model.train_on_batch(shown, labels, return_dict=True)["loss"])))
            after_batch(losses[-1])
        return round(float(np.mean(losses)), 4)

    def logits(self, advance: Callable[[int], None]) -> np.ndarray:
        answers = []
        for answer in self.teacher.evaluated_outputs(self.images, self.images.samples_of("val")):
            answers.append(answer)
            advance(len(answer))
        return np.concatenate(answers)

    def scores(self, logits: np.ndarray) -> dict[str, Any]:
        check_logits(
            logits,
            [sample.path for sample in self.images.samples_of("val")],
            self.teacher.where,
            self.teacher.known_logits,
        )
        return _scores(evaluation(logits, self.images.labels("val")))


def _scores(val: Validated) -> dict[str, float]:
    return {"val_top1": val.top1, "val_logloss": val.logloss}


def _schedule(peak: float, steps: int, epochs: int) -> Schedule:
    total = steps * epochs
    warmup = max(1, min(steps, total // 10))
    return Schedule(peak, max(1, total - warmup), warmup)


def _batches(
    teacher: Teacher, images: TeacherImages, order: np.ndarray, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    train = images.samples_of("train")

    def read(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        samples = [train[i] for i in numbers]
        seeds = [[seed, epoch, int(i)] for i in numbers]
        shown = images.augmented(samples, teacher.input_px, SMALLEST_AREA, seeds)
        return preprocess(shown, teacher.preprocess), np.array([sample.label for sample in samples])

    return in_threads(read, order, ahead=1)
