"""Training a teacher by gradient: from nothing, or with its body unfrozen. Killed, it goes on after its last epoch."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd2mobile.backend.batch_norm import shorten_memory
from kd2mobile.backend.checkpoint import Checkpoint, resume, set_values, values_of, write_checkpoint
from kd2mobile.data.in_threads import in_threads
from kd2mobile.errors import TrainingError
from kd2mobile.progress import bar, say
from kd2mobile.recipe import schema
from kd2mobile.teachers.preprocess import preprocess
from kd2mobile.teachers.reading import Pictures
from kd2mobile.teachers.teacher import Teacher

SMALLEST_AREA = 0.7
"""Each training picture is seen through a random box of at least this part of its area; none is mirrored, for a
mirrored digit is another digit."""
FASTEST_FORGETTING = 0.9
"""The lowest momentum of a BatchNormalization's statistics."""


def remember_less(model: keras.Model, steps: int) -> None:
    """Lowers the momentum of every BatchNormalization so that its statistics keep up with a short training.

    Keras's 0.99 or 0.999 needs hundreds of steps to forget its initial statistics, and a network that trained for
    fewer answers nonsense when it infers. The window becomes a twentieth of the steps, but no shorter than ten.
    """
    shorten_memory(model, max(FASTEST_FORGETTING, 1 - 20 / steps))


def fit(
    folder: Path,
    teacher: Teacher,
    pictures: Pictures,
    asked: schema.Teacher,
    start: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Trains the teacher's model on the training pictures; leaves it with the weights that judged best.

    Adam, its rate warmed up over the first epoch (a tenth of the steps if there are fewer than ten epochs), then
    cosine to zero. Every epoch follows from (seed, epoch) alone. The state after each epoch goes to
    a checkpoint in the folder, from where a killed call goes on. The best epoch has the lowest logloss on validation.
    asked: its epochs, batch_size, learning_rate and seed. start: how good a model is that knows the classes already
    (see `judgement`): it counts as epoch 0, may turn out the best, and is trained for fine_tune_epochs at
    fine_tune_learning_rate instead.
    Returns one entry an epoch: epoch, loss, val {n, top1, logloss}, seconds. Raises TrainingError if the loss is NaN.
    """
    label, rate = ("teacher, unfrozen", "fine_tune_learning_rate") if start else ("teacher", "learning_rate")
    epochs, learning_rate = asked.fine_tune_epochs if start else asked.epochs, getattr(asked, rate)
    train = pictures.of("train")
    model = teacher.model
    batch_size = min(asked.batch_size, len(train))
    steps = -(-len(train) // batch_size)
    model.compile(
        keras.optimizers.Adam(_schedule(learning_rate, steps, epochs)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    model.optimizer.build(model.trainable_variables)
    state = [*model.variables, *model.optimizer.variables]
    history, best = resume(folder, state)
    if history:
        say(f"teacher: resuming after epoch {history[-1]['epoch']}")
    if start and not history:
        history, best = [{"epoch": 0, "loss": None, "val": start, "seconds": 0.0}], values_of(model.variables)
    for epoch in range(history[-1]["epoch"] + 1 if history else 1, epochs + 1):
        begun = time.monotonic()
        order = np.random.default_rng([asked.seed, epoch]).permutation(len(train))
        order = np.concatenate([order, order[: steps * batch_size - len(order)]])
        losses = np.empty(steps)
        with bar(f"{label}, epoch {epoch}/{epochs}", len(train), "images") as advance:
            batches = _batches(teacher, pictures, order.reshape(steps, batch_size), asked.seed, epoch)
            for step, (shown, labels) in enumerate(batches):
                model.reset_metrics()
                losses[step] = float(np.asarray(model.train_on_batch(shown, labels, return_dict=True)["loss"]))
                if not np.isfinite(losses[step]):
                    raise TrainingError(
                        f"{label}, epoch {epoch}, step {step + 1} of {steps}",
                        f"the loss must stay finite at a peak learning rate of {learning_rate:g}",
                        losses[step],
                        f"Lower it, for example `--set teacher.{rate}={learning_rate / 10:g}`.",
                    )
                advance(min(batch_size, len(train) - step * batch_size))
        _, judged = teacher.judge(pictures, f"{label}, epoch {epoch}/{epochs}, validation")
        history.append({"epoch": epoch, "loss": round(float(losses.mean()), 4), "val": judged})
        history[-1]["seconds"] = round(time.monotonic() - begun, 1)
        say(f"{label}, epoch {epoch}/{epochs}: loss {losses.mean():.3f}, validation top-1 {judged['top1']:.3f}")
        if judged["logloss"] <= min(entry["val"]["logloss"] for entry in history):
            best = values_of(model.variables)
        if epoch < epochs:
            write_checkpoint(folder, Checkpoint(values_of(state), best, history))
    set_values(model.variables, best)
    return history


def _schedule(peak: float, steps: int, epochs: int) -> keras.optimizers.schedules.CosineDecay:
    total = steps * epochs
    warmup = max(1, min(steps, total // 10))
    return keras.optimizers.schedules.CosineDecay(0.0, max(1, total - warmup), warmup_target=peak, warmup_steps=warmup)


def _batches(
    teacher: Teacher, pictures: Pictures, order: np.ndarray, seed: int, epoch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    train = pictures.of("train")

    def read(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        samples = [train[i] for i in numbers]
        seeds = [[seed, epoch, int(i)] for i in numbers]
        shown = pictures.augmented(samples, teacher.input_px, SMALLEST_AREA, seeds)
        return preprocess(shown, teacher.preprocess), np.array([sample.label for sample in samples])

    return in_threads(read, order, ahead=1)
