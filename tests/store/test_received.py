"""Stores and runs that somebody else made: read, or refused in one line, and nothing of ours is touched by them."""

import json
import random
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from kd2mobile.api.export import exported_variants
from kd2mobile.api.inspect import records_beside
from kd2mobile.api.start import composed
from kd2mobile.data.split import read_split
from kd2mobile.errors import ArtifactError, Kd2MobileError, RecipeError
from kd2mobile.pages.terminal.inspect import record_text
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.variants import Variant
from kd2mobile.store.artifact import RECORD, Step, Store, damaged_files, fingerprint_of, read_artifact
from kd2mobile.store.run import open_run, start_run

PUBLISHED = Path(__file__).parents[2] / "models" / "mobilenet025-digits-int8"

SHA256 = "0" * 64
TRAINED = {"best_epoch": 1, "epochs_run": 2, "val_top1": 0.5, "val_logloss": 1.0, "seconds": 0.1}
MADE = {
    "source": (["images/cat/1.png"], {}),
    "split": (["split.json", "groups.json"], {"train": 3, "skipped": 0}),
    "thumbnails": (["thumbnails-00000.npy"], {"contents": 3}),
    "views": (["train.npy", "val.npy"], {"train": 3}),
    "teacher": (["teacher.json", "teacher.keras"], {"name": "mine", "classes": ["a", "b"]}),
    "transfer": (["train-00000.npy", "val-00000.npy"], {"val": {"n": 3, "top1": 0.5, "logloss": 1.0}}),
    "pixels": (["train-00000.npy"], {}),
    "student": (
        ["student.keras", "history.jsonl"],
        TRAINED | {"images_per_s": 9.0, "parameters": 5, "trainable_parameters": 4},
    ),
    "compressed": (
        ["student.keras"],
        TRAINED | {"before": {"val_top1": 0.5, "val_logloss": 1.0}, "twin_difference": 0.0},
    ),
    "tflite": (
        ["small-int8.tflite"],
        {
            "precision": "int8",
            "compression": "none",
            "file": "small-int8.tflite",
            "size_bytes": 4,
            "sha256": SHA256,
            "parity": {"n": 3, "agreement": 1.0},
        },
    ),
}
"""The files and the results of each stage."""
HOSTILE = [None, True, -1, 2**70, 1e308, "", "../../x", "/etc/passwd", "a\0b", [], ["x"], {}, {"x": {"x": []}}]


def variants(value):
    """The JSON with each field in turn left out or of another type."""
    yield from HOSTILE
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
            for changed in variants(value[key]):
                yield value | {key: changed}


def step_of(stage, seed=0):
    files, results = MADE[stage]

    def build(folder, inputs):
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("made")
        return results

    return Step(stage, 1, {"seed": seed}, {"first": Step("first", 1, {}, {}, lambda *_: {})}, build)


@pytest.fixture
def mine(tmp_path):
    """A file outside the store, which must stay."""
    (tmp_path / "mine").write_text("mine")
    yield tmp_path / "mine"
    assert (tmp_path / "mine").read_text() == "mine"


def made(tmp_path, stage):
    folder = Store(tmp_path / "store").make(step_of(stage)).folder
    return folder, json.loads((folder / RECORD).read_text())


def found(tmp_path, stage, record=None):
    """What a new process finds where the record was written anew."""
    folder = Store(tmp_path / "store").folder(step_of(stage))
    if record is not None:
        (folder / RECORD).write_text(json.dumps(record))
    return Store(tmp_path / "store").find(step_of(stage))


