"""idx files: tiny ones written here byte by byte, as folders of images; and damaged ones."""

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from kd2mobile.data.sources.idx import idx_content, is_idx_folder, write_idx_images
from kd2mobile.data.sources.scan import scan
from kd2mobile.errors import DataError
from kd2mobile.recipe.compose import compose
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.artifact import Store

COUNTS = {"train": 24, "t10k": 6}


def idx(values):
    """The bytes of an idx file, as the format has it: 0, 0, the type (8: bytes), the axes, big-endian sizes, values."""
    return b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def numbers(part, size=(5, 4), classes=3):
    """images uint8 [n, height, width], labels uint8 [n]."""
    rng = np.random.default_rng(len(part))
    return rng.integers(0, 256, (COUNTS[part], *size), np.uint8), np.arange(COUNTS[part], dtype=np.uint8) % classes


def write(folder, suffix="", dash="-", parts=COUNTS, prefix="", **how):
    folder.mkdir(exist_ok=True)
    for part in parts:
        for kind, values in zip(("images", "labels"), numbers(part, **how), strict=True):
            content = gzip.compress(idx(values)) if suffix else idx(values)
            (folder / f"{prefix}{part}-{kind}{dash}idx{values.ndim}-ubyte{suffix}").write_bytes(content)
    return folder


@pytest.mark.parametrize(("suffix", "dash"), [("", "-"), (".gz", "-"), ("", ".")])
def test_images_and_labels_are_written_unchanged(tmp_path, suffix, dash):
    source = write(tmp_path / "idx", suffix, dash)
    assert is_idx_folder(source) and not is_idx_folder(tmp_path)
    write_idx_images(source, tmp_path / "images")
    for part, split in (("train", "train"), ("t10k", "test")):
        images, labels = numbers(part)
        width = len(str(len(labels) - 1))
        for index in range(len(labels)):
            with Image.open(tmp_path / "images" / split / str(labels[index]) / f"{index:0{width}d}.png") as image:
                np.testing.assert_array_equal(np.asarray(image), images[index])
    found = scan(tmp_path / "images")
    assert found.given == ["train", "test"] and len(found.images) == 30 and not found.ignored


def test_packed_or_not_the_split_is_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = {"student.name": "small_cnn", "student.weights": "none", "student.input_px": 16}
    plain, packed = write(tmp_path / "plain"), write(tmp_path / "packed", ".gz")
    store = Store(tmp_path / "store")
    plans = [make_plan(compose(settings=small | {"data.source": str(source)}), store) for source in (plain, packed)]
    assert plans[0].steps["split"].fingerprint == plans[1].steps["split"].fingerprint
    assert all(plan.root.is_relative_to(tmp_path / "store" / "source") for plan in plans)
    capsys.readouterr()
    make_plan(compose(settings=small | {"data.source": str(plain)}), Store(tmp_path / "store"))
    assert "building" not in capsys.readouterr().err, "the images are written once"
    (plain / "train-labels-idx1-ubyte").write_bytes(idx((numbers("train")[1] + 1) % 3))
    changed = make_plan(compose(settings=small | {"data.source": str(plain)}), store)
    assert changed.steps["split"].fingerprint != plans[0].steps["split"].fingerprint, "the files' content counts"


def test_a_message_names_the_folder_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "idx"), write(tmp_path / "more", size=(6, 4))
    for data, test, message in (
        ("idx", "more", "idx: must not hold test images as well, got some, and those in more. Leave out data.test_"),
        ("plain", "idx", "idx: must hold the test images alone, without splits, got train and test. Give the"),
    ):
        for label in ("a", "b"):
            (tmp_path / "plain" / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(tmp_path / "plain" / label / "x.png")
        with pytest.raises(DataError) as error:
            make_plan(compose(settings={"data.source": data, "data.test_source": test}), Store(tmp_path / "store"))
        assert str(error.value).startswith(message)


def test_the_unpacked_file_is_preferred_to_the_packed_one(tmp_path):
    write(write(tmp_path / "idx"), ".gz")
    assert len(idx_content(tmp_path / "idx")) == 4


def test_many_classes_sort_by_number_and_train_alone_is_enough(tmp_path):
    source = write(tmp_path / "idx", parts=["train"], classes=12, prefix="emnist-letters-")
    write_idx_images(source, tmp_path / "images")
    found = scan(tmp_path / "images")
    assert found.classes == [f"{label:02d}" for label in range(12)] and found.given == ["train"]


def refusal(source, folder):
    with pytest.raises(DataError) as error:
        write_idx_images(source, folder)
    assert not list(folder.rglob("*.png")), "nothing is written before all is read"
    return str(error.value)


def test_what_is_refused(tmp_path):
    source, out = tmp_path / "idx", tmp_path / "images"
    images, labels = source / "t10k-images-idx3-ubyte", source / "t10k-labels-idx1-ubyte"

    def damaged(file, change):
        write(source)
        file.write_bytes(change(file.read_bytes()))
        return refusal(source, out)

    message = damaged(images, lambda stored: stored[:-7])
    assert message == f"{images}: must hold 6 x 5 x 4 bytes after its header, got 113 bytes. Download it again."
    assert "must have a complete header, got 3 bytes" in damaged(images, lambda stored: stored[:7])
    assert "must hold 6 bytes after its header, got 7 bytes" in damaged(labels, lambda stored: stored + b"\0")
    magic = "must start with the magic number of an idx3 file of bytes, 00 00 08 03, got "
    assert magic + "00 00 08 01." in damaged(images, lambda stored: labels.read_bytes())
    assert magic + "an empty file." in damaged(images, lambda stored: b"")
    fewer = idx(numbers("t10k")[1][:5])
    message = damaged(labels, lambda stored: fewer)
    assert message.startswith(f"{labels}: must have a label for each of the 6 images of {images.name}, got 5. ")
    message = damaged(labels, lambda stored: idx(np.zeros(6, np.uint8)))
    assert "must hold at least 2 different labels, got 1." in message


def test_a_packed_file_cut_short(tmp_path):
    source = write(tmp_path / "idx", ".gz")
    file = source / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-20])
    assert f"{file}: must be a complete file, got EOFError: " in refusal(source, tmp_path / "images")
    file.write_bytes(b"<html>not found</html>")
    assert f"{file}: must be a complete file, got BadGzipFile: " in refusal(source, tmp_path / "images")


def test_a_missing_partner(tmp_path):
    source, out = write(tmp_path / "idx"), tmp_path / "images"
    (source / "t10k-labels-idx1-ubyte").unlink()
    message = (
        f"{source}: must hold the labels of test as idx files, got t10k-images-idx3-ubyte alone. Give the folder of"
    )
    assert message in refusal(source, out)
    for kind in ("images-idx3", "labels-idx1"):
        (source / f"train-{kind}-ubyte").unlink()
    assert "must hold the images and labels of train as idx files, got only test files." in refusal(source, out)


def test_two_sets_in_one_folder_are_refused(tmp_path):
    source = write(write(tmp_path / "idx"), prefix="emnist-digits-")
    assert "must hold the idx files of one set, got '', 'emnist-digits-'." in refusal(source, tmp_path / "images")
