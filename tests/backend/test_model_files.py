"""Keras files: the same bytes for the same model, and nothing unpacked that declares too much."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from kd2mobile.backend import model_files
from kd2mobile.backend.model_files import check_archive, check_hdf5, save_model
from kd2mobile.errors import TeacherError

SAVES = """
import sys
from pathlib import Path
padding = [object() for _ in range(int(sys.argv[2]))]  # other addresses
from kd2mobile.backend.keras_backend import load_keras
load_keras()
import keras
from kd2mobile.backend.model_files import save_model
from kd2mobile.students import build_student
save_model(build_student("small_cnn", 16, 3, "none", 7), Path(sys.argv[1]))
"""


def model():
    keras.utils.set_random_seed(0)
    policy = keras.DTypePolicy("float32")  # shared: written with its address
    layers = [keras.layers.Dense(4, dtype=policy, name="a"), keras.layers.Dense(2, dtype=policy, name="b")]
    return keras.Sequential([keras.Input((3,), name="in"), *layers], name="model")


def test_equal_models_of_two_processes_are_the_same_bytes(tmp_path):
    hashes = set()
    for number in ("1", "5000"):
        path = tmp_path / f"{number}.keras"
        root = Path(__file__).parents[2]
        subprocess.run([sys.executable, "-c", SAVES, path, number], check=True, cwd=root, capture_output=True)
        hashes.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_a_saved_model_has_no_date_and_loads_in_plain_keras(tmp_path):
    first, path = model(), tmp_path / "model.keras"
    save_model(first, path)
    bytes_before = path.read_bytes()
    save_model(model(), path)
    assert path.read_bytes() == bytes_before
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["config.json", "metadata.json", "model.weights.h5"]
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        config = archive.read("config.json").decode()
    assert '"shared_object_id": 1' in config
    loaded = keras.saving.load_model(path)
    for one, other in zip(first.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def archive(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name.replace("_", "."), data)
    return path


def test_an_archive_may_not_declare_more_than_it_may_unpack_to(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "ALWAYS_UNPACKED", 10_000)
    path = archive(tmp_path / "bomb.keras", config_json=b"{}", weights_h5=bytes(20_000))
    assert path.stat().st_size < 500
    with pytest.raises(TeacherError, match="bomb.keras: must unpack to at most 10 KB, 20 times its size, got"):
        check_archive(path, TeacherError)
    check_archive(archive(path, config_json=b"{}", weights_h5=np.random.default_rng(0).bytes(20_000)), TeacherError)


def test_a_configuration_may_not_be_as_large_as_a_model(tmp_path, monkeypatch):
    monkeypatch.setattr(model_files, "LARGEST_CONFIG", 1000)
    with pytest.raises(
        TeacherError, match="large.keras, its configuration: must be at most 1,000 bytes, got [0-9,]+ bytes. Give"
    ):
        check_archive(archive(tmp_path / "large.keras", config_json=bytes(1001)), TeacherError)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda h5: h5.create_dataset("w", (10**6, 10**7), "f4"),
            r"its arrays: must unpack to at most 100 MB.*got 40,000 GB",
        ),
        (lambda h5: h5.create_dataset("w", (10**8,), "f4", compression="gzip"), "its arrays: must unpack to at most"),
        (
            lambda h5: h5.create_dataset("w", (4,), "u1", external=[("other.bin", 0, 4)]),
            "w: must contain its own arrays, got a link to another file",
        ),
        (lambda h5: h5.__setitem__("g/w", h5py().ExternalLink("other.h5", "/w")), "g/w: must contain its own arrays"),
    ],
    ids=["never stored", "compressed", "external", "external link"],
)
def test_arrays_may_not_declare_more_than_they_may_take(tmp_path, make, message):
    path = tmp_path / "weights.h5"
    with h5py().File(path, "w") as file:
        make(file)
    assert path.stat().st_size < 10**6
    with h5py().File(path) as file, pytest.raises(TeacherError, match=message):
        check_hdf5(path, file, TeacherError)


def h5py():
    return pytest.importorskip("h5py")


def test_ordinary_arrays_pass(tmp_path):
    with h5py().File(tmp_path / "weights.h5", "w") as file:
        file["a/b"], file["text"] = np.ones((3, 4), "f4"), "words"
        file["again"] = h5py().SoftLink("/a/b")
        check_hdf5(tmp_path / "weights.h5", file, TeacherError)
