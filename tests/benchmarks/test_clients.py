"""The files open in the programs that others use, and answer there as here. Each has an environment of its own, made
by pip on first use and kept in .environments/."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from kd2mobile.recipe.schema import PRECISIONS

LEAST_AGREEMENT = 0.99


@pytest.fixture(scope="module")
def clients(benchmark_script):
    """The names of benchmarks/clients.py."""
    return benchmark_script("clients")


@pytest.fixture(scope="module")
def digits(digits_in_tflite):
    return digits_in_tflite


@pytest.fixture(scope="module")
def answers(clients, digits):
    """What a client answers of all the files, asked once; skips where this machine cannot have it."""
    known = {}

    def answers_of(name):
        if name not in known:
            try:
                known[name] = clients["ask"](name, list(digits.files.values()), digits.pixels, digits.photos)
            except clients["Unavailable"] as why:
                known[name] = why
        if isinstance(known[name], Exception):
            pytest.skip(str(known[name]))
        return known[name]

    return answers_of


def test_the_student_knows_its_digits(digits):
    for precision, answers_here in digits.here.items():
        assert (answers_here == digits.labels).mean() > 0.9, precision


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("client", ["mediapipe", "litert", "tflite_runtime"])
def test_it_answers_as_kd2mobile_does(answers, digits, client, precision):
    there = np.array(answers(client)[digits.files[precision].name]["top1"])
    assert (there == digits.here[precision]).mean() >= LEAST_AGREEMENT


@pytest.mark.parametrize("precision", PRECISIONS)
def test_mediapipe_names_the_classes_and_stretches_photos_itself(answers, digits, precision):
    answer = answers("mediapipe")[digits.files[precision].name]
    assert answer["names"] == [f"digit {number}" for number in answer["top1"]]
    assert (np.array(answer["photos_top1"]) == digits.labels).mean() > 0.8


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


def test_what_a_client_is_worth_is_counted_on_the_same_images(clients):
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
    folder = tmp_path / "clients" / "one"
    python = names["environment"](folder)
    (folder / "kept").touch()
    assert names["environment"](folder) == python and (folder / "kept").exists()
    done = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).resolve() == folder.resolve()
    with pytest.raises(names["InstallationFailed"], match="^pip install --no-index no-such-package: ERROR: "):
        names["environment"](folder, ["--no-index", "no-such-package"])
    assert not (folder / "kept").exists() and not (folder / names["MARK"]).exists()


def test_a_client_that_pip_cannot_install_is_left_out_and_reported(clients, tmp_path, monkeypatch):
    def fails(folder, *installs):
        raise clients["InstallationFailed"]("pip install x: ERROR: no network")

    monkeypatch.setitem(clients["open_client"].__globals__, "environment", fails)
    with pytest.raises(clients["Unavailable"], match="litert cannot be installed: pip install x: ERROR: no network"):
        clients["open_client"]("litert")
