"""The examples that a student learns from, as one struct that plan, training and compression pass on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Examples:
    """The training and validation examples of a student.

    train_labels, val_labels: int [n] and int [m], in the order of the pixel store. pixels_folder: the pixel store.
    transfer_folder: the transfer set; None for a student on labels alone. classes: number of classes. unlabelled: the
    pixel store and the transfer set of images without labels; None if there are none.
    """

    train_labels: np.ndarray
    val_labels: np.ndarray
    pixels_folder: Path
    transfer_folder: Path | None
    classes: int
    unlabelled: tuple[Path, Path] | None = None
