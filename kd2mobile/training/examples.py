"""What a student learns from, as one struct: through the plan, the training and the compressing process."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Examples:
    """train_labels, val_labels: int [n] and [m], in the order of the stores. pixels_folder: the pixel store.

    transfer_folder: the teacher's logits; None for a student on labels alone. classes: how many. unlabelled: pixel
    store and logits of images without labels, which the teacher alone teaches.
    """

    train_labels: np.ndarray
    val_labels: np.ndarray
    pixels_folder: Path
    transfer_folder: Path | None
    classes: int
    unlabelled: tuple[Path, Path] | None = None
