"""The files open in the programs that others use, and answer there as here. Each has an environment of its own, made
by pip on first use and kept in .environments/."""

import subprocess
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from kd2mobile.data.sources import SOURCES
from kd2mobile.measure.runtime import Classifier
from kd2mobile.pixels import load, to_student_input
from kd2mobile.schema import PRECISIONS
from kd2mobile.students import build_student
from kd2mobile.tflite import worker
from kd2mobile.tflite.job import Job

PX = 16
TEST_PICTURES = 300
LEAST_AGREEMENT = 0.99


@pytest.fixture(scope="module")
def clients(benchmark_script):
    """The names of benchmarks/clients.py."""
    return benchmark_script("clients")


class Digits(NamedTuple):
    """files: by precision; photos, pixels, labels: of the test pictures; here: what kd2mobile answers, by precision."""

    files: dict[str, Path]
    photos: list[Path]
    pixels: np.ndarray
    labels: np.ndarray
    here: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Digits:
    """A small student, trained for seconds on scikit-learn's digits, and its file in every precision."""
    place = tmp_path_factory.mktemp("digits")
    SOURCES["digits"](place / "pictures")
    photos = sorted((place / "pictures").glob("*/*.png"), key=lambda path: (path.name, path.parent.name))
    order = np.random.default_rng(0).permutation(len(photos))
    photos = [photos[i] for i in order]
    labels = np.array([int(path.parent.name) for path in photos])
    pixels = np.stack([load(path, PX, "stretch") for path in photos])
    student = build_student("small_cnn", PX, 10, "none", 0)
    for layer in student.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # few steps are made
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(3e-3), loss, jit_compile=False)
    student.fit(to_student_input(pixels[TEST_PICTURES:]), labels[TEST_PICTURES:], batch_size=32, epochs=8, verbose=0)
    student.save(place / "student.keras")
    files = {precision: place / f"digits-{precision}.tflite" for precision in PRECISIONS}
    ids = [path.relative_to(place / "pictures").as_posix() for path in photos[TEST_PICTURES:]]
    job = Job(
        student=str(place / "student.keras"),
        folders=dict.fromkeys(PRECISIONS, str(place)),
        classes=[f"digit {number}" for number in range(10)],
        resize="stretch",
        model_name="digits",
        student_fingerprint="f00d",
        pictures=str(place / "pictures"),
        calibration=ids[:100],
        validation=ids[:100],
        author="Zoë",
        licence="Apache-2.0",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in a process of its own, where the converter's are not errors
        worker.work(job, lambda kind, **content: None)
    shown, there = photos[:TEST_PICTURES], pixels[:TEST_PICTURES]
    here = {p: np.array([Classifier(file).outputs(one).argmax() for one in there]) for p, file in files.items()}
    return Digits(files, shown, there, labels[:TEST_PICTURES], here)


@pytest.fixture(scope="module")
def answers(clients, digits):
    """What a client answers of all the files, asked once; skips where this machine cannot have it."""
    known = {}

    def of(name):
        if name not in known:
            try:
                known[name] = clients["ask"](name, list(digits.files.values()), digits.pixels, digits.photos)
            except clients["Unavailable"] as why:
                known[name] = why
        if isinstance(known[name], Exception):
            pytest.skip(str(known[name]))
        return known[name]

    return of


def test_the_student_knows_its_digits(digits):
    for precision, found in digits.here.items():
        assert (found == digits.labels).mean() > 0.9, precision


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("client", ["mediapipe", "litert", "tflite_runtime"])
def test_it_answers_as_kd2mobile_does(answers, digits, client, precision):
    there = np.array(answers(client)[digits.files[precision].name]["top1"])
    assert (there == digits.here[precision]).mean() >= LEAST_AGREEMENT


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mediapipe_names_the_classes_and_stretches_photos_itself(answers, digits, precision):
    found = answers("mediapipe")[digits.files[precision].name]
    assert found["names"] == [f"digit {number}" for number in found["top1"]]
    assert (np.array(found["photos_top1"]) == digits.labels).mean() > 0.8


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mediapipes_own_schema_reads_the_metadata(answers, digits, precision):
    assert answers("mediapipe")[digits.files[precision].name]["metadata"] == {
        "name": "digits",
        "version": "f00d",
        "author": "Zoë",
        "license": "Apache-2.0",
        "rgb": True,
        "normalization": [[[0.0], [1.0]]] if precision == "int16x8" else [],
        "labels": ["labels.txt"],
    }


def test_what_a_client_is_worth_is_counted_on_the_same_pictures(clients):
    answers = {"a.tflite": {"top1": [0, 1, 2, 2], "names": ["x"] * 4, "photos_top1": [0, 0, 0, 2]}}
    here, labels = {"int8": np.array([0, 1, 2, 1])}, np.array([0, 1, 0, 2])
    (row,) = clients["compared"](answers, {"int8": Path("a.tflite")}, here, labels)
    assert row == {"precision": "int8", "agreement": 0.75, "top1": 0.75, "kd2mobile_top1": 0.5, "photos_top1": 0.75}


def test_a_client_without_a_wheel_for_this_python_is_left_out(clients):
    clients["CLIENTS"]["old"] = clients["Client"]([], [], python=(3, 0))
    with pytest.raises(clients["Unavailable"], match=r"^old has wheels up to Python 3.0 alone, and this is 3\.\d+$"):
        clients["open_client"]("old")


def test_an_environment_is_made_once_and_a_half_made_one_again(benchmark_script, tmp_path):
    names = benchmark_script("environments")
    place = tmp_path / "clients" / "one"
    python = names["environment"](place)
    (place / "kept").touch()
    assert names["environment"](place) == python and (place / "kept").exists()
    said = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(said.stdout.strip()).resolve() == place.resolve()
    with pytest.raises(names["InstallationFailed"], match="^pip install --no-index no-such-package: ERROR: "):
        names["environment"](place, ["--no-index", "no-such-package"])
    assert not (place / "kept").exists() and not (place / names["MARK"]).exists()


def test_a_client_that_pip_cannot_install_is_left_out_and_said(clients, tmp_path, monkeypatch):
    def fails(place, *installs):
        raise clients["InstallationFailed"]("pip install x: ERROR: no network")

    monkeypatch.setitem(clients["open_client"].__globals__, "environment", fails)
    with pytest.raises(clients["Unavailable"], match="litert cannot be installed: pip install x: ERROR: no network"):
        clients["open_client"]("litert")
