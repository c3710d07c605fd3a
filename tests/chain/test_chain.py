"""Photos to report, and on from there: what stands is found again, what is stale or lost is said."""

import json
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

import kd2mobile
from kd2mobile.cli.commands import main_status
from kd2mobile.errors import ArtifactError, RecipeError
from kd2mobile.metrics import hits
from kd2mobile.recipe.compose import compose
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.artifact import Store
from kd2mobile.store.run import STORE
from tests.tiny_models import is_explained

RECORD_FIELDS = {
    "role", "model", "precision", "compression", "device", "runtime", "decoder", "n", "images", "top1", "top5",
    "logloss", "ece", "teacher_agreement", "val", "latency_ms", "first_run_ms", "init_ms", "size_bytes",
    "compressed_bytes", "peak_rss_mib", "threads", "sha256", "rule", "xnnpack", "affinity", "conditions",
    "clock_step_ms", "isolated", "measured_at", "tool", "class_order", "recommended", "leaked",
    "top1_without_leaked", "unknown",
}  # fmt: skip


def test_photos_to_report(run):
    assert {p.name for p in (run / "export").iterdir()} == {
        f"{role}small_cnn-{precision}.tflite" for role in ("", "baseline-") for precision in ("fp32", "int8")
    }
    page = (run / "report.html").read_text()
    assert "small_cnn" in page and "broken.png" in page, "what was skipped is on the page"
    for part in ("mistakes", "calibration", "classes", "quantized"):
        assert f'<section id="{part}"' in page
    assert "int8 beside fp32" in page and "Test images by true class (rows) and predicted class (columns)" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_benchmark_json_has_the_promised_fields(run, capsys):
    assert main_status(["benchmark", "--run", str(run), "--json", "--quiet"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [r["role"] for r in records] == ["teacher", "student", "student", "baseline", "baseline"]
    for record in records:
        assert record.keys() == RECORD_FIELDS
        assert is_explained(record)
        assert all(record[name] is None or 0 <= record[name] <= 1 for name in ("top1", "top5", "ece"))
    student = next(r for r in records if r["role"] == "student" and r["precision"] == "int8")
    assert student["latency_ms"]["n"] >= 100 and student["n"] == 30 and student["runtime"] and student["device"]
    assert len({r["images"] for r in records}) == 1 and len(student["images"]) == 16
    assert records[0]["latency_ms"] is None and records[0]["teacher_agreement"] == 1.0


def test_validation_images_choose_the_file_that_is_recommended(run, capsys):
    """The smallest download of those within half a point of the best; the reason is in record, terminal and page."""
    assert main_status(["report", "--run", str(run)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    records = json.loads((run / "benchmark.json").read_text())
    artifacts = json.loads((run / "run.json").read_text())["artifacts"]
    for record in records[1:]:
        role = {"student": "student", "baseline": "baseline"}[record["role"]]
        made = json.loads((run / artifacts[f"{role}-{record['precision']}"] / "record.json").read_text())["results"]
        assert record["val"]["top1"] == made["against_student"]["top1"] and record["val"]["n"] == made["parity"]["n"]
        assert record["val"]["images"] == records[1]["val"]["images"] != record["images"]
        assert len(record["latency_ms"]["rounds"]) >= 5
    students = [r for r in records if r["role"] == "student"]
    near = [r for r in students if r["val"]["top1"] >= max(s["val"]["top1"] for s in students) - 0.005 - 1e-12]
    best = min(near, key=lambda r: r["compressed_bytes"])
    (recommended,) = [r for r in records if r["recommended"]]
    assert (
        recommended is best and best["recommended"] in said and best["recommended"] in (run / "report.html").read_text()
    )
    assert said.count("McNemar") == 1


def test_what_leaks_is_counted_and_what_each_model_scores_without_it(run, capsys):
    """Drawn with near duplicates on both sides: some of the test images have their likes in train or val."""
    split = run / json.loads((run / "run.json").read_text())["artifacts"]["split"]
    leaked = json.loads((split / "groups.json").read_text())["leaked"]
    samples = [s for s in json.loads((split / "split.json").read_text())["samples"] if s["split"] == "test"]
    others = np.array([s["path"] not in leaked for s in samples])
    assert 0 < len(leaked) < len(samples) == 30 and others.sum() == 30 - len(leaked)
    labels = np.array([s["label"] for s in samples])
    records = json.loads((run / "benchmark.json").read_text())
    assert {r["leaked"] for r in records} == {len(leaked)}
    with np.load(run / "predictions.npz") as answers:
        right = hits(answers["teacher"], labels, 1)
    assert records[0]["top1"] == pytest.approx(right.mean())
    assert records[0]["top1_without_leaked"] == pytest.approx(right[others].mean())
    assert all(0 <= r["top1_without_leaked"] <= 1 for r in records)
    page = (run / "report.html").read_text()
    assert f"{len(leaked)} of 30 test images are also in train or val" in page and "No leaks" in page
    assert "drawn without regard to near duplicates (--no-groups)" in page and "15 groups of near duplicates" in page


def test_a_benchmark_that_fails_leaves_the_earlier_records_whole(run, capsys):
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert list((run / "measurements").iterdir())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main_status(["benchmark", "--run", str(run), "--device", "browser", "--no-open", "--port", port]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(("--port", "--device browser"))
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_second_distill_with_another_temperature_does_not_run_the_teacher(run, recipe, capsys, monkeypatch):
    from kd2mobile.transfer import label

    monkeypatch.setattr(label, "label", lambda *args: pytest.fail("the teacher ran again"))
    assert main_status(["distill", "--recipe", str(recipe), "--temperature", "2", "--run", "runs/other"]) == 0
    said = capsys.readouterr()
    assert "transfer up to date" in said.err and "the teacher is not run again" in said.err
    assert "distill.temperature: 2.0 here, 4.0 there" in said.err
    assert "student  up to date" in said.err, "the baseline does not depend on the temperature"
    assert said.out.splitlines()[-1] == "Written: runs/other. Next: kd2mobile export --tflite --run runs/other"


def test_a_second_report_makes_nothing_again(run, capsys):
    assert main_status(["report", "--run", str(run)]) == 0
    said = capsys.readouterr()
    assert "building" not in said.err and "benchmark up to date" in said.err
    assert said.out.splitlines()[-1].startswith(f"Written: {run}/report.html.")


def test_what_is_made_is_measured_and_reported_without_loading_keras(run):
    code = """
import sys, kd2mobile
for command in (kd2mobile.export, kd2mobile.benchmark, kd2mobile.report):
    command(sys.argv[1])
print("keras" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", code, run], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines()[-1] == "False"


def test_a_damaged_measurement_does_not_stop_the_report(run, capsys):
    damaged = run / "measurements" / "20260101-000000-ssh.json"
    damaged.write_text("{")
    assert main_status(["report", "--run", str(run)]) == 0
    assert f"{damaged.as_posix()} is left out: it must be JSON" in capsys.readouterr().err
    assert "measurements/20260101-000000-ssh.json is left out: it must" in (run / "report.html").read_text()


def test_two_runs_beside_each_other(run, recipe, capsys):
    assert main_status(["distill", "--recipe", str(recipe), "--seed", "1", "--epochs", "1", "--run", "runs/two"]) == 0
    done = kd2mobile.report(run=[run, "runs/two"])
    assert done.page == run / "comparison.html" and [one.page.name for one in done.runs] == ["report.html"] * 2
    page = done.page.read_text()
    assert "A less B" in page and "distill.epochs" in page and "Not comparable" not in page
    assert 'href="../two/report.html"' in page and 'href="report.html"' in page
    capsys.readouterr()
    assert main_status(["report", "--run", str(run), "--run", "runs/two", "--out", "both.html"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "Written: both.html. It compares the 2 runs."
    assert "building" not in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "RUN", "--out", "x.html"], "--out: must be given with several runs"),
        (["--run", "RUN", "--run", "runs/../RUN"], "--run: must give each run once, got"),
        (["--run", "RUN", "--run", "runs/none"], "runs/none: must hold a run, got none. Make one with"),
        (
            ["--run", "RUN", "--run", "runs/two", "--out", "none/x.html"],
            "--out: must be a file in an existing folder, got",
        ),
        (
            ["--run", "RUN", "--run", "runs/two", "--out", "RUN/report.html"],
            "--out: must be different from a run's own files",
        ),
    ],
)
def test_runs_that_cannot_be_compared(run, arguments, message, capsys):
    shutil.copytree(run, run.with_name("two"))
    name = run.relative_to(run.parents[1]).as_posix()
    given = [text.replace("runs/../RUN", f"runs/../{name}").replace("RUN", name) for text in arguments]
    assert main_status(["report", *given]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_predict_names_classes(run, place, capsys):
    image = place / "photos" / "0" / sorted(p.name for p in (place / "photos" / "0").iterdir())[0]
    assert main_status(["predict", str(run / "export" / "small_cnn-int8.tflite"), str(image), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert {name for name, _ in answer["classes"]} == {"0", "3", "7"}
    assert sum(p for _, p in answer["classes"]) == pytest.approx(1, abs=0.02)


def test_the_api_measures_and_predicts_as_the_command_line_does(run, place):
    model = run / "export" / "small_cnn-int8.tflite"
    (record,) = kd2mobile.benchmark(model=model, data=place / "photos").records
    assert record.role == "external"
    image = str(next((place / "photos" / "7").iterdir()))
    (answer,) = kd2mobile.predict(model, image, top=2)
    assert len(answer.classes) == 2


def test_our_file_is_measured_on_a_folder_as_anyone_elses(run, capsys):
    model = str(run / "export" / "small_cnn-fp32.tflite")
    assert main_status(["benchmark", "--model", model, "--data", "photos", "--json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["role"], record["n"], record["precision"]) == ("external", 150, "fp32")


def test_a_refused_command_leaves_no_run(run, recipe, place):
    before = sorted((place / "runs").iterdir())
    assert main_status(["distill", "--recipe", str(recipe), "--student", "smal_cnn"]) == 2
    assert main_status(["distill", "--recipe", str(recipe), "--student", "squeezenet", "--input-px", "16"]) == 2
    assert sorted((place / "runs").iterdir()) == before


def test_a_report_without_the_teacher_in_the_store(run, capsys):
    teacher = next((STORE / "teacher").glob("[!.]*"))
    teacher.rename(teacher.with_name(".aside"))
    assert main_status(["report", "--run", str(run)]) == 0
    assert "The teacher artifact is no longer in the store." in (run / "report.html").read_text()


def test_a_corrupt_shard_is_made_again_and_said(run, recipe, capsys):
    plan = make_plan(compose(recipe), Store(STORE))
    shard = Store(STORE).folder(plan.steps["transfer"]) / "train-00000.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-2])
    assert main_status(["label", "--recipe", str(recipe)]) == 0
    assert "train-00000.npy: its checksum differs; rebuilding it" in capsys.readouterr().err
    assert shard.read_bytes() == whole


def test_a_run_of_another_recipe_is_not_overwritten(run, recipe):
    with pytest.raises(RecipeError, match="distill.temperature: 8.0 here, 4.0 there"):
        kd2mobile.distill(recipe, temperature=8, run=run)


def test_a_stale_transfer_set_given_by_hand_is_refused(run, recipe):
    folder = next((STORE / "transfer").glob("[!.]*"))
    with pytest.raises(ArtifactError, match=r"must be the transfer of this recipe, got .*views.count: 3 here, 2 there"):
        kd2mobile.distill(recipe, views=3, run="runs/stale", transfer_set=folder)


def test_a_transfer_set_copied_from_elsewhere_needs_no_teacher(run, recipe, place, monkeypatch):
    from kd2mobile.teachers import training

    monkeypatch.setattr(training, "make_teacher", lambda *args: pytest.fail("the teacher was made"))
    shutil.copytree(STORE / "transfer", place / "copied")
    folder = next((place / "copied").glob("[!.]*"))
    done = kd2mobile.distill(recipe, epochs=1, run="runs/laptop", store="laptop", transfer_set=folder)
    assert done.students["student"].is_file()
    assert main_status(["report", "--run", "runs/laptop"]) == 0, "later commands find the set, and the run its store"
    assert not (place / "laptop" / "teacher").exists()
    teacher = next((STORE / "teacher").glob("[!.]*")) / "teacher.keras"
    row = json.loads((place / "runs" / "laptop" / "benchmark.json").read_text())[0]
    assert (row["role"], row["size_bytes"]) == ("teacher", teacher.stat().st_size), "as the set's record says"


def test_a_failing_stage_leaves_the_others_and_the_next_start_goes_on(recipe, place, monkeypatch, capsys):
    from kd2mobile.data import pixel_store

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pixel_store, "render_pixels", full)
    arguments = ["distill", "--recipe", str(recipe), "--store", "fresh", "--run", "runs/fresh", "--epochs", "1"]
    assert main_status(arguments) == 2
    assert "must have room to write, got no space left on device" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert main_status(arguments) == 0
    assert "split    up to date" in capsys.readouterr().err
