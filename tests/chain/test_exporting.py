"""What an export of a trained run makes, keeps, copies and refuses."""

import json
import shutil

import pytest

import kd2mobile
from kd2mobile.cli.commands import main_status
from kd2mobile.files import sha256_of
from kd2mobile.installation import install_command
from kd2mobile.recipe.compose import compose
from kd2mobile.store.run import STORE, start_run


def test_int16x8_comes_when_asked_for_and_inspect_finds_its_records(run, capsys):
    file = kd2mobile.export(run, precision=["int16x8"]).files["student", "int16x8"]
    measured = kd2mobile.benchmark(run)
    (wide,) = (r for r in measured.records if (r.role, r.precision) == ("student", "int16x8"))
    assert wide.n == 30 and wide.top1 > 0.5 and wide.latency_ms.n >= 100
    said = kd2mobile.inspect(file)
    assert said.record.content["results"]["sha256"] == said.sha256 == wide.sha256
    assert said.benchmark.content["top1"] == wide.top1 and said.arithmetic == "integer" and said.float_ops == []
    assert said.tflite_metadata.version == said.kd2mobile.student_fingerprint
    assert main_status(["inspect", str(file)]) == 0
    assert "Input: image float32 [1, 16, 16, 3]" in capsys.readouterr().out


def test_one_precision_does_not_become_the_only_one(run, recipe):
    assert main_status(["distill", "--recipe", str(recipe), "--epochs", "1", "--run", "runs/one"]) == 0
    assert main_status(["export", "--run", "runs/one", "--precision", "fp32"]) == 0
    assert main_status(["export", "--run", "runs/one", "--set", "export.precisions=['int8']"]) == 0
    assert main_status(["distill", "--recipe", str(recipe), "--epochs", "1", "--run", "runs/one"]) == 0
    measured = kd2mobile.benchmark("runs/one").records
    assert {r.precision for r in measured if r.role == "student"} == {"fp32", "int8"}


@pytest.fixture(scope="module")
def compressed(made, tmp_path_factory):
    """A run of its own with a pruned student, made by the command line; what a test does with it changes nothing."""
    pytest.importorskip("tensorflow_model_optimization")
    place = tmp_path_factory.mktemp("compressed") / "chain"
    shutil.copytree(made, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert main_status(["distill", "--recipe", "recipe.toml", "--run", "runs/squeezed"]) == 0
        how = ["--precision", "fp32,int8", "--compress", "none,prune", "--set", "compress.epochs=2"]
        assert main_status(["export", "--run", "runs/squeezed", *how]) == 0
        kd2mobile.benchmark("runs/squeezed")
        kd2mobile.report("runs/squeezed")
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
    assert main_status(["benchmark", "--run", str(compressed), "--json"]) == 0
    said = capsys.readouterr()
    assert "compress.epochs" not in said.err and "building" not in said.err


def test_the_next_export_says_the_author_again(run):
    file = run / "export" / "small_cnn-fp32.tflite"

    def exported(*more):
        assert main_status(["export", "--run", str(run), "--precision", "fp32", "--quiet", *more]) == 0
        return kd2mobile.inspect(file).tflite_metadata.author, sha256_of(file)

    nobody, first = exported()
    author, second = exported("--set", "export.author=Zoë")
    assert (nobody, author) == (None, "Zoë") and exported() == ("Zoë", second) != (None, first)
    kd2mobile.benchmark(run)
    assert exported("--set", "export.author=") == exported() == (None, first)


def test_the_smallest_file_within_a_drop_is_found(run, place, capsys):
    auto = ["export", "--run", str(run), "--precision", "auto", "--max-drop", "40", "--out", "app"]
    assert main_status(auto) == 0
    lines = capsys.readouterr().out.splitlines()
    rungs = [line for line in lines if " points of top-1 " in line or " refused: " in line]
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
    assert "--max-drop: must be given with --precision auto, got no --precision." in capsys.readouterr().err


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
    assert capsys.readouterr().err.startswith("--out: must be a folder, or a new one in an existing folder, got")


def test_a_file_in_the_way_is_refused_before_anything_is_made(recipe, place, capsys):
    waiting = start_run(compose(recipe, {"distill.seed": 7}), place / "runs" / "waiting", STORE)
    (place / "taken").mkdir()
    (place / "taken" / "small_cnn-fp32.tflite").write_bytes(b"other")
    assert main_status(["export", "--run", "runs/waiting", "--out", "taken"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("taken/small_cnn-fp32.tflite: must not exist yet, got a file of 5 bytes. ")
    assert not waiting.record.artifacts


def test_a_compression_that_is_known_to_fail_is_refused_before_anything_is_made(recipe, place, capsys):
    start_run(compose(recipe, {"student.name": "mobilenetv2_035", "student.input_px": 32}), place / "runs/v2", STORE)
    assert main_status(["export", "--run", "runs/v2", "--compress", "pcqat"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("export.compressions, pcqat: must be a compression that mobilenetv2_035 supports, got ")
    assert "13 GB" in message


def test_without_the_extra_its_installation_is_named(run, capsys, monkeypatch):
    from kd2mobile.backend import tensorflow_process

    found = tensorflow_process.find_spec
    monkeypatch.setattr(
        tensorflow_process, "find_spec", lambda name: None if name == "tensorflow_model_optimization" else found(name)
    )
    assert main_status(["export", "--run", str(run), "--compress", "cluster", "--precision", "fp32"]) == 2
    assert f"`{install_command('compress')}`" in capsys.readouterr().err.splitlines()[-1]


def test_what_no_file_can_be_made_with_is_refused(run, capsys):
    assert main_status(["export", "--run", str(run), "--set", "export.calibration_images=2"]) == 2
    message = "export.calibration_images: must be at least 3, one image per class, got 2. Use "
    assert capsys.readouterr().err.splitlines()[-1].startswith(message)
    assert main_status(["export", "--run", str(run), "--precision", "int8", "--keep-float", "logit"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert main_status(["export", "--run", str(run), "--precision", "fp32,fp16", "--keep-float", "logits"]) == 2
    without = "export.keep_float: must be given with the precision int8 (no effect on others), got fp32, "
    assert capsys.readouterr().err.splitlines()[-1].startswith(without + "fp16. Add int8 to --precision, or leave it")
    assert (
        "must be layers of the student" in said
        and "got 'logit'. Did you mean 'logits'? The layers with an op: " in said
    )


def test_export_names_the_layers_that_lose_most(run, capsys):
    assert main_status(["export", "--run", str(run)]) == 0
    said = capsys.readouterr().out.splitlines()
    worst = "small_cnn-int8.tflite: layers with the largest quantization errors: "
    heads = [f"{role}{worst}" for role in ("", "baseline-")]
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
    assert not made.per_tensor and made.made_from.transfer and made.made_from.split
    assert made.against_student.n == 30
