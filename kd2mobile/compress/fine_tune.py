"""The fine-tuning of a wrapped Keras 2 student with the split-output loss, epoch by epoch, as training/train.py's."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from kd2mobile.backend.checkpoint import (
    Checkpoint,
    best_line,
    resume,
    set_values,
    values_of,
    write_checkpoint,
    write_history,
)
from kd2mobile.backend.tensorflow_process import Tell
from kd2mobile.compress.job import Job
from kd2mobile.compress.wrapping import Wrapped
from kd2mobile.errors import TrainingError
from kd2mobile.losses import make_loss
from kd2mobile.losses.split import pack_output
from kd2mobile.pixels import to_int8_input
from kd2mobile.training.feed import Feed, Judged

JUDGE_BATCH = 64
LOWER_RATE = "Use a lower compress.learning_rate."


def judge(model: tf_keras.Model, judged: Judged, where: str) -> tuple[float, float]:
    """Top-1 (0..1) and logloss (nats) of the model's softmax on the validation pictures.

    Raises TrainingError, at the place `where`, for logits that are not finite.
    """
    answer = tf.function(lambda pixels: model(pixels, training=False))
    z = np.concatenate([answer(to_int8_input(batch)).numpy() for batch in judged.batches(JUDGE_BATCH)])
    if not np.isfinite(z).all():
        raise TrainingError(f"{where}, validation", "must have finite logits", "NaN or infinity", LOWER_RATE)
    return judged.score(z)


def fine_tune(wrapped: Wrapped, job: Job, feed: Feed, judged: Judged, tell: Tell) -> list[dict[str, Any]]:
    """Trains the wrapped model for job.compress.epochs and leaves it with the weights of its best epoch.

    Adam with a cosine from the peak learning rate to zero. The best epoch is chosen from wrapped.first_epoch on. After
    each epoch a checkpoint is written to the job's folder, and a killed process goes on after it.
    Returns the history, one line an epoch. Raises TrainingError for a loss that is not finite.
    """
    model, settings, folder = wrapped.model, job.compress, Path(job.folder)
    schedule = tf_keras.optimizers.schedules.CosineDecay(settings.learning_rate, settings.epochs * feed.steps)
    optimizer = tf_keras.optimizers.Adam(schedule)
    optimizer.build(model.trainable_variables)
    model.optimizer = optimizer
    step = _step(model, optimizer, job)
    dropouts = [module for module in model.submodules if isinstance(module, tf_keras.layers.Dropout)]
    random_states = [layer._random_generator._generator.state for layer in dropouts]  # no public name reaches them
    variables = [*model.variables, *optimizer.variables, *random_states]
    history, best = resume(folder, variables)
    if history:
        tell("say", line=f"compress {job.method}: resuming after epoch {len(history)}/{settings.epochs}")
    if wrapped.callback:
        wrapped.callback.set_model(model)
        wrapped.callback.on_train_begin()
    remaining = settings.epochs - len(history)
    if remaining:
        label = f"compress {job.method}: fine-tuning"
        tell("stage", label=label, total=remaining * len(feed.labels), unit="images")
    for epoch in range(len(history) + 1, settings.epochs + 1):
        begun = time.monotonic()
        loss = _run_epoch(job, step, wrapped.callback, feed, epoch, tell)
        trained = time.monotonic()
        top1, logloss = judge(model, judged, f"compress {job.method}, epoch {epoch}")
        line = {
            "epoch": epoch,
            "loss": loss,
            "val_top1": top1,
            "val_logloss": logloss,
            "seconds": round(time.monotonic() - begun, 3),
            "images_per_s": round(len(feed.labels) / (trained - begun), 1),
        }
        history.append(line)
        if best_line(history[wrapped.first_epoch - 1 :] or history) is line:
            best = values_of(model.variables)
        write_checkpoint(folder, Checkpoint(values_of(variables), best, history))
        write_history(folder, history)
        tell(
            "say",
            line=f"epoch {epoch}/{settings.epochs}  loss {loss:.3f}  val top-1 {top1:.3f}  val logloss {logloss:.3f}",
        )
    set_values(model.variables, best)
    return history


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


def _run_epoch(job: Job, step: Any, callback: Any, feed: Feed, epoch: int, tell: Tell) -> float:
    losses = []
    for batch, (pixels, targets, *weights) in enumerate(feed.epoch(epoch - 1)):
        if callback:
            callback.on_train_batch_begin(batch)
        weight = weights[0] if weights else np.ones(len(pixels), np.float32)
        loss = float(step(to_int8_input(pixels), targets, weight))
        if not math.isfinite(loss):
            where = f"compress {job.method}, epoch {epoch}, batch {batch + 1}/{feed.steps}"
            raise TrainingError(where, "must have a finite loss", loss, LOWER_RATE)
        losses.append(loss)
        tell("done", count=min(feed.batch_size, len(feed.labels) - batch * feed.batch_size))
    if callback:
        callback.on_epoch_end(epoch - 1)
    return float(np.mean(losses))
