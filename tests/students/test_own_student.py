"""docs/how-to/own-student.md, its code executed."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import kd2mobile
from kd2mobile.errors import WeightsError
from kd2mobile.recipe.compose import FLAGS, compose
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.artifact import Store
from kd2mobile.students import STUDENTS, build_student

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-student.md"


@pytest.fixture
def blocks(monkeypatch):
    """The page's blocks of Python; what they register is forgotten after the test."""
    monkeypatch.setattr(STUDENTS, "_entries", dict(STUDENTS._entries))
    monkeypatch.setattr(STUDENTS, "_summaries", dict(STUDENTS._summaries))
    return re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_the_student_of_the_page_is_one(blocks, pixels, tmp_path):
    exec(blocks[0], {})
    model = build_student("tinynet", 32, 5, "none", seed=0)
    assert model.name == "tinynet" and [x.name for x in model.layers if x.weights][-1] == "logits"
    assert np.asarray(model(pixels(32), training=False)).shape == (3, 5)
    assert all(isinstance(op, keras.Layer) for op in model.operations)
    model.save(tmp_path / "student.keras")
    build_student("tinynet", 48, 7, str(tmp_path / "student.keras"), seed=1)
    with pytest.raises(WeightsError, match="Train it from scratch with `--student-weights none`"):
        build_student("tinynet", 32, 5, "imagenet", seed=0)


def test_the_calls_of_the_page_plan_its_training(blocks, digit_folder, tmp_path, monkeypatch):
    planned, then = [], []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(digit_folder)

    def plan(**flags):
        planned.append(
            make_plan(compose(settings={FLAGS[flag]: value for flag, value in flags.items()}), Store(tmp_path))
        )

    monkeypatch.setattr(kd2mobile, "distill", plan)
    for verb in ("export", "benchmark"):
        assert callable(getattr(kd2mobile, verb))
        monkeypatch.setattr(kd2mobile, verb, lambda verb=verb: then.append(verb))
    for block in blocks:
        exec(block, {})
    assert [plan.students["student"].config["student"]["name"] for plan in planned] == ["tinynet"]
    assert list(planned[0].requested_students) == ["student", "baseline"] and then == ["export", "benchmark"]
