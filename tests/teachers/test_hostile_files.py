"""Files of teachers that are damaged or made to do harm: a result or one line, and no memory for mere declarations."""

import copy
import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest

from kd2mobile.errors import Kd2MobileError, TeacherError, WeightsError
from kd2mobile.students.weights import read_body
from kd2mobile.teachers.body import build_body
from kd2mobile.teachers.logits import read_logits
from kd2mobile.teachers.zoo import TEACHERS
from tests.teachers.conftest import knower, read

L = keras.layers
OTHER_TYPES = (None, True, -1, 10**30, 0.5, "", "relu", [], [[]], {}, {"class_name": "Dense"}, [None, 16, 16, 3])


@pytest.fixture
def members(save):
    """The members of a whole .keras file by name, and its path."""
    path = save(knower(L.Softmax()))
    with zipfile.ZipFile(path) as file:
        return path, {name: file.read(name) for name in file.namelist()}


def write(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def nodes(tree, found):
    """Every place in a JSON tree, as its parent and key."""
    for key in range(len(tree)) if isinstance(tree, list) else tree if isinstance(tree, dict) else ():
        found.append((tree, key))
        nodes(tree[key], found)
    return found


def mutated(config, rng):
    """The configuration with one to three places of another type, or gone."""
    config = copy.deepcopy(config)
    for _ in range(rng.integers(1, 4)):
        places = nodes(config, [])
        parent, key = places[rng.integers(len(places))]
        if rng.random() < 0.3:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(OTHER_TYPES[rng.integers(len(OTHER_TYPES))])
    return config


def is_a_result_or_one_line(call):
    try:
        call()
    except Kd2MobileError as fault:
        assert "\n" not in str(fault)


@pytest.mark.parametrize("seed", range(24))
def test_a_configuration_of_other_types_is_one_line(members, seed):
    path, files = members
    rng = np.random.default_rng(seed)
    config = mutated(json.loads(files["config.json"]), rng)
    write(path, files | {"config.json": json.dumps(config)})
    is_a_result_or_one_line(lambda: read(path))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("seed", range(12))
def test_an_h5_configuration_of_other_types_is_one_line(tmp_path, seed):
    path = tmp_path / "old.h5"
    knower(L.Softmax()).save(path)
    with h5py.File(path, "r+") as file:
        config = mutated(json.loads(file.attrs["model_config"]), np.random.default_rng(seed))
        file.attrs["model_config"] = json.dumps(config)
    is_a_result_or_one_line(lambda: read(path))


@pytest.mark.parametrize("seed", range(12))
def test_flipped_bytes_are_one_line(members, seed):
    path, _ = members
    rng, data = np.random.default_rng(seed), bytearray(path.read_bytes())
    for place in rng.integers(len(data), size=20):
        data[place] = rng.integers(256)
    path.write_bytes(data[: len(data) if seed % 2 else len(data) // 2])
    is_a_result_or_one_line(lambda: read(path))


@pytest.mark.parametrize(
    "config",
    [
        "[]",
        "1",
        "{}",
        "null",
        '{"class_name": 3}',
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 2_000 + "1" + "}" * 2_000,
        '{"module": 7, "class_name": "Functional", "config": {}}',
        '{"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": null}',
        '{"module": "os", "class_name": "system", "config": "true"}',
        "\udcff".encode("utf-8", "surrogateescape"),
    ],
)
def test_a_configuration_that_is_none_is_refused(members, config):
    path, files = members
    write(path, files | {"config.json": config})
    with pytest.raises(TeacherError, match="mine.keras"):
        read(path)


def test_declared_but_missing_weights_take_no_memory(members):
    path, files = members
    config = files["config.json"].replace(b'"units": 3', b'"units": 4000000000000')
    assert config != files["config.json"]
    write(path, files | {"config.json": config})
    with pytest.raises(TeacherError, match="must be a Keras model of standard layers that loads"):
        read(path)


def bomb():
    """An HDF5 file that declares 40 TB."""
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file.create_dataset("layers/answers/vars/0", (10**6, 10**7), "f4")
    return held.getvalue()


def test_bombs_are_refused_before_anything_is_unpacked(members, tmp_path):
    path, files = members
    write(path, files | {"assets/zeros": bytes(150_000_000)})
    assert path.stat().st_size < 300_000
    with pytest.raises(TeacherError, match=r"mine.keras: must unpack to at most 100 MB, 20 times its size, got 150 MB"):
        read(path)
    write(path, files | {"config.json": bytes(60_000_000)})
    with pytest.raises(TeacherError, match=r"mine.keras, its configuration: must be at most 50 MB, got 60 MB"):
        read(path)
    write(path, files | {"model.weights.h5": bomb()})
    with pytest.raises(TeacherError, match=r"mine.keras, its arrays: must unpack to at most 100 MB, .* 40,000 GB"):
        read(path)
    weights = tmp_path / "body.weights.h5"
    weights.write_bytes(bomb())
    with pytest.raises(WeightsError, match="body.weights.h5, its arrays: must unpack to at most 100 MB"):
        read_body(str(weights), {}, "small_cnn")


@pytest.mark.usefixtures("tiny_teacher")
def test_a_bomb_of_weights_for_a_network_of_the_zoo_is_refused(tmp_path):
    weights = tmp_path / "body.weights.h5"
    weights.write_bytes(bomb())
    with pytest.raises(WeightsError, match="body.weights.h5, its arrays: must unpack to at most 100 MB"):
        build_body(TEACHERS["tiny"], 16, str(weights))


def test_a_network_that_cannot_answer_a_batch_is_refused(save):
    inputs = keras.Input(batch_shape=(1, 16, 16, 3))
    x = L.GlobalAveragePooling2D()(L.Rescaling(1 / 255)(inputs))
    with pytest.raises(TeacherError, match="must accept a batch of 8 images"):
        read(save(keras.Model(inputs, keras.ops.reshape(L.Dense(3)(x), (1, 3)))))
    with pytest.raises(TeacherError, match=r"must take images of at most 2,048 px, got 4,096 px"):
        read(save(knower(px=4096)))


def npz(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


def whole():
    return {
        "sample_ids": np.array([f"a/{i}.jpg" for i in range(6)]),
        "class_names": np.array(["a", "b"]),
        "logits": np.random.default_rng(0).normal(size=(6, 2)).astype("f4"),
    }


@pytest.fixture
def split(images):
    return images[1]


def header(path, key, text):
    """Replaces the header of one array by that text, of the same length."""
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    data = members[f"{key}.npy"]
    length = int.from_bytes(data[8:10], "little")
    members[f"{key}.npy"] = data[:10] + text.encode().ljust(length - 1) + b"\n" + data[10 + length :]
    return write(path, members)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 10000000), }",
            "as many numbers as its header says",
        ),
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999999,), }",
            "as many numbers as its head",
        ),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2), }", "must be a complete .npz|one row for each"),
        ("{'descr': '|O', 'fortran_order': False, 'shape': (6, 2), }", "must be a plain array, got pickled Python"),
        ("{'descr': 'x9', 'fortran_order': False, 'shape': (6, 2), }", "must be a complete .npz file"),
        ("{'descr': '<f4', 'fortran_order': False, 'shape': ", "must be a complete .npz file"),
        ("__import__('os').abort()", "must be a complete .npz file"),
    ],
)
def test_logits_of_an_absurd_header_are_refused(tmp_path, split, text, message):
    path = header(npz(tmp_path / "logits.npz", **whole()), "logits", text)
    with pytest.raises(TeacherError, match=message):
        read_logits(path, split)


def test_logits_that_unpack_to_too_much_are_refused(tmp_path, split):
    path = npz(tmp_path / "logits.npz", **whole() | {"more": np.zeros(150_000_000, "u1")})
    with pytest.raises(TeacherError, match="logits.npz: must unpack to at most 100 MB, 20 times its size, got 150 MB"):
        read_logits(path, split)


@pytest.mark.parametrize("seed", range(40))
def test_damaged_logits_are_one_line(tmp_path, split, seed):
    path = npz(tmp_path / "logits.npz", **whole())
    rng, data = np.random.default_rng(seed), bytearray(path.read_bytes())
    for place in rng.integers(len(data), size=1 + seed % 5):
        data[place] = rng.integers(256)
    path.write_bytes(data)
    is_a_result_or_one_line(lambda: read_logits(path, split))