@pytest.mark.parametrize("stage", MADE)
def test_a_record_is_that_of_its_folder_or_refused(tmp_path, stage):
    folder, record = made(tmp_path, stage)
    assert found(tmp_path, stage).folder == folder
    (other,) = [s for s in MADE if s == ("split" if stage != "split" else "views")]
    spec = record["spec"] | {"config": {"seed": 1}}
    for wrong, message in [
        ({"fingerprint": "0" * 16}, r"record\.json: fingerprint: must be "),
        ({"spec": spec}, r"record\.json: fingerprint: must be "),
        ({"spec": spec, "fingerprint": fingerprint_of(spec)}, r"record\.json: fingerprint: must be "),
        ({"stage": other}, r"record\.json: spec\.stage: must be "),
        ({"stage": other, "spec": record["spec"] | {"stage": other}}, r"record\.json: fingerprint: must be "),
        ({"files": {}}, rf"record\.json: files: must list .*, which each {stage} has, got none\. Remove"),
    ]:
        with pytest.raises(ArtifactError, match=message):
            found(tmp_path, stage, record | wrong)
    for name in record["files"]:
        less = {other: known for other, known in record["files"].items() if other != name}
        with pytest.raises(
            ArtifactError, match=r"must list .*, got none|must hold the files of its record\.json alone"
        ):
            found(tmp_path, stage, record | {"files": less})
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == sorted(
        [RECORD, *(name.rpartition("/")[2] for name in record["files"])]
    ), "nothing was removed"


@pytest.mark.parametrize("stage", MADE)
def test_an_extra_file_is_refused_and_a_missing_one_built_again(tmp_path, stage, capsys):
    folder, record = made(tmp_path, stage)
    (folder / ".DS_Store").touch()
    (folder / "more.npy").touch()
    with pytest.raises(
        ArtifactError, match=r"must hold the files of its record\.json alone, got more\.npy too\. Remove"
    ):
        found(tmp_path, stage)
    (folder / "more.npy").unlink()
    name = list(record["files"])[-1]
    (folder / name).unlink()
    assert found(tmp_path, stage) is None
    again = Store(tmp_path / "store").make(step_of(stage))
    assert f"{name}: its checksum differs; rebuilding it" in capsys.readouterr().err
    assert not damaged_files(again) and (folder / name).read_text() == "made"


@pytest.mark.parametrize("stage", MADE)
def test_a_record_with_any_field_of_any_type_is_read_or_refused(tmp_path, stage, mine):
    _, record = made(tmp_path, stage)

    for changed in variants(record):
        try:
            found(tmp_path, stage, changed)
        except Kd2MobileError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["../../../mine", "sub/../../../../mine", "link", "links/mine", "a\0b", "."])
def test_a_name_in_a_record_that_leads_elsewhere_deletes_and_reads_nothing(tmp_path, mine, name):
    folder, record = made(tmp_path, "student")
    (folder / "link").symlink_to(mine)
    (folder / "links").symlink_to(tmp_path)
    for files in ({name: {"bytes": 1, "sha256": SHA256}}, {str(mine): {"bytes": 4, "sha256": SHA256}}):
        sent = record | {"files": record["files"] | files}
        with pytest.raises(ArtifactError, match=r"must be (the name of )?a file inside its folder"):
            found(tmp_path, "student", sent)
        with pytest.raises(ArtifactError, match=r"must be (the name of )?a file inside its folder"):
            Store(tmp_path / "here").adopt(step_of("student"), folder)


def test_a_given_set_is_copied_without_what_lies_beside_and_without_links(tmp_path, mine):
    there = Store(tmp_path / "there").make(step_of("transfer")).folder.rename(tmp_path / "given")
    (there / ".hidden").write_text("x")
    copied = Store(tmp_path / "here").adopt(step_of("transfer"), there)
    assert sorted(path.name for path in copied.folder.iterdir()) == [RECORD, "train-00000.npy", "val-00000.npy"]
    (there / "train-00000.npy").unlink()
    (there / "train-00000.npy").symlink_to(copied.folder / "train-00000.npy")
    with pytest.raises(ArtifactError, match="must be a file inside its folder, not a link"):
        Store(tmp_path / "other").adopt(step_of("transfer"), there)
    (there / RECORD).rename(tmp_path / "elsewhere")
    (there / RECORD).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="must be a file, not a link"):
        Store(tmp_path / "other").adopt(step_of("transfer"), there)


