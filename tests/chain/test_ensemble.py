"""Two own .keras teachers teach one student, from the command line, with unlabelled images too."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import kd2mobile
from kd2mobile.cli.commands import main_status
from kd2mobile.data.split import read_split
from kd2mobile.data.views import read_views
from kd2mobile.pixels import Box, open_image, render
from kd2mobile.store.run import STORE, artifacts_of
from kd2mobile.transfer.store import Transfer

PX = {"a": 8, "b": 12}
SMALL = ["--student", "small_cnn", "--student-weights", "none", "--input-px", "16", "--epochs", "1"]
BOTH = ["--data", "photos", "--unlabelled", "loose", "--teacher", "a.keras,b.keras", "--views", "2"]


def own_teacher(name):
    """A network that tells zeros from ones by their mean images: it has its own preprocessing."""
    px, classes = PX[name], sorted(path.name for path in Path("photos").iterdir())
    means = [
        np.mean([np.asarray(Image.open(file).convert("RGB").resize((px, px)), float) for file in folder], axis=0)
        for folder in (sorted(Path("photos", one).iterdir()) for one in classes)
    ]
    inputs = keras.Input((px, px, 3))
    dense = keras.layers.Dense(2, name="answers")
    outputs = dense(keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs)))
    weights = np.stack([mean.ravel() for mean in means], axis=1) / 255 / px
    dense.set_weights([weights, -(weights**2).sum(axis=0) / 2 * px])
    keras.Model(inputs, outputs).save(f"{name}.keras")


@pytest.fixture(scope="module")
def made(digit_folder, tmp_path_factory):
    """A folder with the run `run` of both teachers, exported, measured and reported."""
    place = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        shutil.copytree(digit_folder, "photos")
        Path("loose").mkdir()
        for digit in "01":
            for file in sorted(Path("photos", digit).iterdir())[:4]:
                file.rename(Path("loose", f"{digit} {file.name}"))
        for name in PX:
            own_teacher(name)
        assert main_status(["distill", *BOTH, *SMALL, "--ensemble-temperatures", "1,2", "--run", "run"]) == 0
        assert main_status(["export", "--run", "run", "--precision", "fp32"]) == 0
        assert main_status(["benchmark", "--run", "run", "--json=measured.json"]) == 0
        assert main_status(["report", "--run", "run"]) == 0
    return place


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """The test's own copy."""
    shutil.copytree(made, tmp_path / "ensemble")
    monkeypatch.chdir(tmp_path / "ensemble")
    return tmp_path / "ensemble"


def softmax(z):
    powers = np.exp(z - z.max())
    return powers / powers.sum()


def answers(name, pixels):
    """float64 [classes]: the probabilities of the teacher's file, softened."""
    model = keras.saving.load_model(f"{name}.keras")
    logits = np.asarray(model.predict_on_batch(pixels[None].astype("f4"))[0], np.float64)
    return softmax(logits / {"a": 1, "b": 2}[name])


def stages_in(store):
    return {folder.name: {one.name for one in folder.glob("[!.]*") if one.is_dir()} for folder in store.iterdir()}


def test_each_stored_view_is_the_mean_of_both_teachers(place):
    folders = artifacts_of(Path("run"))
    for prefix, part, root in (("", "train", Path("photos")), ("unlabelled-", "unlabelled", Path("loose"))):
        split = read_split(folders[f"{prefix}split"])
        views = read_views(folders[f"{prefix}views"], part)
        stored = Transfer(folders[f"{prefix}transfer"]).logits(part)
        sample, view = split.samples_of(part)[1], views[1, 1]
        image = open_image(root / Path(sample.path.removeprefix("unlabelled/")), None)
        seen = {name: render(image, Box(*view["box"].tolist()), px, bool(view["flip"])) for name, px in PX.items()}
        expected = np.mean([answers(name, seen[name]) for name in PX], axis=0)
        assert softmax(stored[1, 1].astype(float)) == pytest.approx(expected, abs=2e-3)


def test_the_records_and_the_page_name_both_teachers(place):
    folders = artifacts_of(Path("run"))
    assert {"teacher-1", "teacher-2", "transfer-1", "transfer-2", "unlabelled-transfer-2"} <= folders.keys()
    combined = json.loads((folders["transfer"] / "record.json").read_text())
    assert combined["spec"]["config"] == {"mean": "arithmetic", "temperatures": [1.0, 2.0]}
    each = [json.loads((folders[f"transfer-{i}"] / "record.json").read_text())["results"] for i in (1, 2)]
    assert combined["results"]["kept"] == [0, 1]
    assert combined["results"]["members"] == [
        {"name": f"{name}.keras", "val": one["val"]} for name, one in zip(PX, each, strict=True)
    ]
    assert combined["results"]["teacher"]["size_bytes"] == sum(one["teacher"]["size_bytes"] for one in each)
    teacher, student = json.loads(Path("measured.json").read_text())
    assert (teacher["role"], teacher["model"]) == ("teacher", "a+b") and student["teacher_agreement"] is not None
    page = Path("run/report.html").read_text("utf-8")
    assert "small_cnn taught by a.keras and b.keras" in page
    top1 = [one["val"]["top1"] for one in (*each, combined["results"])]
    assert (
        "The teacher is the arithmetic mean of 2 networks&#39; answers. Validation top-1: "
        f"a.keras {top1[0]:.1%} (temperature 1), b.keras {top1[1]:.1%} (temperature 2); combined {top1[2]:.1%}."
    ) in page


