"""Tiny stores: coloured noise squares of three classes, with a teacher that is sure of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kd2mobile.data.shards import write_array
from kd2mobile.recipe import schema
from kd2mobile.training.examples import Examples

CLASSES, PX, VIEWS = 3, 8, 2


def without_teacher(stores: Examples) -> Examples:
    return replace(stores, transfer_folder=None)


def make_stores(folder: Path, train: int = 50, val: int = 14) -> Examples:
    rng = np.random.default_rng(7)
    labels = {"train": np.arange(train) % CLASSES, "val": np.arange(val) % CLASSES}
    for name, views in (("train", VIEWS), ("val", 1)):
        pixels = rng.integers(0, 120, (len(labels[name]), views, PX, PX, 3))
        pixels[np.arange(len(pixels)), ..., labels[name]] += 60
        (folder / "pixels").mkdir(parents=True, exist_ok=True)
        write_array(folder / "pixels" / f"{name}-00000.npy", pixels.astype(np.uint8))
    logits = rng.normal(0, 1, (train, VIEWS, CLASSES)) + 6 * np.eye(CLASSES)[labels["train"]][:, None]
    (folder / "transfer").mkdir(exist_ok=True)
    write_array(folder / "transfer" / "train-00000.npy", logits.astype(np.float16))
    return Examples(labels["train"], labels["val"], folder / "pixels", folder / "transfer", CLASSES)


def with_unlabelled(stores: Examples, count: int = 20) -> Examples:
    """The stores with so many unlabelled images beside them, each of one brightness, from 200 on."""
    folder = stores.pixels_folder.parent / "unlabelled"
    (folder / "transfer").mkdir(parents=True)
    (folder / "pixels").mkdir()
    pixels = np.zeros((count, VIEWS, PX, PX, 3), np.uint8)
    pixels += (200 + np.arange(count, dtype=np.uint8))[:, None, None, None, None]
    write_array(folder / "pixels" / "unlabelled-00000.npy", pixels)
    logits = np.random.default_rng(8).normal(0, 3, (count, VIEWS, CLASSES)).astype(np.float16)
    write_array(folder / "transfer" / "unlabelled-00000.npy", logits)
    return replace(stores, unlabelled=(folder / "pixels", folder / "transfer"))


@pytest.fixture
def stores(tmp_path: Path) -> Examples:
    return make_stores(tmp_path / "stores")


def distill(**fields) -> schema.Distill:
    settings = {"epochs": 4, "batch_size": 16, "learning_rate": 0.01, "seed": 3}
    return schema.Distill(**settings | fields)


STUDENT = schema.Student(name="small_cnn", weights="none", input_px=PX)
