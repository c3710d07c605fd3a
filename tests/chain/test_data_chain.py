"""What people bring, through the command line: a CSV and a folder, test images elsewhere, images without labels."""

import json
import shutil
import struct
from pathlib import Path

import pytest

import kd2mobile
from kd2mobile.cli.commands import main_status

SMALL = ["--student", "small_cnn", "--student-weights", "none", "--input-px", "16", "--views", "1", "--epochs", "1"]


def keras_teacher(folder: Path, classes: list[str]) -> Path:
    """A network that says something about the brightness of an image, of other classes: it gets a new head."""
    import keras

    keras.utils.set_random_seed(0)
    pixels = keras.Input((16, 16, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 127.5, -1.0)(pixels))
    folder.mkdir()
    keras.Model(pixels, keras.layers.Dense(len(classes))(x)).save(folder / "teacher.keras")
    (folder / "teacher.json").write_text(json.dumps({"preprocess": "none", "classes": classes}))
    return folder / "teacher.keras"


@pytest.fixture(scope="module")
def place(digit_folder, tmp_path_factory):
    """photos.csv (two digits, six each), more/ (two each), elsewhere/ (two each, to test on), loose/ (six others)."""
    place = tmp_path_factory.mktemp("brought")
    rows = ["path;label"]
    for digit in "01":
        images = sorted((digit_folder / digit).iterdir())
        for number, image in enumerate(images):
            folder = place / ("images" if number < 6 else f"more/{digit}" if number < 8 else f"elsewhere/{digit}")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, folder / image.name)
            rows += [f"images/{image.name};{digit}"] if number < 6 else []
    (place / "photos.csv").write_text("\n".join(rows))
    (place / "loose" / "deep").mkdir(parents=True)
    for image in sorted((digit_folder.parent / "all" / "7").iterdir())[:6]:
        shutil.copy(image, place / "loose" / "deep" / image.name)
    keras_teacher(place / "teacher", ["birds", "cats", "dogs"])
    return place


@pytest.fixture(autouse=True)
def _in_place(place, monkeypatch):
    monkeypatch.chdir(place)


LABELLED = ["--data", "photos.csv", "--data", "more", "--test-data", "elsewhere", "--teacher", "teacher/teacher.keras"]


@pytest.fixture(scope="module")
def run(place):
    """A run without unlabelled images, then one with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        arguments = ["distill", *LABELLED, *SMALL]
        assert main_status([*arguments, "--run", "runs/plain"]) == 0
        assert main_status([*arguments, "--unlabelled", "loose", "--class-weights", "--run", "runs/loose"]) == 0
    return place / "runs" / "loose"


def test_a_csv_and_a_folder_test_images_elsewhere_and_loose_ones_from_distill_to_report(run, capsys):
    assert main_status(["export", "--precision", "fp32,int8", "--run", str(run)]) == 0
    assert main_status(["report", "--run", str(run)]) == 0
    page = (run / "report.html").read_text("utf-8")
    assert "the student learned from 6 images without a label; 0 files skipped." in page
    records = json.loads((run / "benchmark.json").read_text("utf-8"))
    assert {(r["role"], r["n"]) for r in records} == {("teacher", 4), ("student", 4)}


def test_the_teacher_answers_the_new_images_alone(run, place):
    artifacts = json.loads((run / "run.json").read_text("utf-8"))["artifacts"]
    plain = json.loads((run.parent / "plain" / "run.json").read_text("utf-8"))["artifacts"]
    for role in ("split", "views", "teacher", "pixels", "transfer"):
        assert artifacts[role] == plain[role], "nothing that is labelled is made again"
    assert artifacts["student"] != plain["student"]
    folder = run / artifacts["unlabelled-transfer"]
    assert sorted(p.name for p in folder.glob("*.npy")) == ["unlabelled-00000.npy"]
    record = json.loads((folder / "record.json").read_text("utf-8"))
    assert record["results"]["samples"] == {"unlabelled": 6} and record["results"]["val"] is None
    split = json.loads((run / artifacts["unlabelled-split"] / "split.json").read_text("utf-8"))
    assert {s["path"].rpartition("/")[0] for s in split["samples"]} == {"unlabelled/deep"}
    split = (run / artifacts["split"] / "split.json").read_text("utf-8")
    assert str(place) not in split, "ids name no machine"
    ids = {s["path"].rpartition("/")[0] for s in json.loads(split)["samples"]}
    assert ids == {"train/1/images", "train/2/0", "train/2/1", "test/0", "test/1"}


def test_both_transfer_sets_copied_from_elsewhere_need_no_teacher(run, place, monkeypatch, capsys):
    from kd2mobile.teachers import training

    capsys.readouterr()
    labelled = kd2mobile.label(
        data=["photos.csv", "more"],
        test_data="elsewhere",
        teacher="teacher/teacher.keras",
        unlabelled="loose",
        views=1,
    )
    monkeypatch.setattr(training, "make_teacher", lambda *args: pytest.fail("the teacher was made"))
    for name, folder in {"a": labelled.unlabelled, "b": labelled.folder}.items():
        shutil.copytree(folder, place / "copied" / name)
    arguments = ["distill", *LABELLED, *SMALL, "--unlabelled", "loose", "--store", "laptop", "--run", "runs/laptop"]
    assert main_status([*arguments, "--transfer-set", "copied/a", "--transfer-set", "copied/b"]) == 0
    assert not (place / "laptop" / "teacher").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--data", "bad.csv"],
            "bad.csv, line 2: must name existing files, got 'no.png', no such file and 1 more.",
        ),
        (["--data", "gone.csv"], "gone.csv: must be a CSV or TSV of path,label, got no such file. Check the path"),
        (["--data", "idx"], "must be a complete file"),
        (
            ["--data", "photos.csv", "--test-data", "gone"],
            "gone: must be a folder of photos, a CSV or TSV of path,label, or the name of a data set, got",
        ),
        (
            ["--data", "photos.csv", "--unlabelled", "gone"],
            "gone: must be a folder of unlabelled images, got nothing",
        ),
        (
            ["--data", "photos.csv", "--unlabelled", "loose", "--hard-label-weight", "1"],
            "must be below 1 with data.unl",
        ),
    ],
)
def test_what_is_refused_with_status_2(place, capsys, arguments, said):
    (place / "bad.csv").write_text("path,label\nno.png,cat\nalso-no.png,dog\n")
    (place / "idx").mkdir(exist_ok=True)
    (place / "idx" / "train-images-idx3-ubyte.gz").write_bytes(b"cut")
    (place / "idx" / "train-labels-idx1-ubyte.gz").write_bytes(struct.pack(">II", 0x801, 0))
    assert main_status(["distill", *arguments, *SMALL]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1] and "Traceback" not in error


def test_the_new_names_are_listed(capsys):
    assert main_status(["list", "data"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"))
