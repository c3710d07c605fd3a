"""The embedded data: right images under the right names, and the same bytes everywhere."""

import gzip
import pickle
import sys
import urllib.error

import numpy as np
import pytest
from PIL import Image

from kd2mobile.data.sources.named import SOURCES
from kd2mobile.data.sources.scan import scan
from kd2mobile.errors import DataError, MissingExtraError


def test_digits_are_those_of_scikit_learn(digits):
    from sklearn.datasets import load_digits

    stored = load_digits()
    assert sorted(p.name for p in digits.iterdir()) == [str(d) for d in range(10)]
    assert sum(1 for _ in digits.glob("*/*.png")) == 1797
    for index in (0, 1, 1000, 1796):
        with Image.open(digits / str(stored.target[index]) / f"{index:04d}.png") as image:
            assert image.mode == "L"
            np.testing.assert_allclose(np.asarray(image), stored.images[index] * 255 / 16, atol=0.5)


def test_their_bytes_do_not_depend_on_a_zlib(digits):
    """The split is drawn by content: a change here is another split, and other published numbers."""
    assert scan(digits).content == "2cd21692ba9668832608a6b8385e8bab521d2997ddd321b26db5652bff7e133f"


def test_a_killed_call_is_completed_by_the_next(digits, tmp_path):
    SOURCES["digits"](tmp_path)
    (tmp_path / "0" / "0000.png").unlink()
    kept = (tmp_path / "1" / "0001.png").stat().st_mtime_ns
    SOURCES["digits"](tmp_path)
    assert (tmp_path / "1" / "0001.png").stat().st_mtime_ns == kept
    assert scan(tmp_path).content == scan(digits).content and scan(tmp_path).ignored == 0


def test_without_scikit_learn_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r'scikit-learn.*pip install .*\[train\]"'):
        SOURCES["digits"](tmp_path)


def fake_keras(monkeypatch, name, classes, shape):
    """keras.datasets.<name> answers with eight images of each class to train on, and two to test."""
    import keras

    rng = np.random.default_rng(2)

    def load_data():
        def part(count):
            labels = np.repeat(np.arange(classes, dtype=np.uint8), count)
            return rng.integers(0, 256, (len(labels), *shape), np.uint8), labels.reshape(-1, *[1] * (len(shape) == 3))

        return part(8), part(2)

    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", load_data)


@pytest.mark.parametrize(
    ("name", "classes", "shape", "named"),
    [
        ("mnist", 10, (28, 28), "7"),
        ("fashion_mnist", 10, (28, 28), "T-shirt or top"),
        ("cifar10", 10, (32, 32, 3), "airplane"),
        ("cifar100", 100, (32, 32, 3), "07"),
    ],
)
def test_keras_datasets_become_folders(monkeypatch, tmp_path, name, classes, shape, named):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    fake_keras(monkeypatch, name, classes, shape)
    SOURCES[name](tmp_path / "images")
    found = scan(tmp_path / "images")
    assert found.given == ["train", "test"] and len(found.classes) == classes and named in found.classes
    assert len(found.images) == classes * 10 and not found.ignored
    with Image.open(next((tmp_path / "images" / "test" / named).iterdir())) as image:
        assert image.size == shape[1::-1] and image.mode == ("RGB" if len(shape) == 3 else "L")


def text(name):
    """Python 2's pickle of a str: the opcode, the length, the bytes."""
    return b"U" + bytes([len(name)]) + name


def test_cifar100_takes_its_class_names_from_its_archive(monkeypatch, tmp_path):
    names = [f"thing {i}".encode() for i in range(99, -1, -1)]
    meta = tmp_path / "keras" / "datasets" / "cifar-100-python-target" / "cifar-100-python" / "meta"
    meta.parent.mkdir(parents=True)
    meta.write_bytes(b"\x80\x02}" + text(b"fine_label_names") + b"](" + b"".join(map(text, names)) + b"es.")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    fake_keras(monkeypatch, "cifar100", 100, (32, 32, 3))
    SOURCES["cifar100"](tmp_path / "images")
    assert (tmp_path / "images" / "test" / "thing 99" / "000.png").is_file(), "the first label has the first name"
    meta.write_bytes(pickle.dumps({"fine_label_names": print}, protocol=2))
    with pytest.raises(DataError, match="got UnpicklingError: __builtin__.print in a file of names"):
        SOURCES["cifar100"](tmp_path / "again")


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("mnist", ["mnist.npz"]),
        ("fashion_mnist", ["fashion-mnist/train-images-idx3-ubyte.gz", "fashion-mnist/t10k-labels-idx1-ubyte.gz"]),
        ("cifar10", ["cifar-10-batches-py-target_archive"]),
        ("cifar100", ["cifar-100-python-target_archive"]),
    ],
)
def test_without_a_network_the_message_names_the_file_and_its_path(monkeypatch, tmp_path, name, paths):
    """Keras's own code up to the download, so that the file it fetches and where it looks are its own."""
    import keras

    home = tmp_path / "keras"
    (home / "datasets").mkdir(parents=True)
    looked = []

    def offline(address, target, *_):
        looked.append(target)
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("KERAS_HOME", str(home))
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(home))
    monkeypatch.setattr(keras.src.utils.file_utils, "urlretrieve", offline)
    with pytest.raises(DataError) as error:
        SOURCES[name](tmp_path / "images")
    message = str(error.value)
    assert message.startswith(f"data {name}: must be downloadable, got Exception: URL fetch failure on https://")
    assert "no network. Download https://" in message and " on another machine, copy it here as " in message
    assert all(str(home / "datasets" / path) in message for path in paths) and looked[0] in message


def test_keras_reads_a_file_copied_to_that_path(monkeypatch, tmp_path):
    """fashion_mnist's files are not checked by hash, so small ones stand for them."""
    import keras

    home = tmp_path / "keras"
    folder = home / "datasets" / "fashion-mnist"
    folder.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 10)):
        labels, pixels = np.arange(count, dtype=np.uint8) % 10, np.zeros((count, 28, 28), np.uint8)
        pixels[:] = labels[:, None, None]
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"\0" * 8 + labels.tobytes()))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0" * 16 + pixels.tobytes()))
    monkeypatch.setattr(keras.src.backend.config, "_KERAS_DIR", str(home))
    SOURCES["fashion_mnist"](tmp_path / "images")
    with Image.open(tmp_path / "images" / "train" / "Ankle boot" / "19.png") as image:
        assert image.getpixel((3, 3)) == 9
