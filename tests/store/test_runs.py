import builtins
import json
import os
from pathlib import Path

import msgspec
import pytest

from kd2mobile.errors import ArtifactError, RecipeError
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.variants import Variant
from kd2mobile.store.run import newest_run, open_run, start_run


@pytest.fixture(autouse=True)
def _in_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def add_export(run, variant, export=None, compress=None):
    folder = run.store.root / "tflite" / f"{len(run.record.artifacts):016x}"
    run.add_export(
        variant, {f"student-{variant.name}": folder}, export or run.recipe.export, compress or run.recipe.compress
    )


@pytest.fixture
def accesses(monkeypatch):
    """Every time that a run.json is read or put in place, `read` or `write`, in order."""
    seen = []
    real_open, real_replace = builtins.open, os.replace

    def opened(path, mode="r", *rest, **how):
        if str(path).endswith("run.json"):
            assert mode == "rb", "it is written beside, then renamed"
            seen.append("read")
        return real_open(path, mode, *rest, **how)

    def replaced(source, target, **how):
        if str(target).endswith("run.json"):
            seen.append("write")
        return real_replace(source, target, **how)

    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(os, "replace", replaced)
    return seen


def test_a_run_reads_and_writes_its_record_once_per_change(tmp_path, accesses):
    run = start_run(compose(), tmp_path / "here", tmp_path / "store")
    assert accesses == ["write"]
    for number, name in enumerate(("fp32", "int8"), start=1):
        add_export(run, Variant.named(name))
        assert accesses[1:] == ["read", "write"] * number, "the reference and how it was made in one"
    add_export(run, Variant.named("int8"))
    accesses.clear()
    run.refer({"student-int8": run.artifacts["student-int8"]})
    assert accesses == ["read"], "nothing changed, nothing is written"
    run.export_of(Variant.named("int8")), run.artifacts, run.record.exported
    assert accesses == ["read"], "the record is held"
    accesses.clear()
    open_run(run.folder)
    assert accesses == ["read"]


def test_a_change_keeps_what_another_process_wrote_in_between(tmp_path):
    run = start_run(compose(), tmp_path / "here", tmp_path / "store")
    other = open_run(run.folder)
    add_export(run, Variant.named("int8"))
    add_export(other, Variant.named("fp32"))
    assert other.record.exported == ["fp32", "int8"] == open_run(run.folder).record.exported
    run.refer({"student": run.store.root / "student" / "0123456789abcdef"})
    assert run.record.exported == ["fp32", "int8"]


def test_a_run_keeps_its_recipe_and_the_newest_is_found(tmp_path):
    first = start_run(compose(), None, tmp_path / "store")
    second = start_run(compose(), None, tmp_path / "store")
    assert first.folder != second.folder and first.folder.name.endswith("-mobilenet025")
    record = json.loads((first.folder / "run.json").read_text())
    (first.folder / "run.json").write_text(json.dumps(record | {"created": "2100-01-01T00:00:00Z"}))
    assert newest_run() == first.folder
    assert open_run(None, tmp_path / "store").recipe == compose()


def test_later_tables_may_be_set_for_one_call_and_no_other(tmp_path):
    run = start_run(compose(), tmp_path / "here", tmp_path / "store")
    assert open_run(run.folder, settings={"export.precisions": ["int8"]}).recipe.export.precisions == ("int8",)
    assert open_run(run.folder).recipe == compose(), "the run's recipe stays as it was"
    with pytest.raises(
        RecipeError, match=r"here: must be a field of compress or export or benchmark for an existing run"
    ):
        open_run(run.folder, settings={"distill.temperature": 2})


