"""Tiny .tflite files whose answers are known by hand."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kd2mobile.measure.outputs import read_answers
from kd2mobile.measure.record import NOT_REPORTED_HERE

CLASSES = ["blue", "green", "red"]
COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The folder of build_models.py's files: `models / "uint8.tflite"`."""
    folder = tmp_path_factory.mktemp("models")
    script = Path(__file__).with_name("build_models.py")
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    built = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, env=quiet)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture
def packed(models, tmp_path):
    """A copy of a model with files packed behind it: packed("uint8", {"labels.txt": "a\\nb\\nc\\n"})."""

    def pack(name, members):
        path = tmp_path / f"{name}.tflite"
        path.write_bytes((models / f"{name}.tflite").read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            for member, text in members.items():
                archive.writestr(member, text)
        return path

    return pack


@pytest.fixture
def own(packed):
    """A copy of a model that says it is kd2mobile's; description's fields can be replaced."""

    def pack(name="uint8", **fields):
        description = {
            "format": 1,
            "classes": CLASSES,
            "resize": "stretch",
            "input_px": 8,
            "model": "mobilenet025",
            "precision": "fp32",
            "compression": "none",
            "student_fingerprint": "f" * 64,
        } | fields
        return packed(name, {"labels.txt": "\n".join(CLASSES), "kd2mobile.json": json.dumps(description)})

    return pack


def changed(path, model, change):
    """Writes a model whose tables (schema.fbs) the function has changed."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    stored = schema.ModelT.InitFromPackedBuf(model, 0)
    change(stored)
    builder = flatbuffers.Builder(0)
    builder.Finish(stored.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def with_input(path, model, scale, zero_point):
    """Writes a model with another scale and zero point of its input: what its numbers stand for there."""

    def change(stored):
        quantization = stored.subgraphs[0].tensors[stored.subgraphs[0].inputs[0]].quantization
        quantization.scale, quantization.zeroPoint = [scale], [zero_point]

    return changed(path, model, change)


def nones(record):
    """The fields of a record, as JSON, that are None: {"tool", "latency_ms.p90", "conditions.governor"}."""
    found = {field for field, value in record.items() if value is None}
    for field in ("latency_ms", "conditions", "tool"):
        if record[field]:
            inner = record[field] | record[field].get("before", {}) | record[field].get("after", {})
            inner |= {name: None for name, value in record[field].get("before", {}).items() if value is None}
            found |= {f"{field}.{name}" for name, value in inner.items() if value is None}
    return found


def is_explained(record):
    """Whether each None of a record, as JSON, has a reason in `unknown` that somebody gave, and nothing else has."""
    return nones(record) == record["unknown"].keys() and NOT_REPORTED_HERE not in record["unknown"].values()


def pixels(colour, px=8):
    return np.broadcast_to(np.array(colour, np.uint8), (px, px, 3))


def probabilities(classifier, seen):
    """What an opened file makes of uint8 [px, px, 3]: float32 [classes]."""
    return read_answers(classifier.outputs(seen)[np.newaxis], classifier.last_op, classifier.step).values[0]


def by_hand(colour, gain=4.0):
    """The probabilities of blue, green, red for a plain colour, in float64 with the exponentials written out."""
    red, green, blue = (level / 127.5 - 1 for level in colour)
    powers = [np.e ** (gain * value) for value in (blue, green, red)]
    return np.array(powers) / sum(powers)
