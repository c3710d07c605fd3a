"""`kd2mobile check` through the command line."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import kd2mobile
from kd2mobile.cli.commands import main_status


@pytest.fixture
def photos(digit_folder, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(digit_folder, tmp_path / "photos")
    return tmp_path / "photos"


def test_text_json_and_sheet(photos, capsys):
    assert main_status(["check", "--data", "photos", "--json=found.json", "--sheet", "sheet.png"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("photos: 20 images of 2 classes; ")
    assert out.endswith("Written: found.json, sheet.png.\n")
    assert "split    building" in err
    found = json.loads(Path("found.json").read_text("utf-8"))
    assert list(found) == list(kd2mobile.check(data="photos").__struct_fields__)
    assert found["source"] == "photos" and [one["name"] for one in found["classes"]] == ["0", "1"]
    with Image.open("sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_unlabelled_images_are_counted_beside_the_classes(photos, capsys):
    tested = next(path for path in (photos / "0").iterdir())
    (photos.parent / "loose").mkdir()
    shutil.copy(tested, photos.parent / "loose" / "copy.png")
    Image.new("RGB", (9, 9), "teal").save(photos.parent / "loose" / "new.png")
    assert main_status(["check", "--data", "photos", "--unlabelled", "loose"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("photos: 20 images of 2 classes and 1 without a label; 1 file skipped;")
    assert "unlabelled/copy.png: " in out


def test_every_source_stands_before_the_count(photos, capsys):
    shutil.copytree(photos, photos.parent / "more")
    for number, image in enumerate(sorted((photos.parent / "more").rglob("*.png"))):
        Image.open(image).resize((9, 9 + number)).save(image)
    assert main_status(["check", "--data", "photos", "--test-data", "more"]) == 0
    assert capsys.readouterr().out.startswith("photos and more (test): 40 images of 2 classes; ")


@pytest.mark.parametrize("flag", ["--json", "--json=-"])
def test_json_on_standard_output_is_nothing_else(flag, photos, capsys):
    assert main_status(["check", flag, "--data", "photos", "--input-px", "9", "--set", "data.test=0.3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sizes"]["input_px"] == 9
    assert sum(one["test"] for one in found["classes"]) == 6


def test_no_framework_is_needed(photos):
    code = """
import sys
for name in ("keras", "tensorflow", "jax", "sklearn", "scipy", "matplotlib", "rich", "jinja2"):
    sys.modules[name] = None
from kd2mobile.cli.commands import main_status
assert main_status(["check", "--data", "photos"]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "20 images of 2 classes" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--data", "gone"],
            "gone: must be a folder of photos, a CSV or TSV of path,label, or the name of a data set, got",
        ),
        (["--data", "photos/0"], "photos/0: must hold class folders, got 10 images directly inside"),
        (["--data", "photos", "--sheet", "sheet.jpg"], "--sheet: must be a .png file, got sheet.jpg."),
        (
            ["--data", "photos", "--sheet", "no/sheet.png"],
            "--sheet: must be a file in an existing folder, got no/s",
        ),
        (["--data", "photos", "--json=no/found.json"], "--json: must be a file in an existing folder, got no/f"),
        (
            ["--data", "photos", "--set", "data.val=2"],
            "--set, data.val: must be a number above 0 and below 0.5, got 2.",
        ),
        (["--teacher", "xception"], "kd2mobile check: must be given options of this command, got --teacher. Did y"),
    ],
)
def test_what_cannot_be_looked_at(arguments, said, photos, capsys):
    assert main_status(["check", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err.splitlines()[-1]


def test_a_class_that_cannot_be_split_names_its_broken_files(photos, capsys):
    for image in sorted((photos / "1").iterdir())[2:]:
        image.write_bytes(b"broken")
    assert main_status(["check", "--data", "photos"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("photos/1: must hold at least 3 different readable images")
    assert "8 skipped, first 1/" in said


def test_the_python_api_has_the_verb():
    assert kd2mobile.check is kd2mobile.check and "check" in kd2mobile.__all__