def test_another_mean_makes_the_combination_alone_again(place, capsys):
    before = stages_in(STORE)
    flags = [*SMALL, "--ensemble-mean", "geometric", "--ensemble-temperatures", "1,2"]
    assert main_status(["label", *BOTH, "--ensemble-mean", "geometric", "--ensemble-temperatures", "1,2"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("Validation top-1: teacher ") and "(a.keras " in said.out and ", b.keras " in said.out
    after = stages_in(STORE)
    new = {stage: after[stage] - before[stage] for stage in after if after[stage] != before[stage]}
    assert {stage: len(folders) for stage, folders in new.items()} == {"transfer": 2}, (
        "with that of the unlabelled ones"
    )
    assert main_status(["check", "--data", "photos", "--unlabelled", "loose"]) == 0
    assert main_status(["distill", *BOTH, *flags, "--run", "run"]) == 2
    assert "ensemble.mean: 'geometric' here, 'arithmetic' there" in capsys.readouterr().err


def test_the_best_teacher_alone_can_be_kept(place, capsys):
    assert main_status(["label", *BOTH, "--keep-best", "1", "--fit-temperatures"]) == 0
    chosen = [
        record["results"]
        for record in (json.loads(path.read_text()) for path in (STORE / "transfer").glob("*/record.json"))
        if record["spec"]["config"].get("keep_best")
    ]
    assert [record["kept"] for record in chosen] in ([[0], [0]], [[1], [1]]), (
        "of the labelled and the unlabelled images"
    )
    assert chosen[0]["temperatures"] == chosen[1]["temperatures"] and chosen[0]["mean"] == "arithmetic"
    labelled = next(record for record in chosen if record["val"])
    best = max(labelled["members"], key=lambda member: (member["val"]["top1"], -member["val"]["logloss"]))
    assert labelled["teacher"]["name"] == best["name"] or len({m["val"]["top1"] for m in labelled["members"]}) == 1
    assert labelled["val"]["top1"] == best["val"]["top1"]


def test_members_whose_seed_changes_nothing_are_refused(place, capsys):
    assert main_status(["label", "--data", "photos", "--teacher", "a.keras", "--members", "2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "ensemble.members: must be networks that differ, got 2. A seed changes a teacher that is trained: "
        "`--teacher-weights none`, `--fine-tune-epochs 1` or `--set teacher.train_fraction=0.8`."
    )


def test_each_teacher_may_be_run_elsewhere(place, monkeypatch):
    folders = artifacts_of(Path("run"))
    roles = ["transfer-1", "transfer-2", "unlabelled-transfer-1", "unlabelled-transfer-2"]
    given = [folder for role in roles for folder in ("--transfer-set", str(folders[role]))]
    flags = ["--ensemble-temperatures", "1,2", "--store", "elsewhere", "--run", "laptop"]
    assert main_status(["distill", *BOTH, *SMALL, *flags, *given]) == 0
    assert not (Path("elsewhere") / "teacher").exists()
    assert artifacts_of(Path("laptop"))["transfer"].name == folders["transfer"].name


def test_show_asks_both_and_combines_them(place):
    file = sorted(Path("photos/1").iterdir())[0]
    shown = kd2mobile.show(file, run=Path("run"), temperatures=[1], png=Path("x.png"))
    assert (shown.teacher, shown.teacher_from) == ("a+b", "teacher.keras")
    image = open_image(file, None)
    seen = {name: render(image, Box(0, 0, 1, 1), px, False) for name, px in PX.items()}
    expected = np.mean([answers(name, seen[name]) for name in PX], axis=0)
    assert {row.name: row.teacher[0] for row in shown.classes} == pytest.approx(
        dict(zip("01", expected, strict=True)), abs=1e-5
    )
    shutil.rmtree(STORE / "teacher")
    run = artifacts_of(Path("run"))
    sample = read_split(run["split"]).samples_of("test")[0].path
    again = kd2mobile.show(sample, run=Path("run"), temperatures=[1], png=Path("y.png"))
    assert again.teacher_from == "transfer set"
