"""Settings before anything is imported, and what several parts' tests share."""

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

os.environ["CUDA_VISIBLE_DEVICES"] = ""


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
    from kd2mobile.data.sources import SOURCES

    place = tmp_path_factory.mktemp("digits")
    SOURCES["digits"](place / "all")
    for digit in "01":
        (place / "two" / digit).mkdir(parents=True)
        for picture in sorted((place / "all" / digit).iterdir())[:10]:
            shutil.copy(picture, place / "two" / digit / picture.name)
    return place / "two"
