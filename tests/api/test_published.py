"""The models that are published: their cards are true. These tests never skip."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.files import sha256_of
from kd2mobile.recipe.compose import compose

MODELS = Path(__file__).parents[2] / "models"
PUBLISHED = sorted(path.name for path in MODELS.iterdir() if path.is_dir())


def test_there_is_one():
    assert "mobilenet025-digits-int8" in PUBLISHED


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_card_is_true(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = MODELS / name
    assert main_status(["benchmark", "--model", str(folder), "--json"]) == 0
    (today,) = json.loads(capsys.readouterr().out)
    record = json.loads((folder / "record.json").read_text("utf-8"))
    then = record["benchmark"]
    assert today["sha256"] == then["sha256"] == sha256_of(folder / "model.tflite")
    assert (today["n"], today["role"], today["precision"]) == (then["n"], "student", then["precision"])
    same = (today["device"], today["runtime"]) == (then["device"], then["runtime"])
    assert abs(today["top1"] - then["top1"]) <= (0 if same else 0.001)
    card = (folder / "CARD.md").read_text("utf-8")
    assert f"| **this file** | {100 * then['top1']:.2f} % | {100 * then['top5']:.2f} % |" in card
    assert f"p50 {then['latency_ms']['p50']:.3f} ms" in card and f"{then['size_bytes']:,} bytes" in card


@pytest.mark.parametrize("name", PUBLISHED)
def test_its_recipe_is_that_of_the_record(name):
    record = json.loads((MODELS / name / "record.json").read_text("utf-8"))
    recipe = json.loads(msgspec.json.encode(compose(MODELS / name / "recipe.toml")))
    for table, fields in record["recipe"].items():
        assert {field: recipe[table][field] for field in fields} == fields


@pytest.mark.parametrize("name", PUBLISHED)
def test_inspect_shows_its_record(name, capsys):
    folder = MODELS / name
    assert main_status(["inspect", str(folder / "model.tflite")]) == 0
    said = capsys.readouterr().out
    assert f"Record: {folder / 'record.json'}\n  by tensorflow " in said
    record = json.loads((folder / "record.json").read_text("utf-8"))
    measured = record["benchmark"]
    assert f"  student: top-1 {measured['top1']:.2%} of {measured['n']} images\n  p50 " in said
    assert main_status(["inspect", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == str(folder / "model.tflite") and found["record"]["content"] == record
    assert found["benchmark"] == {"path": str(folder / "record.json"), "content": measured} and not found["notes"]


@pytest.fixture
def copy(tmp_path):
    return Path(shutil.copytree(MODELS / "mobilenet025-digits-int8", tmp_path / "copy"))


def refusal(copy, capsys) -> str:
    assert main_status(["benchmark", "--model", str(copy)]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_a_folder_without_a_record_is_no_published_model(copy, capsys):
    (copy / "record.json").unlink()
    assert "must hold its record, record.json, as the folders under models/ do, got no such file" in refusal(
        copy, capsys
    )


def test_a_record_that_is_none_is_refused(copy, capsys):
    (copy / "record.json").write_text("{}")
    assert "record.json: recipe: must be there. " in refusal(copy, capsys)


def test_a_record_of_another_file_is_not_shown(copy, capsys):
    record = (copy / "record.json").read_text("utf-8")
    (copy / "record.json").write_text(record.replace(json.loads(record)["export"]["sha256"], "f00d"))
    assert main_status(["inspect", str(copy)]) == 0
    assert capsys.readouterr().out.endswith("No record next to the file.\n")


def test_other_images_of_that_name_are_refused(copy, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = json.loads((copy / "record.json").read_text("utf-8"))
    (copy / "record.json").write_text(json.dumps(record | {"split_content": "f00d"}))
    assert "must refer to unchanged images, got images with the fingerprint" in refusal(copy, capsys)


def test_a_published_model_on_a_folder_of_ones_own(copy, digit_folder, capsys):
    assert main_status(["benchmark", "--model", str(copy), "--data", str(digit_folder), "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["role"], record["n"]) == ("external", 20)