def test_the_message_on_an_incomplete_given_set_promises_no_rebuild(tmp_path):
    there = Store(tmp_path / "there").make(step_of("transfer")).folder.rename(tmp_path / "given")
    record = json.loads((there / RECORD).read_text())
    for sent in ([], {}, record | {"fingerprint": "0" * 16}, record | {"files": {}}, record | {"results": {"val": 1}}):
        (there / RECORD).write_text(json.dumps(sent))
        with pytest.raises(ArtifactError, match=r"Copy it again from where it was made\.$"):
            Store(tmp_path / "here").adopt(step_of("transfer"), there)
    assert there.is_dir() and not (tmp_path / "here" / "transfer").exists()


def test_a_file_of_a_tflite_that_its_record_does_not_list_is_refused(tmp_path, mine):
    _, record = made(tmp_path, "tflite")
    for name in ("../../../mine", "other.tflite"):
        with pytest.raises(ArtifactError, match=r"results\.file: must be a file of the artifact"):
            found(tmp_path, "tflite", record | {"results": record["results"] | {"file": name}})


def test_nothing_is_deleted_or_written_through_a_link_of_the_store(tmp_path, mine):
    folder, _ = made(tmp_path, "student")
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    assert found(tmp_path, "student").results == MADE["student"][1], "what is whole may be a link"
    (tmp_path / "outside" / "student.keras").write_text("other")
    with pytest.raises(ArtifactError, match=r"must be a folder to be repaired, got a link"):
        Store(tmp_path / "store").make(step_of("student"))
    assert (tmp_path / "outside" / "student.keras").read_text() == "other"
    folder.unlink()
    (partial := folder.with_name(f".{folder.name}.partial")).mkdir()
    (partial / "student.keras").symlink_to(mine)
    with pytest.raises(ArtifactError, match=r"student\.keras: must be a file of the store itself, got a link\. Remove"):
        Store(tmp_path / "store").make(step_of("student"))


def test_a_stage_folder_that_is_a_link_is_read_but_not_written_through(tmp_path):
    folder, _ = made(tmp_path, "student")
    (outside := tmp_path / "outside" / "student").parent.mkdir()
    (stage := folder.parent).rename(outside)
    stage.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    assert found(tmp_path, "student").results == MADE["student"][1]
    with pytest.raises(ArtifactError) as error:
        Store(tmp_path / "store").make(step_of("student", seed=1))
    assert str(error.value) == (
        f"{stage}: must be a folder of the store itself to be written to, got a link. Put the folder in its place, or "
        "link the whole store instead."
    )
    with pytest.raises(ArtifactError, match="must be a folder of the store itself"):
        Store(tmp_path / "store").adopt(step_of("student", seed=1), copy_of(tmp_path, step_of("student", seed=1)))
    assert sorted(outside.rglob("*")) == before
    (tmp_path / "whole").symlink_to(tmp_path / "store2")
    (tmp_path / "store2").mkdir()
    assert Store(tmp_path / "whole").make(step_of("student")).folder.is_dir(), "the user names the store"


def test_a_link_to_nothing_in_an_artifacts_place_is_refused_before_the_build(tmp_path):
    folder, _ = made(tmp_path, "student")
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path / "nothing")
    step = step_of("student")
    with pytest.raises(ArtifactError, match=r"must be a folder to be repaired, got a link to a folder that lacks rec"):
        Store(tmp_path / "store").make(step)
    assert not folder.with_name(f".{folder.name}.partial").exists() and not (tmp_path / "nothing").exists()


def copy_of(tmp_path, step):
    """The step's artifact, made in another store."""
    return Store(tmp_path / "another").make(step).folder


