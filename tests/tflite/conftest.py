"""A tiny student that knows its images, and one run of the converting process over all precisions."""

from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from PIL import Image

from kd2mobile.recipe.schema import PRECISIONS, Export
from kd2mobile.tflite.export import converting_process, export_student
from kd2mobile.tflite.job import Job

PX = 16
CLASSES = ["red", "grün", "a\nb"]


class Case(NamedTuple):
    student: Path
    images: Path
    ids: list[str]
    folders: dict[str, Path]
    results: dict[str, dict]

    def file(self, precision: str) -> Path:
        return self.folders[precision] / f"tiny-{precision}.tflite"

    def arguments(self, **changes) -> dict:
        known = {
            "classes": CLASSES,
            "resize": "stretch",
            "model_name": "tiny",
            "student_fingerprint": "f00d",
            "images": self.images,
            "calibration": self.ids[:9],
            "validation": self.ids[9:],
            "validation_labels": [int(name[0]) for name in self.ids[9:]],
        }
        options = {"author": "Zoë", "licence": "Apache-2.0"}
        options |= {name: changes.pop(name) for name in Export.__struct_fields__ if name in changes}
        return known | {"options": Export(**options)} | changes

    def job(self, student: Path, folders: dict[str, Path], **changes) -> Job:
        return Job(
            student=str(student),
            folders={precision: str(folder) for precision, folder in folders.items()},
            **{**self.arguments(**changes), "images": str(self.images)},
        )


def tiny(body=lambda x: x) -> keras.Model:
    """Convolutions, BatchNormalization, a depthwise one, a concatenation; `body` adds an op in the middle."""
    layers = keras.layers
    image = keras.Input((PX, PX, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = body(layers.DepthwiseConv2D(3, padding="same", activation="relu")(x))
    x = layers.Concatenate()([layers.Conv2D(4, 1, activation="relu")(x), layers.Conv2D(4, 3, padding="same")(x)])
    return keras.Model(image, layers.Dense(3)(layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))))


def dark_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [count, 16, 16, 3], never above 140, in which the class is the brightest channel; and the classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    pixels = rng.integers(20, 80, (count, PX, PX, 3))
    pixels[np.arange(count), :, :, labels] += 60
    return pixels.astype(np.uint8), labels


@pytest.fixture(scope="session")
def case(tmp_path_factory) -> Case:
    folder = tmp_path_factory.mktemp("tflite")
    pixels, labels = dark_images(60)
    ids = [f"{label}/it's #{number}.png" for number, label in enumerate(labels)]
    for image, name in zip(pixels, ids, strict=True):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    keras.utils.set_random_seed(0)
    student = tiny()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.02), loss, jit_compile=False)
    student.fit(pixels / np.float32(127.5) - 1, labels, batch_size=20, epochs=25, verbose=0)
    student.save(folder / "student.keras")
    made = Case(folder / "student.keras", folder / "photos", ids, {p: folder / p for p in PRECISIONS}, {})
    with converting_process() as process:
        results = export_student(made.job(made.student, made.folders), process)
    assert [result.precision for result in results] == list(PRECISIONS)
    made.results.update({result.precision: result for result in results})
    return made
