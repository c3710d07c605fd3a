"""Labelling on one machine (JAX, no TensorFlow), distilling on another (TensorFlow), with one folder copied."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.store.run import STORE

ON_THE_GPU_MACHINE = """
import sys
sys.path.insert(0, {root!r})
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *how: None if name.partition(".")[0] == "tensorflow" else find(name, *how)
from kd2mobile.cli.commands import main_status
status = main_status({arguments!r})
import keras
assert keras.config.backend() == "jax"
assert not [name for name in sys.modules if name.partition(".")[0] == "tensorflow"]
sys.exit(status)
"""


def arguments(data, teacher):
    return ["--data", data, "--teacher", teacher, "--views", "2", "--set", "views.smallest_area=0.7"]


@pytest.fixture
def machines(digit_folder, tmp_path):
    """Two folders, each with its own copy of the images and the teacher's file, under other names."""
    for images in ("gpu/photos", "laptop/my photos"):
        shutil.copytree(digit_folder, tmp_path / images)
    layers = keras.layers
    stack = [
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 3, strides=2),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5),
    ]
    keras.utils.set_random_seed(0)
    keras.Sequential([keras.Input((8, 8, 3)), *stack]).save(tmp_path / "gpu" / "teacher.keras")
    shutil.copy(tmp_path / "gpu" / "teacher.keras", tmp_path / "laptop" / "copied.keras")
    return tmp_path / "gpu", tmp_path / "laptop"


def test_a_transfer_set_made_on_jax_is_found_by_its_fingerprint_on_tensorflow(machines, monkeypatch, capsys):
    pytest.importorskip("jax")
    gpu, laptop = machines
    label = ["label", *arguments("photos", "teacher.keras"), "--workers", "2", "--label-batch-size", "5"]
    code = ON_THE_GPU_MACHINE.format(root=str(Path(__file__).parents[2]), arguments=label)
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"} | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], cwd=gpu, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = Path(done.stdout.split("Written: ")[1].partition(". Next: kd2mobile distill")[0])
    assert made.parent == STORE / "transfer"

    from kd2mobile.teachers import training
    from kd2mobile.transfer import label as labelling

    monkeypatch.setattr(training, "make_teacher", lambda *_: pytest.fail("a teacher was made"))
    monkeypatch.setattr(labelling, "label", lambda *_, **__: pytest.fail("the teacher was run"))
    monkeypatch.chdir(laptop)
    shutil.copytree(gpu / made, laptop / made)
    student = ["--student", "small_cnn", "--student-weights", "none", "--input-px", "16", "--epochs", "1"]
    assert main_status(["distill", *arguments("my photos", "copied.keras"), *student]) == 0
    output = capsys.readouterr()
    assert f"transfer up to date {made.as_posix()} (its logits are stored: the teacher is not run again)" in output.err
    assert output.out.startswith("Validation top-1: teacher ")
    assert not (laptop / STORE / "teacher").exists() and (laptop / STORE / "split").exists()


def test_different_images_give_another_transfer_set(machines, monkeypatch, capsys):
    gpu, laptop = machines
    monkeypatch.chdir(gpu)
    assert main_status(["label", *arguments("photos", "teacher.keras")]) == 0
    made = Path(capsys.readouterr().out.split("Written: ")[1].partition(". Next: ")[0]).absolute()
    monkeypatch.chdir(laptop)
    first = next((laptop / "my photos" / "0").iterdir())
    first.rename(first.with_name("renamed.png"))
    given = ["distill", *arguments("my photos", "copied.keras"), "--transfer-set", str(made)]
    student = ["--student", "small_cnn", "--student-weights", "none", "--input-px", "16"]
    assert main_status([*given, *student]) == 2
    output = capsys.readouterr().err.splitlines()[-1]
    assert "must be the transfer of this recipe, got " in output and "content: " in output
    first.with_name("renamed.png").rename(first)
    shard = made / "train-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-2])
    assert main_status([*given, *student, "--run", "again"]) == 2
    assert "must be undamaged, got damaged train-00000.npy. Copy it again." in capsys.readouterr().err.splitlines()[-1]
