import json
import zipfile

import numpy as np
import pytest

from kd2mobile.errors import ModelFileError
from kd2mobile.inspection.metadata import FileMetadata, output_names, read_metadata
from kd2mobile.measure.litert.runtime import Classifier
from tests.tiny_models import CLASSES, by_hand, pixels, probabilities


def test_a_file_without_metadata_has_no_description(models):
    assert read_metadata(models / "uint8.tflite") == FileMetadata()


def test_own_description(own):
    metadata = read_metadata(own(classes=["a", "b\nc", "ü ' \""], resize="pad", precision="int8"))
    assert metadata.own and metadata.classes == ["a", "b\nc", "ü ' \""]
    assert (metadata.resize, metadata.input_px, metadata.model) == ("pad", 8, "mobilenet025")
    assert (metadata.precision, metadata.compression, metadata.student_fingerprint) == ("int8", "none", "f" * 64)
    assert metadata.mean is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "kd2mobile.json: must be of format 1, got 2. Use the kd2mobile version that made it"),
        ({"resize": "squash"}, 'kd2mobile.json: resize: must be one of the values that are known, got "squash"'),
        ({"classes": "abc"}, 'kd2mobile.json: classes: must be a list, got "abc"'),
    ],
)
def test_a_description_of_another_kind_is_refused(own, fields, message):
    with pytest.raises(ModelFileError) as refused:
        read_metadata(own(**fields))
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, json.dumps({"format": 1, "classes": []})])
def test_a_broken_description_is_refused(packed, text):
    with pytest.raises(ModelFileError, match="kd2mobile.json: "):
        read_metadata(packed("uint8", {"kd2mobile.json": text}))


def test_a_description_that_does_not_fit_its_model_is_refused(own):
    with pytest.raises(ModelFileError, match="match its own description of 2 classes at 8 px, got 3 classes at 8 px"):
        Classifier(own(classes=["a", "b"]))
    with pytest.raises(ModelFileError, match="match its own description of 3 classes at 96 px, got 3 classes at 8 px"):
        Classifier(own(input_px=96))


@pytest.mark.parametrize(
    ("members", "classes"),
    [
        ({"labels.txt": "a\nb\nc\n"}, ["a", "b", "c"]),
        ({"labelmap.txt": "a\r\nb \r\nc"}, ["a", "b", "c"]),
        ({"labels.txt": "\ufeffä\n\nc\n\n\n"}, ["ä", "", "c"]),
        ({"labels.txt": "a\nb\nc\n", "notes.txt": "x\n"}, ["a", "b", "c"]),
        ({"one.txt": "a\n", "two.txt": "b\n"}, None),
        ({"image.png": "a\n"}, None),
    ],
)
def test_labels_that_others_pack(packed, members, classes):
    assert read_metadata(packed("uint8", members)).classes == classes


def test_several_texts_of_which_none_is_declared_as_labels(packed, tmp_path):
    path = packed("uint8", {"one.txt": "a\n", "two.txt": "b\n"})
    metadata = read_metadata(path)
    assert metadata.texts == ["one.txt", "two.txt"]
    assert output_names(path, metadata, 3, None) == (
        None,
        [
            f"{path}: its own labels are not used: 2 text files inside ('one.txt', 'two.txt'), "
            "none of which is declared as labels"
        ],
    )
    file = tmp_path / "labels.txt"
    file.write_text("x\ny\nz\n")
    assert output_names(path, metadata, 3, file) == (["x", "y", "z"], [])
    assert read_metadata(packed("uint8", {"labels.txt": "a\nb\nc\n", "notes.txt": "x\n"})).texts == []


def test_tflite_metadata_names_the_labels_and_the_normalization(packed):
    path = packed("described", {"calib.txt": "1,2,3\n", "my_labels.txt": "\n".join(CLASSES), "other.txt": "x\n"})
    assert read_metadata(path) == FileMetadata(classes=CLASSES, mean=[127.5], std=[127.5])
    answer = probabilities(Classifier(path), pixels((10, 200, 30)))
    np.testing.assert_allclose(answer, by_hand((10, 200, 30)), atol=1e-6)


def test_the_users_values_take_precedence_over_the_metadata(models):
    classifier = Classifier(models / "described.tflite", mean=0, std=255)
    powers = np.exp(4 * np.array([30, 200, 10]) / 255)
    np.testing.assert_allclose(probabilities(classifier, pixels((10, 200, 30))), powers / powers.sum(), atol=1e-6)


def test_damaged_tflite_metadata_is_refused(models, tmp_path):
    whole = (models / "described.tflite").read_bytes()
    offset = whole.index(b"M001") - 4
    path = tmp_path / "damaged.tflite"
    path.write_bytes(whole[:offset] + b"\xff\xff\xff\x7f" + whole[offset + 4 :])
    with pytest.raises(
        ModelFileError, match="must have complete TensorFlow Lite metadata, or none, got a flatbuffer offset"
    ):
        read_metadata(path)


def test_a_damaged_zip_is_refused(packed):
    path = packed("uint8", {})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "a\nb\nc\n" * 50)
    content = bytearray(path.read_bytes())
    offset = content.index(b"labels.txt") + len("labels.txt")
    content[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="labels.txt: must be complete inside its ZIP"):
        read_metadata(path)


def test_a_zip_bomb_of_labels_is_refused(packed):
    path = packed("uint8", {})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", b"\0" * (16 * 2**20 + 1))
    with pytest.raises(ModelFileError, match="labels.txt: must be at most 16,777,216 bytes, got 16,777,217 bytes"):
        read_metadata(path)


def test_names_of_the_outputs(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("x\ny\nz\n")
    assert output_names("m", FileMetadata(classes=["a", "b", "c"]), 3, None) == (["a", "b", "c"], [])
    assert output_names("m", FileMetadata(classes=["a", "b", "c"]), 3, file) == (["x", "y", "z"], [])
    assert output_names("m", FileMetadata(), 3, None) == (None, [])
    with pytest.raises(ModelFileError, match="got 3 labels for 4 outputs. .* write the line `background` before"):
        output_names("m", FileMetadata(), 4, file)
    names, (note,) = output_names("m", FileMetadata(classes=["a"]), 3, None)
    assert names is None and "its own labels are not used: 1 label for 3 outputs" in note
    with pytest.raises(ModelFileError, match="must have one name per output, one per line, got 3 labels for 2 outputs"):
        output_names("m", FileMetadata(), 2, file)
    with pytest.raises(ModelFileError, match="must have one name per output, one per line, got 3 labels for 4 outputs"):
        output_names("m", FileMetadata(own=True, classes=["a", "b", "c", "d"]), 4, file)
