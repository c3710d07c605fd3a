"""What holds of every kind of teacher, and which name is of which kind."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from kd2mobile.errors import TeacherError
from kd2mobile.recipe.schema import Teacher
from kd2mobile.store.stage_records import lacking
from kd2mobile.teachers.kinds import KINDS, kind_of, title, whole_images_only
from kd2mobile.teachers.kinds.given_logits import GIVEN_LOGITS
from kd2mobile.teachers.kinds.own_model import OWN_MODEL
from kd2mobile.teachers.kinds.zoo import ZOO
from kd2mobile.teachers.reading import TeacherImages
from tests.teachers.conftest import CLASSES, knower, teacher_config


@pytest.mark.parametrize(
    ("name", "kind", "called"),
    [
        ("xception", ZOO, "xception"),
        ("models/mine.keras", OWN_MODEL, "mine.keras"),
        ("mine.h5", OWN_MODEL, "mine.h5"),
        ("mine.hdf5", OWN_MODEL, "mine.hdf5"),
        ("answers/logits.npz", GIVEN_LOGITS, "logits.npz"),
        ("mine.onnx", ZOO, "mine.onnx"),  # refused there, with the names that there are
    ],
)
def test_a_name_is_of_one_kind(name, kind, called):
    assert kind_of(name) is kind and title(name) == called
    assert whole_images_only(name) == (kind is GIVEN_LOGITS)


@pytest.fixture
def teachers(images, save, tiny_teacher, tmp_path):
    """A recipe's table of each kind."""
    _, split = images
    values = [5.0 * np.eye(3)[sample.label] - 1 for sample in split.samples]
    ids = [sample.path for sample in split.samples]
    np.savez(tmp_path / "logits.npz", sample_ids=np.array(ids), class_names=np.array(CLASSES), logits=np.array(values))
    own, given = str(save(knower())), str(tmp_path / "logits.npz")
    return {ZOO: teacher_config(epochs=1), OWN_MODEL: teacher_config(name=own), GIVEN_LOGITS: Teacher(name=given)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.build.__module__.rpartition(".")[2])
def test_the_contract_of_a_kind(kind, teachers, images, tmp_path):
    teacher, made = teachers[kind], tmp_path / "made"
    assert kind_of(teacher.name) is kind
    kind.check(teacher)
    config = kind.config(teacher, CLASSES)
    assert json.loads(json.dumps(config)) == config and not {"dtype"} & config.keys()
    assert teacher.name not in map(str, config.values()) or kind is ZOO, "a file counts by its content"
    made.mkdir()
    results = kind.build(made, teacher, TeacherImages(*images, "stretch"))
    assert not lacking("teacher", {path.name: {} for path in made.iterdir()})
    described = json.loads((made / "teacher.json").read_text())
    assert described == msgspec.to_builtins(results) and described["classes"] == CLASSES
    assert described["name"] == Path(teacher.name).name and 0 <= described["val"]["top1"] <= 1


def test_given_logits_may_be_declared_logits(teachers):
    name = teachers[GIVEN_LOGITS].name
    message, plain = (GIVEN_LOGITS.config(Teacher(name=name, output=output), CLASSES) for output in ("logits", None))
    assert message == plain | {"output": "logits"} and list(plain) == ["name"]
    GIVEN_LOGITS.check(Teacher(name=name, output="logits"))
    with pytest.raises(
        TeacherError, match="teacher.output: must be logits or left out: .*, got probabilities. Write log"
    ):
        GIVEN_LOGITS.check(Teacher(name=name, output="probabilities"))
