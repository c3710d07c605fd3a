"""Coloured noise of three classes as a folder of images, and a network small enough to learn it in a second."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from kd2mobile.data.split import Sample, Split
from kd2mobile.recipe import schema
from kd2mobile.teachers.file import read_teacher_file
from kd2mobile.teachers.kinds.own_model import OWN_MODEL
from kd2mobile.teachers.reading import TeacherImages
from kd2mobile.teachers.zoo import TEACHERS, Architecture

L = keras.layers
CLASSES = ["blue", "green", "red"]
COUNTS = {"train": 10, "val": 5, "test": 3}
PX = 16


def make_images(root: Path, classes: list[str] = CLASSES) -> Split:
    """Images of 24 x 18 pixels, each class bright in one channel, and their split."""
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
def images(tmp_path):
    """(root, split) of the coloured noise."""
    return tmp_path / "images", make_images(tmp_path / "images")


@pytest.fixture
def body_weights(tmp_path):
    """A weights file of tiny without its top."""
    keras.utils.set_random_seed(1)
    path = tmp_path / "tiny.weights.h5"
    tiny((PX, PX, 3), include_top=False).save_weights(path)
    return path


def teacher_config(**fields) -> schema.Teacher:
    return schema.Teacher(**{"name": "tiny", "weights": "none", "batch_size": 8, "learning_rate": 0.03, **fields})


def knower(*tail, classes=CLASSES, px=PX, rescaling=True):
    """A model that tells the coloured noise apart by its brightest channel; `tail` comes after its Dense layer."""
    inputs = keras.Input((px, px, 3))
    x = L.Rescaling(1 / 255)(inputs) if rescaling else inputs
    x = L.GlobalAveragePooling2D()(x)
    dense = L.Dense(len(classes), name="answers")
    x = dense(x)
    channel = np.array([{"red": 0, "green": 1, "blue": 2}.get(name, 0) for name in classes])
    dense.set_weights([20 * np.eye(3, dtype="f4")[:, channel], np.zeros(len(classes), "f4")])
    for layer in tail:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.fixture
def save(tmp_path):
    """save(model, beside={...}) writes mine.keras, and teacher.json beside it; returns the path."""

    def write(model, beside=None):
        path = tmp_path / "mine.keras"
        model.save(path)
        if beside is not None:
            (tmp_path / "teacher.json").write_text(json.dumps(beside))
        return path

    return write


@pytest.fixture
def make(images, tmp_path):
    """make(path, ...) runs the stage on that file; returns its folder and results."""
    root, split = images

    def run(path, **fields):
        folder = tmp_path / "made"
        folder.mkdir(exist_ok=True)
        return folder, OWN_MODEL.build(
            folder, teacher_config(**{"name": str(path), **fields}), TeacherImages(root, split, "stretch")
        )

    return run


def read(path, **fields):
    return read_teacher_file(path, teacher_config(name=str(path), **fields))


def raw(model):
    return model.predict_on_batch(np.full((1, PX, PX, 3), 99.0)).ravel()
