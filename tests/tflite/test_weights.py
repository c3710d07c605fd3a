"""What pruning and clustering left is still in the files, in every precision: counted on the files."""

import keras
import numpy as np
import pytest

from kd2mobile.inspection.graph import read_model
from kd2mobile.inspection.weights import count_weights
from kd2mobile.recipe.schema import COMPRESSIONS, Export
from kd2mobile.recipe.variants import Variant
from kd2mobile.tflite.convert import Converter, load_student
from kd2mobile.tflite.settings import file_settings, is_clustered

from .conftest import dark_images
from .test_export import run_here

VALUES = 6
"""Clusters of a kernel, and zero besides."""
PRECISIONS = ("fp32", "fp16", "int8_dynamic", "int8")


@pytest.fixture(scope="module")
def squeezed(case, tmp_path_factory):
    """The student with half of each kernel zero and six values for the rest, and its fraction of zeros."""
    student = keras.saving.load_model(case.student, compile=False)
    zeros = size = 0
    for layer in student.layers:
        if type(layer).__name__ in ("Conv2D", "Dense"):
            kernel = np.asarray(layer.kernel)
            shared = np.quantile(kernel, np.linspace(0.02, 0.98, VALUES))
            nearest = shared[np.abs(kernel[..., None] - shared).argmin(-1)]
            kernel = np.where(np.abs(kernel) < np.median(np.abs(kernel)), 0.0, nearest)
            layer.kernel.assign(kernel)
            zeros, size = zeros + (kernel == 0).sum(), size + kernel.size
    path = tmp_path_factory.mktemp("squeezed") / "student.keras"
    student.save(path)
    return path, zeros / size


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated:UserWarning")  # TensorFlow's own, in its calibrator
def test_every_precision_keeps_the_zeros_and_the_values_of_an_output(case, squeezed, tmp_path):
    student, zeros = squeezed
    folders = {precision: tmp_path for precision in PRECISIONS}
    results = run_here(student, folders, case.arguments(compression="cluster"))
    for result in results:
        weights = result.weights
        assert weights.layers == 4 and weights.clusters_of_output <= VALUES + 1, result.precision
        assert weights.zeros == pytest.approx(zeros) if "fp" in result.precision else weights.zeros >= zeros
    by_precision = {result.precision: result.weights for result in results}
    assert by_precision["fp32"].clusters > VALUES + 1, "a folded BatchNormalization gives each output its own"


@pytest.mark.filterwarnings("ignore:.*Interpreter is deprecated:UserWarning")
def test_without_keep_clusters_fp16_would_split_them(squeezed):
    def distinct(keep_clusters: bool) -> int:
        with Converter(*load_student(squeezed[0], 3), list(dark_images(6)[0]), keep_clusters=keep_clusters) as made:
            model, _ = made.convert("fp16", "a.tflite")
            return count_weights(model, read_model(model)).clusters_of_output

    assert distinct(True) <= VALUES + 1 < distinct(False)


def test_only_files_of_shared_values_are_made_otherwise():
    assert [name for name in COMPRESSIONS if is_clustered(name)] == ["cluster", "pcqat"]
    marked = {
        (compression, precision)
        for compression in COMPRESSIONS
        for precision in PRECISIONS
        if "keep_clusters" in file_settings(Export(), Variant(compression, precision), 3)
    }
    assert marked == {("cluster", "fp16"), ("pcqat", "fp16")}
