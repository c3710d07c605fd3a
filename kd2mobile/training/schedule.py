"""The schedule of the learning rate, in plain numbers and as a schedule of Keras 2 or 3."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up from `first` to `peak`, then a cosine down to zero.

    peak, first: learning rates. warmup_steps: steps until the peak; with 0 it is the first step's rate.
    decay_steps: steps from the peak to zero, at least 1.

    >>> schedule = Schedule(peak=1.0, decay_steps=4, warmup_steps=2, first=0.5)
    >>> [round(schedule(step), 3) for step in range(7)]
    [0.5, 0.75, 1.0, 0.854, 0.5, 0.146, 0.0]
    """

    peak: float
    decay_steps: int
    warmup_steps: int = 0
    first: float = 0.0

    def __call__(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.first + (self.peak - self.first) * step / self.warmup_steps
        decayed = min(step - self.warmup_steps, self.decay_steps) / self.decay_steps
        return self.peak * (1 + math.cos(math.pi * decayed)) / 2

    def built(self, optimizers: Any) -> Any:
        """This schedule as an object of the given module, `keras.optimizers` or `tf_keras.optimizers`."""
        if not self.warmup_steps:
            return optimizers.schedules.CosineDecay(self.peak, self.decay_steps)
        return optimizers.schedules.CosineDecay(
            self.first, self.decay_steps, warmup_target=self.peak, warmup_steps=self.warmup_steps
        )
