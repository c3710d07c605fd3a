"""A folder of images, its views and a teacher of one Dense layer, made as the stages before would."""

import json

import keras
import pytest

from kd2mobile.data.views import draw_views
from kd2mobile.recipe import schema
from tests.teachers.conftest import CLASSES, make_images

PX, VIEWS = 8, 3


def write_teacher(folder, tail=(), classes=CLASSES, scale=0.01):
    """teacher.keras and teacher.json: random weights, pixels as they are."""
    keras.utils.set_random_seed(4)
    layers = keras.layers
    stack = [layers.Rescaling(scale), layers.Flatten(), layers.Dense(len(classes)), *tail]
    folder.mkdir(exist_ok=True)
    keras.Sequential([keras.Input((PX, PX, 3)), *stack]).save(folder / "teacher.keras")
    described = {"name": "mine", "input_px": PX, "preprocess": "none", "classes": classes}
    described["val"] = {"n": 4, "top1": 0.25, "logloss": 1.0}
    (folder / "teacher.json").write_text(json.dumps(described))
    return folder


def make_input(folder):
    """(root, split, views folder)"""
    root = folder / "images"
    split = make_images(root)
    draw_views(folder / "views", split, schema.Views(count=VIEWS), "stretch")
    return root, split, folder / "views"


@pytest.fixture
def images(tmp_path):
    return make_input(tmp_path)


@pytest.fixture
def teacher(tmp_path):
    return write_teacher(tmp_path / "teacher")
