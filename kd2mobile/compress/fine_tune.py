"""The fine-tuning of a wrapped Keras 2 student with the split-output loss, under the same loop as the student's own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from kd2mobile.compress.job import Job
from kd2mobile.compress.wrapping import Wrapped
from kd2mobile.errors import TrainingError
from kd2mobile.losses import make_loss
from kd2mobile.losses.split_targets import pack_output
from kd2mobile.pixels import to_int8_input
from kd2mobile.training.feed import Evaluated, Feed
from kd2mobile.training.loop import Course, train_epochs
from kd2mobile.training.schedule import Schedule

EVALUATION_BATCH = 64


def evaluate(model: tf_keras.Model, evaluated: Evaluated, where: str) -> dict[str, float]:
    """val_top1 (0 to 1) and val_logloss (nats) of the model's softmax on the validation images.

    Raises TrainingError, about `where`, for logits that are not finite.
    """
    logits = _logits(model, evaluated)
    if not np.isfinite(logits).all():
        next_step = "Train the student again with a lower distill.learning_rate."
        raise TrainingError(f"{where}, validation", "must have finite logits", "NaN or infinity", next_step)
    return evaluated.scores(logits)


def fine_tune(wrapped: Wrapped, job: Job, feed: Feed, evaluated: Evaluated) -> list[dict[str, Any]]:
    """Trains the wrapped model for job.compress.epochs and leaves it with the weights of its best epoch.

    Adam with a cosine from the peak learning rate to zero. The best epoch is chosen from wrapped.first_epoch on. After
    each epoch a checkpoint is written to the job's folder, and a killed process resumes after it.
    Returns the history, a line per epoch. Raises TrainingError for a loss or a logit that is not finite.
    """
    course = Course(
        folder=Path(job.folder),
        name=f"compress {job.method}",
        epochs=job.compress.epochs,
        images=len(feed.labels),
        batch_size=feed.batch_size,
        schedule=Schedule(job.compress.learning_rate, job.compress.epochs * feed.steps),
        advice="Use a lower compress.learning_rate.",
        first_epoch=wrapped.first_epoch,
    )
    return train_epochs(_FineTuned(wrapped, job, course.schedule, feed, evaluated), course)


class _FineTuned:
    """A wrapped Keras 2 student with its optimizer as the loop trains it."""

    def __init__(self, wrapped: Wrapped, job: Job, schedule: Schedule, feed: Feed, evaluated: Evaluated):
        self.model, self.callback, self.feed, self.evaluated = wrapped.model, wrapped.callback, feed, evaluated
        optimizer = tf_keras.optimizers.Adam(schedule.built(tf_keras.optimizers))
        optimizer.build(self.model.trainable_variables)
        self.model.optimizer = optimizer
        self.step = _step(self.model, optimizer, job)
        dropouts = [module for module in self.model.submodules if isinstance(module, tf_keras.layers.Dropout)]
        random_states = [layer._random_generator._generator.state for layer in dropouts]  # no public name reaches them
        self._state = [*self.model.variables, *optimizer.variables, *random_states]
        self.begun = False

    def state(self) -> list[tf.Variable]:
        return self._state

    def weights(self) -> list[tf.Variable]:
        return self.model.variables

    def train_epoch(self, epoch: int, after_batch: Callable[[float], None]) -> float:
        if self.callback and not self.begun:  # it reads how many steps were taken: after a checkpoint was read
            self.callback.set_model(self.model)
            self.callback.on_train_begin()
        self.begun, losses = True, []
        for batch, (pixels, targets, *weights) in enumerate(self.feed.epoch(epoch - 1)):
            if self.callback:
                self.callback.on_train_batch_begin(batch)
            weight = weights[0] if weights else np.ones(len(pixels), np.float32)
            losses.append(float(self.step(to_int8_input(pixels), targets, weight)))
            after_batch(losses[-1])
        if self.callback:
            self.callback.on_epoch_end(epoch - 1)
        return float(np.mean(losses))

    def logits(self, advance: Callable[[int], None]) -> np.ndarray:
        return _logits(self.model, self.evaluated)

    def scores(self, logits: np.ndarray) -> dict[str, float]:
        return self.evaluated.scores(logits)


def _logits(model: tf_keras.Model, evaluated: Evaluated) -> np.ndarray:
    answer = tf.function(lambda pixels: model(pixels, training=False))
    return np.concatenate([answer(to_int8_input(batch)).numpy() for batch in evaluated.batches(EVALUATION_BATCH)])


def _step(model: tf_keras.Model, optimizer: tf_keras.optimizers.Optimizer, job: Job) -> Any:
    loss = make_loss(job.distill)

    @tf.function(reduce_retracing=True)
    def step(pixels: tf.Tensor, targets: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            z = model(pixels, training=True)
            mean = tf.reduce_mean(weights * loss(targets, pack_output(z, job.distill.temperature)))
        gradients = tape.gradient(mean, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return mean

    return step
