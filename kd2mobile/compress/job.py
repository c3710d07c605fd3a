"""What the compressing process is asked to do."""

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from kd2mobile.recipe.schema import Compress, Distill
from kd2mobile.training.examples import Examples


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one student. Paths are absolute, as text; labels are in the order of the stores.

    student: a student.keras; name: its name in the registry of students. folder: where the results go, and what a
    killed process left. method: `qat`, `prune` or `cluster`; preserve: the methods before it whose work must stay.
    unlabelled: pixel store and logits of the images without labels, or None. transfer: None for labels alone.
    """

    student: str
    name: str
    folder: str
    method: str
    preserve: list[str]
    compress: Compress
    distill: Distill
    classes: int
    train_labels: list[int]
    val_labels: list[int]
    pixels: str
    transfer: str | None
    unlabelled: tuple[str, str] | None

    @classmethod
    def of(cls, examples: Examples, student: Path, folder: Path, **how: Any) -> "Job":
        """The job on those examples. how: the other fields."""
        unlabelled = examples.unlabelled
        return cls(
            student=os.path.abspath(student),
            folder=os.path.abspath(folder),
            classes=examples.classes,
            train_labels=examples.train_labels.tolist(),
            val_labels=examples.val_labels.tolist(),
            pixels=os.path.abspath(examples.pixels_folder),
            transfer=None if examples.transfer_folder is None else os.path.abspath(examples.transfer_folder),
            unlabelled=None if unlabelled is None else (os.path.abspath(unlabelled[0]), os.path.abspath(unlabelled[1])),
            **how,
        )

    @property
    def examples(self) -> Examples:
        return Examples(
            np.array(self.train_labels),
            np.array(self.val_labels),
            Path(self.pixels),
            None if self.transfer is None else Path(self.transfer),
            self.classes,
            None if self.unlabelled is None else (Path(self.unlabelled[0]), Path(self.unlabelled[1])),
        )
