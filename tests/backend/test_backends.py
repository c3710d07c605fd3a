"""TensorFlow and JAX beside each other: losses, a teacher's pass and training, from the same weights and images.

One process a backend computes everything and writes what it found; the tests compare.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import msgspec
import numpy as np
import pytest

from kd2mobile.backend.batch_norm import batch_norms
from kd2mobile.losses import LOSSES
from kd2mobile.students import STUDENTS
from kd2mobile.teachers.body import build_body
from kd2mobile.teachers.zoo import TEACHERS
from tests.losses.test_losses import SETTINGS, draw, reference
from tests.training.conftest import CLASSES, PX, make_stores
from tests.transfer.conftest import make_input, write_teacher

BACKENDS = ("tensorflow", "jax")
TRAINED = ("kd", "logits")
"""The losses that a student takes seven steps with: Adam at 1e-3, batches of 8, no dropout."""

CHILD = """
import sys
from pathlib import Path
root, given, found = map(Path, sys.argv[1:])
sys.path.insert(0, str(root))
from kd2mobile.backend.keras_backend import load_keras
load_keras()
import json
import keras
import msgspec
import numpy as np
from kd2mobile.recipe import schema
from kd2mobile.data.split import read_split
from kd2mobile.losses import LOSSES, make_loss
from kd2mobile.losses.split_targets import pack_output
from kd2mobile.teachers.kinds.zoo import ZOO
from kd2mobile.teachers.reading import TeacherImages
from kd2mobile.training import train
from kd2mobile.transfer import dtype
from kd2mobile.files import is_out_of_memory
from kd2mobile.transfer.label import label
from kd2mobile.transfer.store import Transfer
from tests.losses.test_losses import SETTINGS
from tests.losses.test_losses import distill as with_loss
from tests.backend.test_backends import TRAINED
from tests.training.conftest import CLASSES, STUDENT, Examples, distill

arrays = {}
one_hot, teacher, z = np.load(given / "losses.npz").values()
for name in LOSSES:
    for temperature, weight in SETTINGS:
        targets = np.concatenate([one_hot, teacher], axis=1)
        value = make_loss(with_loss(name, temperature, weight))(targets, pack_output(z, temperature))
        arrays[f"loss {name} {temperature} {weight}"] = np.asarray(value)

split = read_split(given)
asked = schema.Teacher(name="mobilenet", weights=str(given / "body.weights.h5"), input_px=32)
(found / "mobilenet").mkdir(parents=True)
ZOO.build(found / "mobilenet", asked, TeacherImages(given / "images", split, "stretch"))
dtype.LEAST_AGREEMENT = 0.0
records = {"backend": keras.config.backend()}
for name, folder, how in (
    ("small", given / "small", "float32"),
    ("mobilenet", found / "mobilenet", "float32"),
    ("mobilenet in bfloat16", found / "mobilenet", "mixed_bfloat16"),
):
    labelled = label(found / f"{name} set", folder, given / "images", split, given / "views", 8, dtype=how)
    records[name] = msgspec.to_builtins(labelled)
    for part in ("train", "val"):
        logits = Transfer(found / f"{name} set").logits(part)
        arrays[f"{name} {part}"] = np.stack([logits[i] for i in range(len(logits))]).astype(np.float32)

labels = np.load(given / "labels.npz")
stores = Examples(labels["train"], labels["val"], given / "stores" / "pixels", given / "stores" / "transfer", CLASSES)
train.build_student = lambda *_: keras.saving.load_model(given / "start.keras", compile=False)
for loss in TRAINED:
    asked = distill(epochs=1, batch_size=8, learning_rate=1e-3, loss=loss)
    trained = train.train_student(found / f"{loss} student", asked, STUDENT, stores)
    history = (found / f"{loss} student" / "history.jsonl").read_text().splitlines()
    records[f"training {loss}"] = msgspec.to_builtins(trained) | {"loss": json.loads(history[0])["loss"]}
    student = keras.saving.load_model(found / f"{loss} student" / "student.keras", compile=False)
    for i, weight in enumerate(student.get_weights()):
        arrays[f"{loss} weight {i:02d}"] = weight

try:
    np.asarray(keras.ops.ones((1 << 23, 1 << 23)))  # 256 TiB
except Exception as fault:
    records["out of memory"] = is_out_of_memory(fault)
