"""Evaluates a transfer set on its validation images."""

from pathlib import Path
from typing import Any

import numpy as np

from kd2mobile.data.split import Split
from kd2mobile.teachers.teacher import evaluation
from kd2mobile.transfer.store import Transfer


def val_of(folder: Path, split: Split) -> dict[str, Any]:
    """n, top1 in 0..1 and logloss of the stored logits of the validation images, each by its first view."""
    logits = Transfer(folder).logits("val")
    first = logits.take(np.arange(len(logits)), np.zeros(len(logits), np.int64))
    return evaluation(first, np.array([sample.label for sample in split.samples_of("val")]))
