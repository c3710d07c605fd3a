import io
import json
import zipfile

import pytest

from kd2mobile.measure.metadata import read_metadata
from kd2mobile.tflite.metadata import attach

from .conftest import CLASSES, PX

MODEL = b"\x1c\0\0\0TFL3" + bytes(range(256))
SAID = {
    "classes": CLASSES,
    "resize": "crop",
    "input_px": 8,
    "model_name": "m",
    "precision": "fp16",
    "student_fingerprint": "f",
}


def test_the_model_stays_in_front_and_the_bytes_are_the_arguments():
    file = attach(MODEL, **SAID)
    assert file.startswith(MODEL) and file == attach(MODEL, **SAID)
    assert file != attach(MODEL, **(SAID | {"resize": "pad"}))


def test_labels_are_one_a_line_and_classes_exact():
    with zipfile.ZipFile(io.BytesIO(attach(MODEL, **SAID))) as archive:
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


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_measuring_side_reads_it_from_the_file(case, precision):
    said = read_metadata(case.file(precision))
    assert said.own and said.classes == CLASSES
    assert (said.resize, said.input_px, said.model, said.precision) == ("stretch", PX, "tiny", precision)
    assert (said.compression, said.student_fingerprint) == ("none", "f00d")
