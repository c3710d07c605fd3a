import io
import json
import zipfile

import numpy as np
import pytest

from kd2mobile.inspection.metadata import read_metadata
from kd2mobile.measure.litert.runtime import Classifier
from kd2mobile.tflite.metadata import attach
from kd2mobile.tflite.parity import open_classifier

from .conftest import CLASSES, PX, dark_images

SAID = {
    "classes": CLASSES,
    "resize": "crop",
    "input_px": 8,
    "model_name": "m",
    "precision": "fp16",
    "student_fingerprint": "f",
    "takes_floats": False,
}


@pytest.fixture(scope="module")
def model(case):
    """A converter's model, without what stands behind it."""
    return case.file("fp32").read_bytes().partition(b"PK\x03\x04")[0]


def test_the_model_stays_in_front_and_the_bytes_are_the_arguments(model):
    file = attach(model, **SAID)
    assert file[4:8] == b"TFL3" and file == attach(model, **SAID)
    for field, other in {"resize": "pad", "author": "me", "licence": "MIT", "version": "2"}.items():
        assert file != attach(model, **(SAID | {field: other}))


def test_labels_are_one_per_line_and_classes_exact(model):
    with zipfile.ZipFile(io.BytesIO(attach(model, **SAID))) as archive:
        assert archive.testzip() is None and archive.namelist() == ["labels.txt", "kd2mobile.json"]
        assert archive.read("labels.txt").decode() == "red\ngrün\na\\nb\n"
        assert json.loads(archive.read("kd2mobile.json")) == {
            "format": 1,
            "classes": CLASSES,
            "resize": "crop",
            "input_px": 8,
            "model": "m",
            "precision": "fp16",
            "compression": "none",
            "student_fingerprint": "f",
        }


@pytest.mark.parametrize("precision", ["fp32", "int8", "int16x8"])
def test_the_measuring_side_reads_it_from_the_file(case, precision):
    metadata = read_metadata(case.file(precision))
    assert metadata.own and metadata.classes == CLASSES
    assert (metadata.resize, metadata.input_px, metadata.model, metadata.precision) == (
        "stretch",
        PX,
        "tiny",
        precision,
    )
    assert (metadata.compression, metadata.student_fingerprint) == ("none", "f00d")
    assert (metadata.mean, metadata.std) == (([0.0], [1.0]) if precision == "int16x8" else (None, None))


@pytest.mark.parametrize("precision", ["fp32", "int8", "int16x8"])
def test_the_measuring_side_feeds_it_pixels(case, precision):
    """Whatever the file takes: uint8, or floats from 0 to 255."""
    (shown,), _ = dark_images(1)
    file = case.file(precision)
    np.testing.assert_array_equal(Classifier(file).outputs(shown), open_classifier(file.read_bytes())(shown))