np.savez(found / "arrays.npz", **arrays)
(found / "records.json").write_text(json.dumps(records))
"""


@pytest.fixture(scope="module")
def inputs_folder(tmp_path_factory):
    """What both backends start from: logits for the losses, images, teachers, a student and its stores."""
    folder = tmp_path_factory.mktemp("given")
    np.savez(folder / "losses.npz", *draw(dtype=np.float32))
    _, split, _ = make_input(folder)
    (folder / "split.json").write_bytes(msgspec.json.encode(split))
    write_teacher(folder / "small", [keras.layers.Dense(3)])
    keras.utils.set_random_seed(5)
    body = build_body(TEACHERS["mobilenet"], 32, "none")
    for layer in batch_norms(body):
        layer.momentum = 0.0
    noise = np.random.default_rng(1).uniform(-1, 1, (64, 32, 32, 3)).astype(np.float32)
    body(noise, training=True)  # statistics under which an untrained network answers more than zero
    body.save_weights(folder / "body.weights.h5")
    STUDENTS["small_cnn"].build(keras, PX, CLASSES, dropout=0.0).save(folder / "start.keras")
    stores = make_stores(folder / "stores")
    np.savez(folder / "labels.npz", train=stores.train_labels, val=stores.val_labels)
    return folder


@pytest.fixture(scope="module")
def results(inputs_folder, tmp_path_factory):
    """By backend: its arrays and its records."""
    if not importlib.util.find_spec("jax"):
        pytest.skip("jax is not installed: it comes with the extra `test`")
    root, both = Path(__file__).parents[2], {}
    for backend in BACKENDS:
        folder = tmp_path_factory.mktemp(backend)
        environment = os.environ | {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
        if "ONEDNN_MAX_CPU_ISA" in environment:
            environment["TF_ENABLE_ONEDNN_OPTS"] = "0"  # or TensorFlow aborts at bfloat16
        command = [sys.executable, "-c", CHILD, str(root), str(inputs_folder), str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        records = json.loads((folder / "records.json").read_text())
        assert records["backend"] == backend
        both[backend] = dict(np.load(folder / "arrays.npz")), records
    return both


def beside(results, kind):
    """The arrays whose name begins so, by name: one of each backend."""
    first, second = (results[backend][0] for backend in BACKENDS)
    assert first.keys() == second.keys()
    names = [name for name in first if name.startswith(kind)]
    assert names, kind
    return {name: (first[name], second[name]) for name in names}


def test_every_loss_is_that_of_the_float64_derivation_on_both(results):
    pairs = beside(results, "loss ")
    assert len(pairs) == len(list(LOSSES)) * len(SETTINGS)
    for name in LOSSES:
        for temperature, weight in SETTINGS:
            expected = reference(name, *draw(), temperature, weight)
            for backend, got in zip(BACKENDS, pairs[f"loss {name} {temperature} {weight}"], strict=True):
                assert got.dtype == np.float32, backend
                np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6, err_msg=f"{backend} {name}")


@pytest.mark.parametrize("teacher", ["small", "mobilenet"])
def test_a_teachers_pass_gives_the_same_logits_to_float16s_last_digit(results, teacher):
    for name, (one, other) in beside(results, f"{teacher} ").items():
        if "bfloat16" in name:
            continue
        assert np.ptp(one) > 1, "logits that say something"
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3, err_msg=name)
    first, second = (results[backend][1][teacher]["val"] for backend in BACKENDS)
    assert first["top1"] == second["top1"] and first["logloss"] == pytest.approx(second["logloss"], abs=1e-3)


def test_bfloat16_moves_the_logits_on_both_and_reports_by_how_much(results):
    for backend in BACKENDS:
        arrays, records = results[backend]
        exact, reduced = arrays["mobilenet val"], arrays["mobilenet in bfloat16 val"]
        off = np.abs(exact - reduced)
        effect = records["mobilenet in bfloat16"]["ran"]["dtype_effect"]
        assert 2**-12 < off.max() / np.abs(exact).max() < 2**-1, f"{backend}: 27 untrained layers carry 2**-8 far"
        stored = 2 * 2.0**-11 * float(max(np.abs(exact).max(), np.abs(reduced).max()))  # in float16
        assert effect["largest_difference"] == pytest.approx(off.max(), abs=stored), backend
        assert effect["images"] == len(exact)


@pytest.mark.parametrize("loss", TRAINED)
def test_training_steps_lead_to_the_same_weights(results, inputs_folder, loss):
    start = keras.saving.load_model(inputs_folder / "start.keras", compile=False).get_weights()
    pairs = beside(results, f"{loss} weight")
    assert len(pairs) == len(start)
    moved = 0.0
    for (name, (one, other)), before in zip(sorted(pairs.items()), start, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4, err_msg=name)
        moved = max(moved, float(np.abs(one - before).max()))
    assert moved > 3e-3, "seven steps of about 1e-3 were taken"
    first, second = (results[backend][1][f"training {loss}"] for backend in BACKENDS)
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    assert first["val_logloss"] == pytest.approx(second["val_logloss"], rel=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_that_ends_is_recognised(results, backend):
    assert results[backend][1]["out of memory"] is True
