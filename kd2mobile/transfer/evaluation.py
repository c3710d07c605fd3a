"""Evaluates a transfer set on its validation images."""

from pathlib import Path

import numpy as np

from kd2mobile.data.split import Split
from kd2mobile.store.stage_records import Validated
from kd2mobile.teachers.teacher import evaluation
from kd2mobile.transfer.store import Transfer


def val_of(folder: Path, split: Split) -> Validated:
    """How good the stored logits of the validation images are, each by its first view."""
    logits = Transfer(folder).logits("val")
    first = logits.take(np.arange(len(logits)), np.zeros(len(logits), np.int64))
    return evaluation(first, np.array([sample.label for sample in split.samples_of("val")]))
