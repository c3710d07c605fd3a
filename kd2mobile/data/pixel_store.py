"""The pixel store: the student's pixels of every view, rendered once, so that training reads arrays and not images."""

from pathlib import Path

import numpy as np

from kd2mobile.data.decode_workers import fill_views
from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.shards import write_shards
from kd2mobile.data.sources.roots import Root
from kd2mobile.data.split import UNLABELLED, Sample, Split
from kd2mobile.data.views import read_views
from kd2mobile.errors import DataError
from kd2mobile.pixels import opened


def render_pixels(folder: Path, root: Root, split: Split, views_folder: Path, input_px: int) -> dict[str, int]:
    """Writes the pixels of every view in shards: uint8 [samples, views, input_px, input_px, 3].

    The files are train-*.npy and val-*.npy, or unlabelled-*.npy for a split of unlabelled images, with the samples in
    the order of Split.samples_of. Test images have none: they are evaluated from their own files.
    Each image is decoded once for all its views, on every core; one shard is in memory at a time. Shards that a killed
    call completed are kept.

    input_px: side of the student's square input in pixels.
    Returns the number of rendered views by split. Raises DataError if an image has changed since the split, ImageError
    if it can no longer be decoded, ArtifactError if the disk is full.
    """
    rendered = {}
    for name in split.with_samples("train", "val", UNLABELLED):
        samples, views = split.samples_of(name), read_views(views_folder, name)

        def make(rows: range, samples: list[Sample] = samples, views: np.ndarray = views) -> np.ndarray:
            shard = np.empty((len(rows), views.shape[1], input_px, input_px, 3), np.uint8)

            def fill(row: int) -> None:
                _render_views(shard[row - rows.start], root, samples[row], views[row])

            for _ in in_threads(fill, rows):
                pass
            return shard

        write_shards(folder, name, len(samples), make, f"{name} pixels", "views", views.shape[1])
        rendered[f"{name}_views"] = views.size
    return rendered


def _render_views(target: np.ndarray, root: Root, sample: Sample, views: np.ndarray) -> None:
    with opened(root / sample.path) as image:
        if image.size != (sample.width, sample.height):
            raise DataError(
                root / sample.path,
                f"must be the image of {sample.width} x {sample.height} that was split",
                f"{image.width} x {image.height}",
                "It has changed since: run the same command again.",
            )
        fill_views(target, image, views)
