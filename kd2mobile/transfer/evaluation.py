"""Evaluates a transfer set on its validation images."""

from pathlib import Path

import numpy as np

from kd2mobile.data.split import Split
from kd2mobile.store.stage_records import Validated
from kd2mobile.teachers.teacher import evaluation
from kd2mobile.transfer.store import Transfer


def val_of(folder: Path, split: Split) -> Validated:
    """How good the stored logits of the validation images are, each by its first view."""
    return evaluation(val_logits(folder), split.labels_of("val"))


def val_logits(folder: Path) -> np.ndarray:
    """The stored logits of the validation images, each of its first view: float [images, classes]."""
    logits = Transfer(folder).logits("val")
    return logits.take(np.arange(len(logits)), np.zeros(len(logits), np.int64))
