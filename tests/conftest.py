"""Settings before anything is imported, and what several parts' tests share."""

import os
import runpy
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.tiny_models import models, own, packed  # noqa: F401, fixtures of every part

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

os.environ["CUDA_VISIBLE_DEVICES"] = ""

# The same examples in every run, however slow the machine is at them.
settings.register_profile("tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def fit_statistics(model, pixels):
    """Gives every BatchNormalization the statistics that these pixels have there: without, a deep untrained net is as
    good as constant."""
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.momentum = 0.0
    model(pixels, training=True)


@pytest.fixture(scope="session")
def benchmark_script():
    """A script of benchmarks/ as the names that it defines: benchmark_script("clients")["ask"]. It is not run."""
    folder = str(Path(__file__).parent.parent / "benchmarks")

    def names(script):
        sys.path.insert(0, folder)  # as Python does for a script
        try:
            return runpy.run_path(f"{folder}/{script}.py")
        finally:
            sys.path.remove(folder)

    return names


TINY = """
import sys
import tensorflow as tf

@tf.function(input_signature=[tf.TensorSpec([1, 8, 8, 3], tf.uint8, name="image")])
def classify(image):
    flat = tf.reshape(tf.cast(image, tf.float32) / 255.0, [1, 192])
    weights = tf.constant([[((i * 7 + j * 3) % 11) / 11 - 0.5 for j in range(2)] for i in range(192)])
    return tf.nn.softmax(flat @ weights)

converter = tf.lite.TFLiteConverter.from_concrete_functions([classify.get_concrete_function()])
open(sys.argv[1], "wb").write(converter.convert())
"""


@pytest.fixture(scope="session")
def tiny_tflite(tmp_path_factory):
    """A .tflite without any metadata: uint8 [1, 8, 8, 3] to two probabilities."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.tflite"
    subprocess.run([sys.executable, "-c", TINY, path], check=True, capture_output=True)
    return path


@pytest.fixture(scope="session")
def digit_folder(tmp_path_factory):
    """Two class folders of ten of scikit-learn's digits each."""
    from kd2mobile.data.sources.named import SOURCES

    place = tmp_path_factory.mktemp("digits")
    SOURCES["digits"](place / "all")
    for digit in "01":
        (place / "two" / digit).mkdir(parents=True)
        for image in sorted((place / "all" / digit).iterdir())[:10]:
            shutil.copy(image, place / "two" / digit / image.name)
    return place / "two"


class DigitsInTFLite(NamedTuple):
    """files: by precision; photos, pixels, labels: of the test images; here: what kd2mobile answers, by precision."""

    files: dict[str, Path]
    photos: list[Path]
    pixels: np.ndarray
    labels: np.ndarray
    here: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def digits_in_tflite(tmp_path_factory) -> DigitsInTFLite:
    """A small student at 16 px, trained for seconds on scikit-learn's digits, and its file in every precision."""
    import keras

    from kd2mobile.data.sources.named import SOURCES
    from kd2mobile.measure.litert.runtime import Classifier
    from kd2mobile.pixels import load, to_student_input
    from kd2mobile.recipe.schema import PRECISIONS, Export
    from kd2mobile.students import build_student
    from kd2mobile.tflite import worker
    from kd2mobile.tflite.job import Job

    place, tested = tmp_path_factory.mktemp("digits"), 300
    SOURCES["digits"](place / "images")
    photos = sorted((place / "images").glob("*/*.png"), key=lambda path: (path.name, path.parent.name))
    order = np.random.default_rng(0).permutation(len(photos))
    photos = [photos[i] for i in order]
    labels = np.array([int(path.parent.name) for path in photos])
    pixels = np.stack([load(path, 16, "stretch") for path in photos])
    student = build_student("small_cnn", 16, 10, "none", 0)
    for layer in student.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # few steps are made
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    student.fit(to_student_input(pixels[tested:]), labels[tested:], batch_size=32, epochs=8, verbose=0)
    student.save(place / "student.keras")
    files = {precision: place / f"digits-{precision}.tflite" for precision in PRECISIONS}
    ids = [path.relative_to(place / "images").as_posix() for path in photos[tested:]]
    job = Job(
        student=str(place / "student.keras"),
        folders=dict.fromkeys(PRECISIONS, str(place)),
        classes=[f"digit {number}" for number in range(10)],
        resize="stretch",
        model_name="digits",
        student_fingerprint="f00d",
        images=str(place / "images"),
        calibration=ids[:100],
        validation=ids[:100],
        options=Export(author="Zoë", licence="Apache-2.0"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a process of its own, where the converter's are not errors
        worker.work(job, lambda kind, **content: None)
    shown, there = photos[:tested], pixels[:tested]
    here = {p: np.array([Classifier(file).outputs(one).argmax() for one in there]) for p, file in files.items()}
    return DigitsInTFLite(files, shown, there, labels[:tested], here)
