"""The whole chain on real pictures: a hundred and fifty of scikit-learn's digits, from folder to report."""

import json
import shutil
import socket

import pytest

import kd2mobile
from kd2mobile import pipeline
from kd2mobile.artifact import Store, sha256_of
from kd2mobile.cli import main_status
from kd2mobile.data.sources import SOURCES
from kd2mobile.errors import ArtifactError, RecipeError
from kd2mobile.pipeline import STORE
from kd2mobile.recipe import compose
from kd2mobile.runs import start_run
from kd2mobile.stages import stages

RECORD_FIELDS = {
    "role", "model", "precision", "compression", "device", "runtime", "decoder", "n", "top1", "top5", "logloss", "ece",
    "teacher_agreement", "latency_ms", "first_run_ms", "init_ms", "size_bytes", "compressed_bytes", "peak_rss_mib",
    "threads", "sha256",
    "rule", "xnnpack", "affinity", "conditions", "clock_step_ms", "isolated", "measured_at", "tool", "unknown",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with `photos/`: three digits, fifty pictures each, one of them not a picture."""
    place = tmp_path_factory.mktemp("chain")
    SOURCES["digits"](place / "all")
    for digit in "037":
        (place / "photos" / digit).mkdir(parents=True)
        for picture in sorted((place / "all" / digit).iterdir())[:50]:
            shutil.copy(picture, place / "photos" / digit / picture.name)
    (place / "photos" / "3" / "broken.png").write_text("not a picture")
    return place


@pytest.fixture(scope="module")
def recipe(place):
    file = place / "recipe.toml"
    file.write_text(
        f"""
[data]
source = "{(place / "photos").as_posix()}"
val = 0.2
[views]
count = 2
flip = false
smallest_area = 0.7
[teacher]
name = "mobilenet"
weights = "none"
input_px = 32
epochs = 1
[student]
name = "small_cnn"
weights = "none"
input_px = 16
[distill]
epochs = 3
baseline = true
learning_rate = 0.01
[export]
precisions = ["fp32", "int8"]
calibration_pictures = 12
[benchmark]
latency_runs = 100
"""
    )
    return file


@pytest.fixture(scope="module")
def run(place, recipe):
    """The run after every verb, made by the Python API in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        kd2mobile.distill(recipe)
        kd2mobile.export()
        kd2mobile.benchmark()
        pipeline.report()
    return next((place / "runs").iterdir())


@pytest.fixture(autouse=True)
def _in_place(place, monkeypatch):
    monkeypatch.chdir(place)


def test_photos_to_report(run):
    assert {p.name for p in (run / "export").iterdir()} == {
        f"{role}small_cnn-{precision}.tflite" for role in ("", "baseline-") for precision in ("fp32", "int8")
    }
    page = (run / "report.html").read_text()
    assert "small_cnn" in page and "broken.png" in page, "what was set aside is on the page"
    for part in ("mistakes", "calibration", "classes", "quantized"):
        assert f'<section id="{part}"' in page
    assert "int8 beside fp32" in page and "Test pictures by true class (rows) and named class (columns)" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page


def test_int16x8_comes_when_asked_for_and_inspect_finds_its_records(run, place, capsys):
    folder = place / "elsewhere" / "wide"
    shutil.copytree(run, folder)
    file = kd2mobile.export(folder, precision=["int16x8"]).files["student", "int16x8"]
    measured = kd2mobile.benchmark(folder)
    (wide,) = (r for r in measured.records if (r.role, r.precision) == ("student", "int16x8"))
    assert wide.n == 30 and wide.top1 > 0.5 and wide.latency_ms.n >= 100
    said = kd2mobile.inspect(file)
    assert said.record.content["results"]["sha256"] == said.sha256 == wide.sha256
    assert said.benchmark.content["top1"] == wide.top1 and said.arithmetic == "integer" and said.float_ops == []
    assert said.tflite_metadata.version == said.kd2mobile.student_fingerprint
    assert main_status(["inspect", str(file)]) == 0
    assert "Input: image float32 [1, 16, 16, 3]" in capsys.readouterr().out


def test_benchmark_json_has_the_promised_fields(run, capsys):
    assert main_status(["benchmark", "--json", "-", "--quiet"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [r["role"] for r in records] == ["teacher", "student", "student", "baseline", "baseline"]
    for record in records:
        assert record.keys() == RECORD_FIELDS
        assert all(record[name] is None or 0 <= record[name] <= 1 for name in ("top1", "top5", "ece"))
    student = next(r for r in records if r["role"] == "student" and r["precision"] == "int8")
    assert student["latency_ms"]["n"] >= 100 and student["n"] == 30 and student["runtime"] and student["device"]
    assert records[0]["latency_ms"] is None and records[0]["teacher_agreement"] == 1.0


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
    assert "transfer current" in said.err and "the teacher is not run again" in said.err
    assert "distill.temperature: 2.0 here, 4.0 there" in said.err
    assert "student  current" in said.err, "the baseline does not depend on the temperature"
    assert said.out.splitlines()[-1] == "Written: runs/other. Next: kd2mobile export --tflite --run runs/other"


def test_a_second_report_makes_nothing_again(run, capsys):
    assert main_status(["report", "--run", str(run)]) == 0
    said = capsys.readouterr()
    assert "making" not in said.err and "benchmark current" in said.err
    assert said.out.splitlines()[-1].startswith(f"Written: {run}/report.html.")


def test_two_runs_beside_each_other(run, recipe, capsys):
    assert main_status(["distill", "--recipe", str(recipe), "--seed", "1", "--epochs", "1", "--run", "runs/two"]) == 0
    done = pipeline.report(run=[run, "runs/two"])
    assert done.page == run / "comparison.html" and [one.page.name for one in done.runs] == ["report.html"] * 2
    page = done.page.read_text()
    assert "A less B" in page and "distill.epochs" in page and "Not comparable" not in page
    assert 'href="../two/report.html"' in page and 'href="report.html"' in page
    capsys.readouterr()
    assert main_status(["report", "--run", str(run), "--run", "runs/two", "--out", "both.html"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "Written: both.html. It compares the 2 runs."
    assert "making" not in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "RUN", "--out", "x.html"], "--out: must be given with several runs"),
        (["--run", "RUN", "--run", "runs/../RUN"], "--run: must name each run once, got"),
        (["--run", "RUN", "--run", "runs/none"], "runs/none: must hold a run, got none. Make one with"),
        (["--run", "RUN", "--run", "runs/two", "--out", "none/x.html"], "--out: must be a file in a folder that is"),
        (["--run", "RUN", "--run", "runs/two", "--out", "RUN/report.html"], "--out: must be another file than a run's"),
    ],
)
def test_runs_that_cannot_be_compared(run, arguments, message, capsys):
    name = run.relative_to(run.parents[1]).as_posix()
    given = [text.replace("runs/../RUN", f"runs/../{name}").replace("RUN", name) for text in arguments]
    assert main_status(["report", *given]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_predict_names_classes(run, place, capsys):
    picture = place / "photos" / "0" / sorted(p.name for p in (place / "photos" / "0").iterdir())[0]
    assert main_status(["predict", str(run / "export" / "small_cnn-int8.tflite"), str(picture), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert {name for name, _ in answer["classes"]} == {"0", "3", "7"}
    assert sum(p for _, p in answer["classes"]) == pytest.approx(1, abs=0.02)


def test_the_api_measures_and_predicts_as_the_command_line_does(run, place):
    model = run / "export" / "small_cnn-int8.tflite"
    (record,) = kd2mobile.benchmark(model=model, data=place / "photos").records
    assert record.role == "external"
    picture = str(next((place / "photos" / "7").iterdir()))
    (answer,) = kd2mobile.predict(model, picture, top=2)
    assert len(answer.classes) == 2


def test_our_file_is_measured_on_a_folder_as_anyone_elses(run, capsys):
    model = str(run / "export" / "small_cnn-fp32.tflite")
    assert main_status(["benchmark", "--model", model, "--data", "photos", "--json", "-"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["role"], record["n"], record["precision"]) == ("external", 150, "fp32")


def test_one_precision_does_not_become_the_only_one(run, recipe):
    assert main_status(["distill", "--recipe", str(recipe), "--epochs", "1", "--run", "runs/one"]) == 0
    assert main_status(["export", "--run", "runs/one", "--precision", "fp32"]) == 0
    assert main_status(["export", "--run", "runs/one", "--set", "export.precisions=['int8']"]) == 0
    assert main_status(["distill", "--recipe", str(recipe), "--epochs", "1", "--run", "runs/one"]) == 0
    measured = kd2mobile.benchmark("runs/one").records
    assert {r.precision for r in measured if r.role == "student"} == {"fp32", "int8"}


@pytest.fixture(scope="module")
def compressed(run, recipe, place):
    """A run of its own with a pruned student, made by the command line."""
    pytest.importorskip("tensorflow_model_optimization")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main_status(["distill", "--recipe", str(recipe), "--run", "runs/squeezed"]) == 0
        how = ["--precision", "fp32,int8", "--compress", "none,prune", "--set", "compress.epochs=2"]
        assert main_status(["export", "--run", "runs/squeezed", *how]) == 0
        kd2mobile.benchmark("runs/squeezed")
        pipeline.report("runs/squeezed")
    return place / "runs" / "squeezed"


def test_a_compressed_student_goes_the_same_way(compressed):
    names = {path.name for path in (compressed / "export").iterdir() if not path.name.startswith("baseline")}
    assert names == {f"small_cnn-{way}{p}.tflite" for way in ("", "prune-") for p in ("fp32", "int8")}
    records = json.loads((compressed / "benchmark.json").read_text())
    ours = {(r["compression"], r["precision"]): r["sha256"] for r in records if r["role"] == "student"}
    assert (
        set(ours) == {(way, p) for way in ("none", "prune") for p in ("fp32", "int8")} and len(set(ours.values())) == 4
    )
    artifacts = json.loads((compressed / "run.json").read_text())["artifacts"]
    made = json.loads((compressed / artifacts["student-prune"] / "record.json").read_text())
    assert made["results"]["zeros"] >= 0.49 and made["spec"]["config"]["sparsity"] == 0.5
    assert made["spec"]["inputs"]["transfer"]["stage"] == "transfer", "the teacher teaches on"
    assert "int8, prune" in (compressed / "report.html").read_text()


def test_what_was_set_for_export_is_kept_for_the_next_verb(compressed, capsys):
    assert main_status(["benchmark", "--run", str(compressed), "--json", "-"]) == 0
    said = capsys.readouterr()
    assert "compress.epochs" not in said.err and "making" not in said.err


def test_the_smallest_file_within_a_drop_is_found(run, place, capsys):
    auto = ["export", "--run", str(run), "--precision", "auto", "--max-drop", "40", "--out", "app"]
    assert main_status(auto) == 0
    lines = capsys.readouterr().out.splitlines()
    rungs = [line for line in lines if " bytes  loses " in line or " refused: " in line]
    assert [line.split()[0] for line in rungs[:3]] == ["int8", "int8_dynamic", "fp16"]
    sizes = {line.split()[0]: int(line.split()[1].replace(",", "")) for line in rungs}
    smallest = min(sizes, key=sizes.get)
    assert lines[-1].startswith(f"Written: {run}/export/small_cnn-{smallest}.tflite. Next: ")
    (copy,) = (place / "app").iterdir()
    assert lines[-2] == f"Copied: app/{copy.name}." and copy.name == f"small_cnn-{smallest}.tflite"
    copy.write_bytes(b"other")
    assert main_status(auto) == 2
    assert f"app/{copy.name}: must not exist yet, got a file of 5 bytes." in capsys.readouterr().err.splitlines()[-1]
    assert main_status(["export", "--run", str(run), "--max-drop", "1"]) == 2
    assert "--max-drop must be given with --precision auto, got no --precision." in capsys.readouterr().err


def test_the_files_are_copied_where_out_says_and_replace_no_others(run, place, capsys):
    arguments = ["export", "--run", str(run), "--precision", "fp32,int8", "--out", "assets"]
    assert main_status(arguments) == 0
    copies = [f"assets/small_cnn-{precision}.tflite" for precision in ("fp32", "int8")]  # no baseline's
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("Copied: ")] == [
        f"Copied: {copy}." for copy in copies
    ]
    mine, other = place / copies[0], place / copies[1]
    assert sha256_of(mine) == sha256_of(run / "export" / mine.name)
    assert main_status(arguments) == 0, "what lies there already may stay"
    mine.write_bytes(b"other")
    other.unlink()
    assert main_status(arguments) == 2
    refused = f"{copies[0]}: must not exist yet, got a file of 5 bytes. Give --force to replace it."
    assert capsys.readouterr().err.splitlines()[-1] == refused
    assert mine.read_bytes() == b"other" and not other.exists()
    assert main_status([*arguments, "--force"]) == 0
    assert sha256_of(mine) == sha256_of(run / "export" / mine.name)
    assert sorted((place / "assets").iterdir()) == sorted([mine, other])
    other.unlink()
    other.mkdir()
    assert main_status([*arguments, "--force"]) == 2
    refused = f"{copies[1]}: must not exist yet, got a folder. Move it away, or choose another --out."
    assert capsys.readouterr().err.splitlines()[-1] == refused
    assert main_status([*arguments[:-1], copies[0]]) == 2
    assert capsys.readouterr().err.startswith("--out: must be a folder, or the name of a new one in a folder that is")


def test_a_file_in_the_way_is_refused_before_anything_is_made(recipe, place, capsys):
    waiting = start_run(compose(recipe, {"distill.seed": 7}), place / "runs" / "waiting", STORE)
    (place / "taken").mkdir()
    (place / "taken" / "small_cnn-fp32.tflite").write_bytes(b"other")
    assert main_status(["export", "--run", "runs/waiting", "--out", "taken"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("taken/small_cnn-fp32.tflite: must not exist yet, got a file of 5 bytes. ")
    assert not waiting.record["artifacts"]


def test_a_compression_that_is_known_to_fail_is_refused_before_anything_is_made(recipe, place, capsys):
    start_run(compose(recipe, {"student.name": "mobilenetv2_035", "student.input_px": 32}), place / "runs/v2", STORE)
    assert main_status(["export", "--run", "runs/v2", "--compress", "pcqat"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("export.compressions, pcqat: must be a compression that mobilenetv2_035 can take, got ")
    assert "13 GB" in message


def test_without_the_extra_its_installation_is_named(run, capsys, monkeypatch):
    from kd2mobile import tensorflow_process

    found = tensorflow_process.find_spec
    monkeypatch.setattr(
        tensorflow_process, "find_spec", lambda name: None if name == "tensorflow_model_optimization" else found(name)
    )
    assert main_status(["export", "--run", str(run), "--compress", "cluster", "--precision", "fp32"]) == 2
    assert '"kd2mobile[compress]"' in capsys.readouterr().err.splitlines()[-1]


def test_a_refused_command_leaves_no_run(run, recipe, place):
    before = sorted((place / "runs").iterdir())
    assert main_status(["distill", "--recipe", str(recipe), "--student", "smal_cnn"]) == 2
    assert main_status(["distill", "--recipe", str(recipe), "--student", "squeezenet", "--input-px", "16"]) == 2
    assert sorted((place / "runs").iterdir()) == before


def test_a_report_without_the_teacher_in_the_store(run, capsys):
    teacher = next((pipeline.STORE / "teacher").glob("[!.]*"))
    teacher.rename(teacher.with_name(".aside"))
    assert main_status(["report", "--run", str(run)]) == 0
    teacher.with_name(".aside").rename(teacher)
    assert "The teacher artifact is not in the store any more." in (run / "report.html").read_text()


def test_a_corrupt_shard_is_made_again_and_said(run, recipe, capsys):
    plan = stages(compose(recipe), Store(pipeline.STORE))
    shard = Store(pipeline.STORE).folder(plan.transfer) / "train-00000.npy"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-2])
    assert main_status(["label", "--recipe", str(recipe)]) == 0
    assert "train-00000.npy: its checksum differs; it is made again" in capsys.readouterr().err
    assert shard.read_bytes() == whole


def test_a_run_of_another_recipe_is_not_overwritten(run, recipe):
    with pytest.raises(RecipeError, match="distill.temperature: 8.0 here, 4.0 there"):
        kd2mobile.distill(recipe, temperature=8, run=run)


def test_a_stale_transfer_set_given_by_hand_is_refused(run, recipe):
    folder = next((pipeline.STORE / "transfer").glob("[!.]*"))
    with pytest.raises(ArtifactError, match=r"must be the transfer of this recipe, got .*views.count: 3 here, 2 there"):
        kd2mobile.distill(recipe, views=3, run="runs/stale", transfer_set=folder)


def test_a_transfer_set_copied_from_elsewhere_needs_no_teacher(run, recipe, place, monkeypatch):
    from kd2mobile.teachers import training

    monkeypatch.setattr(training, "make_teacher", lambda *args: pytest.fail("the teacher was made"))
    shutil.copytree(pipeline.STORE / "transfer", place / "copied")
    folder = next((place / "copied").glob("[!.]*"))
    done = kd2mobile.distill(recipe, epochs=1, run="runs/laptop", store="laptop", transfer_set=folder)
    assert done.student.is_file()
    assert main_status(["report", "--run", "runs/laptop"]) == 0, "later verbs find the set, and the run its store"
    assert not (place / "laptop" / "teacher").exists()
    teacher = next((pipeline.STORE / "teacher").glob("[!.]*")) / "teacher.keras"
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
    assert "split    current" in capsys.readouterr().err


def test_what_no_file_can_be_made_with_is_refused(run, capsys):
    assert main_status(["export", "--run", str(run), "--set", "export.calibration_pictures=2"]) == 2
    message = "export.calibration_pictures: must be at least 3, one picture of each class, or the calibration misses a "
    assert capsys.readouterr().err.splitlines()[-1].startswith(message + "class, got 2. Use ")
    assert main_status(["export", "--run", str(run), "--precision", "int8", "--keep-float", "logit"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert main_status(["export", "--run", str(run), "--precision", "fp32,fp16", "--keep-float", "logits"]) == 2
    without = (
        "export.keep_float: must be given with int8 among the precisions, the others have nothing of it, got fp32, "
    )
    assert capsys.readouterr().err.splitlines()[-1].startswith(without + "fp16. Add int8 to --precision, or leave it")
    assert "must name layers" in said and "got 'logit'. Did you mean 'logits'? The layers with an op: " in said


def test_export_names_the_layers_that_lose_most(run, capsys):
    assert main_status(["export", "--run", str(run)]) == 0
    said = capsys.readouterr().out.splitlines()
    heads = [f"{role}small_cnn-int8.tflite: largest quantization errors in " for role in ("", "baseline-")]
    assert [line[: len(head)] for line, head in zip(said, heads, strict=False)] == heads and "%)" in said[0]
    page = (run / "report.html").read_text()
    assert '<section id="layers"' in page and "Top-1 less the student" in page


def test_a_file_is_measured_as_it_was_last_exported(run):
    kd2mobile.export(run, precision=("int8",), per_tensor=True)
    assert [record.precision for record in kd2mobile.benchmark(run).records].count("int8") == 2
    measured = {record["sha256"] for record in json.loads((run / "benchmark.json").read_text())}
    per_tensor, default = (run / "export" / f"small_cnn-{name}.tflite" for name in ("int8-per_tensor", "int8"))
    assert sha256_of(per_tensor) in measured and sha256_of(default) not in measured
    made = kd2mobile.export(run, precision=("int8",)).records["student", "int8"]
    assert not made["per_tensor"] and made["made_from"].keys() == {"recipe", "student", "split", "transfer"}
    assert all(made["made_from"].values()) and made["against_student"]["n"] == 30