def test_a_run_remembers_its_store_and_its_files(tmp_path):
    run = start_run(compose(), tmp_path / "here", tmp_path / "elsewhere" / "store")
    assert open_run(run.folder).store.root == tmp_path / "elsewhere" / "store"
    for name in ("qat-int8", "int8", "fp32", "int8"):
        add_export(run, Variant.named(name))
    assert run.record.exported == ["fp32", "int8", "qat-int8"]
    int8, fp16, qat = map(Variant.named, ("int8", "fp16", "qat-int8"))
    assert run.export_of(int8) == run.export_of(fp16) == (run.recipe.export, run.recipe.compress)
    add_export(run, int8, export=msgspec.structs.replace(run.recipe.export, per_tensor=True, keep_float=("conv",)))
    add_export(run, qat, compress=msgspec.structs.replace(run.recipe.compress, epochs=9))
    again = open_run(run.folder)
    assert (again.export_of(int8)[0].per_tensor, again.export_of(int8)[0].keep_float) == (True, ("conv",))
    assert again.export_of(qat)[1].epochs == 9 and again.export_of(fp16)[0] == run.recipe.export


def test_descriptions_of_the_model_are_kept_until_changed(tmp_path):
    start_run(compose(settings={"export.licence": "MIT"}), tmp_path / "here", tmp_path / "store")

    def reopened(**settings):
        run = open_run(tmp_path / "here", settings={f"export.{name}": value for name, value in settings.items()})
        run.describe()
        return run.recipe.export

    assert reopened(author="Zoë", per_tensor=True).per_tensor
    again = reopened()
    assert (again.author, again.licence, again.version, again.per_tensor) == ("Zoë", "MIT", None, False)
    assert reopened(version="3", author="Ada").author == "Ada" and reopened().version == "3"
    assert (
        reopened(author="", licence="Apache-2.0").author == "" == reopened().author
        and reopened().licence == "Apache-2.0"
    )
    assert reopened(licence="MIT").licence == "MIT" and "licence" not in open_run(tmp_path / "here").record.described


def test_a_damaged_run_is_reported_and_skipped(tmp_path, capsys):
    good = start_run(compose(), None, tmp_path / "store")
    bad = start_run(compose(), None, tmp_path / "store")
    (bad.folder / "run.json").write_text("{")
    assert newest_run() == good.folder
    assert "skipped" in capsys.readouterr().err
    with pytest.raises(
        ArtifactError, match="run.json: must be JSON in UTF-8, with finite numbers, got one that ends too early"
    ):
        open_run(bad.folder)


def test_a_folder_is_used_again_for_the_same_recipe_alone(tmp_path):
    start_run(compose(), tmp_path / "here", tmp_path / "store")
    assert start_run(compose(), tmp_path / "here", tmp_path / "store").folder == tmp_path / "here"
    start_run(compose(settings={"export.precisions": ["int8"]}), tmp_path / "here", tmp_path / "store")
    start_run(compose(settings={"label.workers": 3}), tmp_path / "here", tmp_path / "store")
    with pytest.raises(RecipeError, match=r"here: must hold a run of this recipe, got distill.seed: 1 here, 0 there"):
        start_run(compose(settings={"distill.seed": 1}), tmp_path / "here", tmp_path / "store")


def test_references_are_relative_so_that_both_folders_can_be_moved_together(tmp_path):
    run = start_run(compose(), tmp_path / "runs" / "x", tmp_path / "store")
    run.refer({"student": tmp_path / "store" / "student" / "ab"})
    assert run.record.artifacts == {"student": "../../store/student/ab"}


def test_a_missing_run_is_reported(tmp_path):
    with pytest.raises(ArtifactError, match=r"runs: must hold a run, got none. Make one with `kd2mobile distill`"):
        open_run(None, tmp_path)
    with pytest.raises(ArtifactError, match=r"gone: must hold a run"):
        open_run(tmp_path / "gone", tmp_path)


def test_a_run_without_artifacts_is_not_the_newest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = start_run(compose(), Path("runs/good"), Path("store"))
    good.refer({"student": Path("store/student/0123")})
    good.forget()
    refused = start_run(compose(), Path("runs/refused"), Path("store"))
    (refused.folder / "notes.txt").touch()
    refused.forget()
    assert newest_run() == Path("runs/good") and (good.folder / "recipe.toml").is_file()
    assert [path.name for path in refused.folder.iterdir()] == ["notes.txt"]