def test_an_unreadable_neighbour_does_not_affect_the_others(tmp_path):
    folder, _ = made(tmp_path, "split")
    (folder / RECORD).write_text("[" * 10_000)
    assert Store(tmp_path / "store").make(step_of("split", seed=1)).folder.is_dir()
    with pytest.raises(ArtifactError, match="must be nested at most 64 levels deep"):
        read_artifact(folder)


@pytest.mark.parametrize("stage", MADE)
def test_bytes_of_a_record_that_changed_are_read_or_refused(tmp_path, stage):
    folder, record = made(tmp_path, stage)
    whole = json.dumps(record | {"finished": "", "seconds": 0, "made_with": {}}).encode()
    chance = random.Random(stage)
    for _ in range(100):
        stored = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(stored))
            stored[place : place + chance.randint(0, 9)] = chance.randbytes(chance.randint(0, 9))
        (folder / RECORD).write_bytes(stored)
        try:
            damaged_files(read_artifact(folder))
        except Kd2MobileError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("label", [-2, 1, 2**40])
def test_a_split_whose_labels_name_no_class_is_refused(tmp_path, label):
    sample = {"path": "a.png", "label": label, "split": "train", "sha256": SHA256, "width": 8, "height": 8}
    (tmp_path / "split.json").write_text(json.dumps({"classes": ["cat"], "samples": [sample]}))
    with pytest.raises(ArtifactError, match=r"samples\[0\]\.label: must be one of the 1 classes, got"):
        read_split(tmp_path)
    (tmp_path / "split.json").write_text(json.dumps({"classes": ["cat"], "samples": [sample | {"label": -1}]}))
    assert read_split(tmp_path).samples[0].label == -1


# --- published models


@pytest.mark.parametrize("part", ["export", "benchmark", None])
def test_a_model_is_inspected_whatever_its_record_says(tmp_path, part):
    model = tmp_path / "model.tflite"
    shutil.copyfile(PUBLISHED / "model.tflite", model)
    whole = json.loads((PUBLISHED / "record.json").read_text())
    record = {"export": whole["export"], "benchmark": whole["benchmark"]}
    for changed in variants(record if part is None else record[part]):
        (tmp_path / RECORD).write_text(json.dumps(changed if part is None else record | {part: changed}))
        found = records_beside(model, whole["export"]["sha256"])
        assert all("\n" not in note for note in found[2])
        shown = SimpleNamespace(record=found[0], benchmark=found[1])
        assert record_text(shown)


# --- runs


def a_run(tmp_path):
    run = start_run(compose(), tmp_path / "run", tmp_path / "store")
    run.refer({"split": Store(tmp_path / "store").make(step_of("split")).folder})
    run.add_export(Variant.named("int8"), {}, run.recipe.export, run.recipe.compress)
    return run, json.loads((run.folder / "run.json").read_text())


def test_a_run_with_any_field_of_any_type_is_read_or_refused(tmp_path, mine):
    run, record = a_run(tmp_path)

    for changed in variants(record):
        (run.folder / "run.json").write_text(json.dumps(changed))
        try:
            opened = open_run(run.folder)
            opened.artifact("split")
            for variant in exported_variants(opened):
                opened.export_of(variant)
        except Kd2MobileError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("reference", ["../../../etc", "..", "", "split/../../x", "split/0123", "odd/0123456789abcdef"])
def test_a_reference_ends_in_a_stage_and_a_fingerprint(tmp_path, reference):
    run, record = a_run(tmp_path)
    (run.folder / "run.json").write_text(json.dumps(record | {"artifacts": {"split": reference}}))
    with pytest.raises(
        ArtifactError, match=r"run\.json: artifacts\.split: must end in a stage and a fingerprint, got "
    ):
        open_run(run.folder).artifact("split")


