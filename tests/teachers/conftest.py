"""Coloured noise of three classes as a folder of pictures, and a network small enough to learn it in a second."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from kd2mobile import schema
from kd2mobile.data.split import Sample, Split
from kd2mobile.teachers.zoo import TEACHERS, Architecture

CLASSES = ["blue", "green", "red"]
COUNTS = {"train": 10, "val": 5, "test": 3}
PX = 16


def make_pictures(root: Path, classes: list[str] = CLASSES) -> Split:
    """Pictures of 24 x 18 pixels, each class bright in one channel, and their split."""
    rng = np.random.default_rng(3)
    samples = []
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for split, count in COUNTS.items():
            for i in range(count):
                values = rng.integers(0, 140, (18, 24, 3))
                values[..., 2 - label % 3] += 100
                path = root / name / f"{split} {i}.png"
                Image.fromarray(values.astype(np.uint8)).save(path)
                samples.append(Sample(path.relative_to(root).as_posix(), label, split, f"{len(samples):064x}", 24, 18))
    return Split(classes, samples)


def tiny(input_shape, weights=None, include_top=True, pooling=None, classes=1000, classifier_activation="softmax"):
    """What keras.applications has, but tiny: Conv, BatchNormalization, Dropout."""
    layers = keras.layers
    inputs = keras.Input(input_shape)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.99)(x))
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    if include_top:
        x = layers.Dense(classes, activation=classifier_activation)(x)
    model = keras.Model(inputs, x)
    if weights == "imagenet":
        raise Exception("URL fetch failure on https://example.org/models/tiny_notop.h5: None -- no network")
    if weights:
        model.load_weights(weights)
    return model


@pytest.fixture
def tiny_teacher(monkeypatch):
    """`tiny` among the teachers: 16 px, at least 8."""
    monkeypatch.setattr(keras.applications, "Tiny", tiny, raising=False)
    monkeypatch.setitem(TEACHERS._entries, "tiny", Architecture("Tiny", PX, 8, "tf"))
    monkeypatch.setitem(TEACHERS._summaries, "tiny", "for tests")


@pytest.fixture
def pictures(tmp_path):
    """(root, split) of the coloured noise."""
    return tmp_path / "pictures", make_pictures(tmp_path / "pictures")


@pytest.fixture
def body_weights(tmp_path):
    """A weights file of tiny without its top."""
    keras.utils.set_random_seed(1)
    path = tmp_path / "tiny.weights.h5"
    tiny((PX, PX, 3), include_top=False).save_weights(path)
    return path


def asked(**fields) -> schema.Teacher:
    return schema.Teacher(**{"name": "tiny", "weights": "none", "batch_size": 8, "learning_rate": 0.03, **fields})
