import os

import numpy as np
import pytest

from kd2mobile.errors import ImageError, ModelFileError
from kd2mobile.inspection.inspect import inspect_file
from kd2mobile.measure.predict import predict
from tests.tiny_models import COLOURS, by_hand

from .conftest import image


def test_the_likeliest_first_with_their_names(own, photos):
    red, grey = photos / "red" / "plain.png", image(photos / "grey.png", (60, 70, 50))
    first, second = predict(own("uint8"), [red, grey], top=2)
    assert first.image == str(red)
    assert first.classes[0] == ("red", pytest.approx(by_hand(COLOURS["red"])[2], abs=1e-6))
    assert [name for name, _ in second.classes] == ["green", "red"]


def test_without_names_the_outputs_are_numbered(models, photos):
    (prediction,) = predict(models / "uint8.tflite", [photos / "green" / "plain.png"])
    assert len(prediction.classes) == 3 and prediction.classes[0][0] == "1"
    assert sum(value for _, value in prediction.classes) == pytest.approx(1)


def test_labels_of_the_user(models, photos, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("b\ng\nr\n")
    image = photos / "blue" / "plain.png"
    assert predict(models / "uint8.tflite", [image], 1, labels=labels)[0].classes[0][0] == "b"
    labels.write_text("3 r\n0 nothing\n2 g\n1 b\n")
    best = predict(models / "background.tflite", [image], labels=labels)[0].classes
    assert [name for name, _ in best[:2]] == ["b", "nothing"]
    labels.write_text("b\n")
    with pytest.raises(ModelFileError, match="must have one name per output"):
        predict(models / "uint8.tflite", [image], labels=labels)


def test_float_files_and_logits(models, photos, capsys):
    image = photos / "red" / "half.png"
    with pytest.raises(ModelFileError, match="must define how a pixel becomes a float"):
        predict(models / "float.tflite", [image])
    (one,) = predict(models / "float.tflite", [image], mean=127.5, std=127.5)
    (other,) = predict(models / "logits.tflite", [image])
    np.testing.assert_allclose([p for _, p in one.classes], [p for _, p in other.classes], atol=1e-6)
    assert "softmax is applied" in capsys.readouterr().err


def test_images_that_cannot_be_read(models, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(ImageError, match="a.png: must be a readable image"):
        predict(models / "uint8.tflite", [tmp_path / "a.png"])
    assert predict(models / "uint8.tflite", []) == []


def test_a_pipe_is_neither_an_image_nor_a_model(models, tmp_path):
    """Nobody writes to it: whoever opens it waits without end."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="pipe: must be a regular file, got a pipe. Save the image to a file, and"):
        predict(models / "uint8.tflite", [tmp_path / "pipe"])
    with pytest.raises(ModelFileError, match="pipe: must be a regular file, got a pipe. Save the model to a file, and"):
        predict(tmp_path / "pipe", [tmp_path / "pipe"])
    with pytest.raises(ModelFileError, match="pipe: must be a regular file, got a pipe"):
        inspect_file(tmp_path / "pipe")