def test_a_reference_always_refers_to_the_runs_own_store(tmp_path):
    run, record = a_run(tmp_path)
    name = Store(tmp_path / "store").folder(step_of("split")).name
    elsewhere = json.dumps(record | {"artifacts": {"split": f"/somewhere/else/split/{name}"}})
    (run.folder / "run.json").write_text(elsewhere)
    assert open_run(run.folder).artifact("split").folder == tmp_path / "store" / "split" / name
    with pytest.raises(ArtifactError, match="must be in the store, got no such artifact"):
        open_run(run.folder, tmp_path / "another").artifact("split")


def test_a_store_that_a_run_names_is_a_store_or_new(tmp_path, mine):
    run, record = a_run(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    (run.folder / "run.json").write_text(json.dumps(record | {"store": "../photos"}))
    with pytest.raises(ArtifactError, match=r"run\.json: store: must be a store of artifacts, or a new folder, got "):
        open_run(run.folder)
    assert open_run(run.folder, tmp_path / "store").artifact("split")
    for store in ("../new", "../store"):
        (run.folder / "run.json").write_text(json.dumps(record | {"store": store}))
        open_run(run.folder)


def test_folders_of_a_run_that_are_links_are_refused(tmp_path):
    run, _ = a_run(tmp_path)
    for name in ("export", "measurements"):
        (run.folder / name).symlink_to(tmp_path)
        with pytest.raises(ArtifactError, match=rf"{name}: must be a folder of the run itself, got a link\. Remove"):
            open_run(run.folder)
        (run.folder / name).unlink()


@pytest.mark.parametrize("left", ["", "[data]\n", None, "[distill]\ntemperature = 9.0\n"])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_recipe_that_is_not_the_runs_is_refused(tmp_path, left, hashed):
    run, record = a_run(tmp_path)
    recipe = run.folder / "recipe.toml"
    whole = recipe.read_text()
    if not hashed:
        record["recipe_sha256"] = None
        (run.folder / "run.json").write_text(json.dumps(record))
    assert open_run(run.folder).recipe == run.recipe
    for cut in [left] if left is None else [left, whole[: len(whole) // 2]]:
        recipe.unlink(missing_ok=True)
        if cut is not None:
            recipe.write_text(cut)
        with pytest.raises(
            RecipeError, match=r"recipe\.toml: must be (the recipe with which the run was started|TOML)"
        ):
            open_run(run.folder)
        with pytest.raises(RecipeError):
            start_run(compose(), run.folder, tmp_path / "store")


@pytest.mark.parametrize("text", ["", "# only this\n"])
def test_a_recipe_without_a_table_does_not_start_the_demo(tmp_path, text):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(RecipeError, match=r"r\.toml: must have at least one table, such as \[data\], got none\."):
        composed(tmp_path / "r.toml", None, {})


@pytest.mark.parametrize("theirs", ["[distill]\nseed = 3\n", ""])
def test_a_new_run_does_not_write_over_a_recipe_in_its_folder(tmp_path, theirs):
    (tmp_path / "recipe.toml").write_text(theirs)
    with pytest.raises(RecipeError, match=r"recipe\.toml: must be free for the recipe of the new run, got "):
        start_run(compose(tmp_path / "recipe.toml"), tmp_path, tmp_path / "store")
    assert (tmp_path / "recipe.toml").read_text() == theirs
    run = start_run(compose(), tmp_path / "run", tmp_path / "store")
    (tmp_path / "run" / "run.json").unlink()  # as a kill leaves it
    assert start_run(compose(), tmp_path / "run", tmp_path / "store").recipe == run.recipe


def test_changes_of_two_processes_at_once_are_all_kept(tmp_path):
    run, _ = a_run(tmp_path)

    def note(number):
        for place in range(10):
            run.refer({f"{number}-{place}": tmp_path / "store" / "split" / f"{number:08x}{place:08x}"})

    threads = [threading.Thread(target=note, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(run.artifacts) == 41


def test_two_runs_that_start_in_one_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = []
    threads = [
        threading.Thread(target=lambda: runs.append(start_run(compose(), None, tmp_path / "store"))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run.folder for run in runs}) == 6
