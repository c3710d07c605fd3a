"""The views: which part of each image teacher and student take, and whether it is mirrored."""

from pathlib import Path

import numpy as np

from kd2mobile import pixels, progress
from kd2mobile.data.shards import write_array
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, Sample, Split
from kd2mobile.errors import ArtifactError
from kd2mobile.recipe import schema

VIEW_DTYPE = np.dtype(
    [
        ("box", "<f4", 4),
        ("flip", "u1"),
        ("jitter", "<f4", 4),
        ("mixup_partner", "<i8"),
        ("mixup_weight", "<f4"),
    ]
)
"""One view. box: left, upper, right, lower in fractions of the image; flip: 1 if mirrored left to right.

Reserved, not drawn yet: jitter (factors of brightness, contrast and saturation, and the shift of the hue; 1, 1, 1, 0
change nothing), mixup_partner (index of another sample of the split, -1 for none) and mixup_weight (of the image
itself).
"""


def draw_views(folder: Path, split: Split, views: schema.Views | None, resize: pixels.Resize) -> dict[str, int]:
    """Writes the views of each split: VIEW_DTYPE, with the samples in the order of Split.samples_of.

    train.npy and unlabelled.npy are [n, views.count] with random boxes; val.npy and test.npy are [n, 1] with the one
    view that is evaluated (pixels.whole_box). The random views of an image depend only on the seed, the image's content
    and the number of the view, not on other images or on its name. No image is opened.

    views: the recipe's [views]; None gives training and unlabelled images the one evaluated view as well.
    Returns the number of views of each split.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name in split.with_samples(*SPLIT_NAMES, UNLABELLED):
        samples, learned = split.samples_of(name), views if name in ("train", UNLABELLED) else None
        table = np.zeros((len(samples), learned.count if learned else 1), VIEW_DTYPE)
        table["jitter"] = 1, 1, 1, 0
        table["mixup_partner"] = -1
        table["mixup_weight"] = 1
        if learned:
            _draw_learned(table, samples, learned, resize)
        elif samples:
            table["box"][:, 0] = [pixels.whole_box(sample.width, sample.height, resize) for sample in samples]
        write_array(folder / f"{name}.npy", table)
        drawn[name] = table.size
    return drawn


def _draw_learned(table: np.ndarray, samples: list[Sample], views: schema.Views, resize: pixels.Resize) -> None:
    with progress.bar("drawing views", len(samples), "images") as advance:
        for i, sample in enumerate(samples):
            drawn = [_random_view(sample, views, resize, k) for k in range(views.count)]
            table["box"][i] = [box for box, _ in drawn]
            table["flip"][i] = [flip for _, flip in drawn]
            advance(1)


def _random_view(sample: Sample, views: schema.Views, resize: pixels.Resize, k: int) -> tuple[pixels.Box, int]:
    rng = np.random.default_rng([views.seed, int(sample.sha256[:16], 16), k])
    box = pixels.random_box(sample.width, sample.height, resize, views.smallest_area, rng)
    return box, int(views.flip and rng.random() < 0.5)


def read_views(folder: Path, name: str) -> np.ndarray:
    """The views of one split, VIEW_DTYPE [samples, views]. Raises ArtifactError if the file is missing or corrupt."""
    path = Path(folder) / f"{name}.npy"
    next_step = f"Remove the folder {folder}; the next run builds it again."
    try:
        table = np.load(path, allow_pickle=False)
    except FileNotFoundError as fault:
        raise ArtifactError(path, "must be there", "no such file", next_step) from fault
    except (OSError, ValueError, EOFError) as fault:
        raise ArtifactError(
            path, "must be a complete .npy file", f"{type(fault).__name__}: {fault}", next_step
        ) from fault
    if table.dtype != VIEW_DTYPE or table.ndim != 2:
        raise ArtifactError(path, "must hold views [samples, views]", f"{table.dtype} {list(table.shape)}", next_step)
    return table
