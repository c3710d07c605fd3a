"""docs/how-to/own-teacher.md, word by word: its lines write logits with NumPy alone, and a student learns from them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.store.run import STORE
from kd2mobile.transfer.store import Transfer

HOW_TO = (Path(__file__).parents[2] / "docs" / "how-to" / "own-teacher.md").read_text("utf-8")
SMALL = ["--student", "small_cnn", "--student-weights", "none", "--input-px", "16", "--epochs", "1"]


@pytest.fixture
def written(digit_folder, tmp_path, monkeypatch):
    """The folder where the document's lines have run: photos/ and logits.npz."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digit_folder, "photos")
    (lines,) = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) <= 10, "the ten lines"
    from PIL import Image

    def pixels(image):
        return np.asarray(image.convert("RGB"), float)

    ones, zeros = (np.mean([pixels(Image.open(path)) for path in Path("photos", d).iterdir()], axis=0) for d in "10")

    def network(image):  # which of the two mean digits is nearer
        score = ((pixels(image) - (ones + zeros) / 2) * (ones - zeros)).mean() / 500
        return [-score, score]

    exec(lines, {"network": network})
    return tmp_path


def test_the_lines_of_the_document_teach_a_student(written, capsys):
    (command,) = re.findall(r"^kd2mobile (distill .*logits.npz)$", HOW_TO, re.MULTILINE)
    assert main_status([*command.split(), *SMALL, "--run", "run"]) == 0
    said = capsys.readouterr()
    assert "teacher logits.npz: validation top-1 1.000" in said.err
    assert "views: one whole view per image, because logits.npz holds one row per image" in said.err
    assert said.out.startswith("Validation top-1: teacher 100.0%")
    assert not list(STORE.rglob("teacher.keras"))
    (transfer,) = (STORE / "transfer").glob("[!.]*")
    (split,) = (STORE / "split").glob("[!.]*/split.json")
    with np.load("logits.npz") as file:
        rows = dict(zip(file["sample_ids"].tolist(), file["logits"], strict=True))
    test = [sample["path"] for sample in json.loads(split.read_text())["samples"] if sample["split"] == "test"]
    stored = Transfer(transfer).logits("test")
    assert [stored[i, 0].tolist() for i in range(len(test))] == [rows[p].astype(np.float16).tolist() for p in test]

    assert main_status(["export", "--run", "run", "--precision", "fp32"]) == 0
    assert main_status(["benchmark", "--run", "run", "--json=measured.json"]) == 0
    teacher, student = json.loads(Path("measured.json").read_text())
    assert (teacher["role"], teacher["model"], teacher["size_bytes"]) == ("teacher", "logits", None)
    assert teacher["top1"] == 1.0 and student["teacher_agreement"] is not None
    assert teacher["n"] == student["n"] == len(test)
    assert main_status(["report", "--run", "run"]) == 0
    assert "small_cnn taught by logits.npz" in Path("run/report.html").read_text("utf-8")


def refused(capsys, *flags):
    assert main_status(["label", "--data", "photos", "--teacher", "logits.npz", *flags]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said.splitlines()[-1]


def test_what_the_document_says_is_refused_is_refused(written, capsys):
    assert "views.count: must be 1 with the teacher logits.npz" in refused(capsys, "--views", "4")
    with np.load("logits.npz") as file:
        good = {name: file[name] for name in file.files}
    odds = np.exp(good["logits"])
    for change, message in (
        ({"logits": odds / odds.sum(axis=1, keepdims=True)}, "must output logits, got probabilities"),
        ({"logits": good["logits"] * np.nan}, "must output finite logits, got NaN or infinity"),
        ({"class_names": np.array(["0", "one"])}, "got no '1' and 'one' in addition"),
        ({"sample_ids": np.char.add("x", good["sample_ids"])}, "got no row for 20 of them, the first '0/"),
        ({"sample_ids": np.repeat("0/a.png", 20)}, "more than once"),
    ):
        np.savez("logits.npz", **good | change)
        assert message in refused(capsys)


def test_every_flag_and_field_of_the_document_is_one(capsys):
    from kd2mobile.recipe.compose import FLAGS

    flags = set(re.findall(r"--(teacher[a-z-]*|views|resize|data)\b", HOW_TO))
    assert {flag.replace("-", "_") for flag in flags} <= set(FLAGS)
