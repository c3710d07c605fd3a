"""Model files that someone else wrote: Keras 2's .h5 and SavedModel, custom code, and what is no classifier."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.errors import TeacherError
from kd2mobile.recipe import schema
from kd2mobile.teachers.keras_file import load_keras_file
from kd2mobile.teachers.kinds.zoo import ZOO
from tests.teachers.conftest import PX

L = keras.layers
KERAS_2 = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np
import tf_keras as keras

L, folder = keras.layers, sys.argv[1]
keras.utils.set_random_seed(0)

def classifier(*body, end="softmax"):
    layers = [keras.Input((16, 16, 3)), *body, L.GlobalAveragePooling2D(), L.Dense(3, activation=end)]
    return keras.Sequential(layers)

plain = classifier(L.Rescaling(1 / 255), L.Conv2D(4, 3), L.BatchNormalization(), L.ReLU())
plain.save(f"{folder}/plain.h5")
plain.save(f"{folder}/saved")
pixels = keras.Input((16, 16, 3))
x = L.Conv2D(4, 3, padding="same", name="a/b")(L.Rescaling(1 / 255)(pixels))
x = L.BatchNormalization(axis=[3])(L.DepthwiseConv2D(3)(x))
x = L.SeparableConv2D(5, 3)(L.ReLU(max_value=6.0)(x))
x = L.Dropout(0.1)(L.GlobalAveragePooling2D(keepdims=True)(x))
mobile = keras.Model(pixels, L.Reshape((3,))(L.Conv2D(3, 1)(x)))
mobile.save(f"{folder}/mobile.h5")
shown = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3)).astype("f4")
np.savez(f"{folder}/answers.npz", plain=plain(shown), mobile=mobile(shown))
classifier(L.Lambda(lambda x: open("ran", "w") and x)).save(f"{folder}/lambda.h5")
op = keras.Model(pixels, L.Dense(3)(L.Flatten()(pixels / 127.5 - 1)))
op.save(f"{folder}/op.h5")
plain.save_weights(f"{folder}/weights.h5")
exec(sys.argv[2])
"""


@pytest.fixture(scope="module")
def keras_2(tmp_path_factory):
    """A folder of what Keras 2 writes: plain.h5, saved/, mobile.h5, answers.npz, lambda.h5, op.h5, weights.h5.

    teacher.h5 is saved/ as the line in the message converts it.
    """
    if not importlib.util.find_spec("tf_keras"):
        pytest.skip("no tf_keras here")
    folder = tmp_path_factory.mktemp("keras2")
    (folder / "saved").mkdir()
    (folder / "saved" / "saved_model.pb").touch()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(TeacherError) as refused:
        patch.chdir(folder)
        ZOO.check(schema.Teacher(name="saved"))
    (line,) = re.findall(r'`python -c "(.*?)"`', str(refused.value))
    shutil.rmtree(folder / "saved")
    subprocess.run([sys.executable, "-c", KERAS_2, folder, line], check=True, capture_output=True, cwd=folder)
    (folder / "ran").unlink()  # Keras 2 ran its Lambda when it built the model
    return folder


def answers(model):
    shown = np.random.default_rng(0).integers(0, 256, (5, PX, PX, 3)).astype("f4")
    return model.predict_on_batch(shown)


@pytest.mark.parametrize("name", ["plain", "mobile"])
def test_an_h5_of_keras_2_answers_as_it_did_there(keras_2, name):
    before = (keras_2 / f"{name}.h5").read_bytes()
    model = load_keras_file(keras_2 / f"{name}.h5")
    np.testing.assert_allclose(answers(model), np.load(keras_2 / "answers.npz")[name], atol=1e-5)
    assert (keras_2 / f"{name}.h5").read_bytes() == before


def test_a_saved_model_is_converted_by_the_line_of_the_message(keras_2, capsys):
    assert main_status(["label", "--teacher", str(keras_2 / "saved")]) == 2
    output = capsys.readouterr().err
    assert "must be a .keras or .h5 file, for Keras 3 does not read a SavedModel, got a SavedModel folder" in output
    model = load_keras_file(keras_2 / "teacher.h5")
    np.testing.assert_allclose(answers(model), np.load(keras_2 / "answers.npz")["plain"], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lambda", "custom code is never run, got a Lambda layer, which carries Python code. Build it from standard"),
        ("op", "got a TFOpLambda: Keras 2's name for a call of TensorFlow between two layers. Build it from"),
        ("weights", "must be a complete model, got a file of weights alone. Save the whole model with `model.save"),
    ],
)
def test_an_unloadable_h5_is_refused_and_its_code_never_runs(keras_2, name, message, monkeypatch):
    monkeypatch.chdir(keras_2)
    with pytest.raises(TeacherError) as caught:
        load_keras_file(keras_2 / f"{name}.h5")
    assert f"{name}.h5: must be" in str(caught.value) and message in str(caught.value)
    assert not (keras_2 / "ran").exists()


class Twice(L.Layer):
    def call(self, x):
        return x + x


def thrice(x):
    return 3 * x


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.parametrize(
    ("custom", "message"),
    [
        (lambda: L.Lambda(lambda x: x), "a Lambda layer, which carries Python code"),
        (lambda: L.TimeDistributed(L.Lambda(lambda x: x)), "a Lambda layer, which carries Python code"),
        (Twice, "'Twice'"),
        (lambda: L.Dense(3, activation=thrice), "the function 'thrice' of its author"),
    ],
    ids=["lambda", "lambda inside", "layer", "activation"],
)
@pytest.mark.filterwarnings("ignore:.*HDF5.*", "ignore:.*lambda.*")
def test_custom_code_is_refused_and_named(tmp_path, monkeypatch, custom, message, suffix):
    path = tmp_path / f"mine.{suffix}"
    keras.Sequential([keras.Input((PX, PX, 3)), custom(), L.Flatten(), L.Dense(3)]).save(path)
    if message.startswith("a Lambda"):
        monkeypatch.setattr(keras.saving, "load_model", lambda *a, **k: pytest.fail("Keras saw the file"))
    with pytest.raises(TeacherError, match=f"mine.{suffix}: must be ") as caught:
        load_keras_file(path)
    assert message in str(caught.value) and "docs/how-to/own-teacher.md" in str(caught.value)


def test_a_module_of_its_own_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    path = tmp_path / "mine.keras"
    keras.Sequential([keras.Input((4,)), L.Dense(3)]).save(path)
    with zipfile.ZipFile(path) as whole:
        parts = {name: whole.read(name) for name in whole.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1] |= {"module": "evil", "class_name": "Dense", "registered_name": "Dense"}
    with zipfile.ZipFile(path, "w") as changed:
        for name, part in (parts | {"config.json": json.dumps(config)}).items():
            changed.writestr(name, part)
    with pytest.raises(TeacherError, match="custom code is never run, got the class 'Dense' of its author"):
        load_keras_file(path)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_damaged_file_is_refused(tmp_path, suffix):
    path = tmp_path / f"mine.{suffix}"
    path.write_text("hello")
    with pytest.raises(TeacherError, match="mine.*: must be a Keras model of standard layers that loads in safe mode"):
        load_keras_file(path)
    with h5py.File(tmp_path / "empty.h5", "w"), pytest.raises(TeacherError, match="empty.h5: must be a"):
        load_keras_file(tmp_path / "empty.h5")
