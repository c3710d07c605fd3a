"""Memory stays flat as the data grows: what a stage holds is a shard, not the set that it writes.

tracemalloc counts what Python and NumPy allocate, whatever runs beside; the arrays that are mapped from disk do not
count, for they are the system's to drop. Each test also measures with one shard for everything, which must be seen.
"""

import os
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from kd2mobile.data import shards
from kd2mobile.data.pixel_store import render_pixels
from kd2mobile.data.split import Sample, Split
from kd2mobile.data.views import draw_views
from kd2mobile.recipe.schema import Views
from kd2mobile.store.stage_records import Validated
from kd2mobile.teachers.results import Description
from kd2mobile.teachers.teacher import MODEL, Teacher
from kd2mobile.transfer import label as labelling

SMALL_SHARD, ONE_SHARD = 16, 10_000
FEW, MANY = 32, 96
VIEWS, PX, CLASSES = 2, 32, 4000


@pytest.fixture
def grown(tmp_path, monkeypatch):
    """grown(stage, shard) is what one more training image costs at the peak, in bytes, with that many in a shard.

    stage: called with a folder to fill, the root, the split and the views' folder.
    """
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "one.png")

    def peak(stage, name, count):
        names = ["train"] * count + ["val"] * 4 + ["test"] * 4
        samples = [Sample("one.png", i % 3, given, f"{i:064x}", 40, 30) for i, given in enumerate(names)]
        split = Split([f"{number:04d}" for number in range(CLASSES)], samples)
        draw_views(tmp_path / f"views {name}", split, Views(count=VIEWS), "stretch")
        tracemalloc.start()
        try:
            stage(tmp_path / name, tmp_path, split, tmp_path / f"views {name}")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def measure(stage, shard):
        monkeypatch.setattr(shards, "SHARD", shard)
        monkeypatch.setattr(labelling, "SHARD", shard)
        peak(stage, f"first {shard}", 1)  # what the first call alone imports and keeps
        return (peak(stage, f"many {shard}", MANY) - peak(stage, f"few {shard}", FEW)) / (MANY - FEW)

    return measure


def test_the_pixel_store(grown):
    def stage(folder, root, split, views_folder):
        render_pixels(folder, root, split, views_folder, PX)

    stored = VIEWS * PX * PX * 3
    assert grown(stage, SMALL_SHARD) < stored / 4
    assert grown(stage, ONE_SHARD) > stored


class Network:
    """In the place of a network, whose own memory is not the question: every image gets the same logits."""

    def count_params(self):
        return 0

    def predict_on_batch(self, images):
        return np.tile(np.linspace(-5, 5, CLASSES, dtype=np.float32), (len(images), 1))


def test_the_transfer_set(grown, monkeypatch):
    def opened(folder):
        (folder / MODEL).touch()
        names = [f"{n:04d}" for n in range(CLASSES)]
        described = Description(name="still", classes=names, val=Validated(2, 0.5, 1.0))
        return Teacher(Network(), 8, "none", "still"), described

    monkeypatch.setattr(labelling, "open_teacher", opened)

    def stage(folder, root, split, views_folder):
        labelling.label(folder, root, root, split, views_folder, 8)

    stored = VIEWS * CLASSES * np.dtype(np.float16).itemsize
    assert grown(stage, SMALL_SHARD) < stored / 4
    assert grown(stage, ONE_SHARD) > stored
