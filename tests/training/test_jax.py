"""The same on a machine that has JAX and no TensorFlow."""

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
import numpy as np
from kd2mobile.training import train
from tests.training.conftest import STUDENT, distill, make_stores
from tests.training.test_train import interrupt_after
import pytest
assert keras.config.backend() == "jax"
folder = Path({folder!r})
stores = make_stores(folder / "stores")
results = train.train_student(folder / "whole", distill(epochs=3), STUDENT, stores)
assert results.val_top1 > 0.9, results
with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
    interrupt_after(patch, images=2 * 50 + 20)
    train.train_student(folder / "broken", distill(epochs=3), STUDENT, stores)
train.train_student(folder / "broken", distill(epochs=3), STUDENT, stores)
one, other = (keras.saving.load_model(folder / n / "student.keras", compile=False) for n in ("whole", "broken"))
print(max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in zip(one.weights, other.weights)))
"""


def test_on_jax_without_tensorflow_a_broken_training_ends_as_an_unbroken_one(tmp_path):
    pytest.importorskip("jax")
    code = CHILD.format(root=str(Path(__file__).parents[2]), folder=str(tmp_path))
    environment = os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) <= 1e-4
    assert "resuming after epoch 2/3" in done.stderr
