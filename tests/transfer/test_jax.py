"""Teacher and transfer set on a machine that has JAX and no TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
sys.modules["tensorflow"] = None
import keras
from kd2mobile.teachers.kinds.zoo import ZOO
from kd2mobile.teachers.reading import TeacherImages
from kd2mobile.teachers.zoo import TEACHERS, Architecture
from kd2mobile.transfer.label import label
from tests.teachers.conftest import teacher_config, tiny
from tests.transfer.conftest import make_input
assert keras.config.backend() == "jax"
keras.applications.Tiny = tiny
TEACHERS.register("tiny", "for tests")(Architecture("Tiny", 16, 8, "tf"))
folder = Path({folder!r})
root, split, views = make_input(folder)
tiny((16, 16, 3), include_top=False).save_weights(folder / "tiny.weights.h5")
ways = dict(a=teacher_config(epochs=6), b=teacher_config(weights=str(folder / "tiny.weights.h5"), fine_tune_epochs=1))
for name, teacher in ways.items():
    (folder / name).mkdir()
    assert ZOO.build(folder / name, teacher, TeacherImages(root, split, "stretch")).val.top1 > 0.9
    assert label(folder / (name + "t"), folder / name, root, split, views, 8).val.top1 > 0.9
print("done")
"""


def test_on_jax_without_tensorflow(tmp_path):
    pytest.importorskip("jax")
    code = CHILD.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split()[-1] == "done", done.stderr
