import errno
import json
import subprocess
import sys

import pytest

from kd2mobile.errors import ArtifactError
from kd2mobile.files import disk_errors
from kd2mobile.store import artifact
from kd2mobile.store.artifact import RECORD, Step, Store, damaged_files
from kd2mobile.store.differences import differences, why_missing


def step(temperature=2.0, text="made", inputs=None, build=None, log=None):
    def write(folder, inputs):
        if log is not None:
            log.append(temperature)
        (folder / "a.txt").write_text(text)
        return {"length": len(text)}

    return Step("letters", 1, {"temperature": temperature}, inputs or {}, build or write)


def test_an_artifact_is_built_once_and_then_reused(tmp_path, capsys):
    log = []
    store = Store(tmp_path)
    made = store.make(step(log=log))
    again = Store(tmp_path).make(step(log=log))
    assert log == [2.0]
    assert made.folder == again.folder == tmp_path / "letters" / step().fingerprint
    assert again.results == {"length": 4}
    assert "building" in capsys.readouterr().err


def test_a_change_builds_a_new_artifact_and_reports_the_difference(tmp_path, capsys):
    first = Store(tmp_path).make(step(2.0))
    assert "(first build)" in capsys.readouterr().err
    second = Store(tmp_path).make(step(4.0))
    assert first.folder != second.folder and first.folder.exists()
    assert (
        "(no artifact with these settings; the nearest differs in temperature: 4.0 here, 2.0 there)"
        in capsys.readouterr().err
    )


def test_artifacts_of_the_same_command_are_not_compared(tmp_path, capsys):
    store = Store(tmp_path)
    store.make(step(2.0))
    store.make(step(4.0))
    assert capsys.readouterr().err.count("(first build)") == 2


def split_of(content, seed=0, **more):
    return {"split": Step("split", 1, {"content": content, "seed": seed} | more, {}, lambda folder, inputs: {})}


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (split_of("bb"), "first build"),
        (split_of("aa", seed=1), "no artifact with these settings; the nearest differs in split.seed: 0 here, 1 there"),
        ({**split_of("aa"), "more": Step("split", 1, {"unlabelled": "cc"}, split_of("aa"), lambda *_: {})},
         "no artifact with these settings; the nearest differs in more: there alone"),
        ({"split": Step("split", 1, {"unlabelled": "cc"}, split_of("aa"), lambda *_: {})}, "first build"),
    ],
    ids=["other images", "another split", "unlabelled ones too", "the unlabelled ones alone"],
)  # fmt: skip
def test_the_nearest_is_of_the_same_images(there, why):
    assert why_missing(step(inputs=split_of("aa")).spec, [step(inputs=there).spec]) == why


def test_images_of_another_name_are_not_near():
    named = {name: Step("source", 1, {"name": name}, {}, lambda *_: {}).spec for name in ("digits", "mnist")}
    assert why_missing(named["mnist"], [named["digits"]]) == "first build"


def test_another_teacher_of_the_same_images_is_near():
    teachers = [
        Step("teacher", 1, {"name": name}, split_of("aa"), lambda *_: {}).spec for name in ("vgg16", "xception")
    ]
    assert why_missing(teachers[0], teachers[1:]).endswith("differs in name: 'vgg16' here, 'xception' there")


def test_a_missing_input_is_built_only_when_needed(tmp_path):
    log = []
    inner = Step("sent", 1, {}, {}, lambda folder, inputs: log.append("transfer") or {})
    outer = step(inputs={"transfer": inner}, log=log)
    Store(tmp_path).make(outer)
    assert log == ["transfer", 2.0]
    (tmp_path / "sent" / inner.fingerprint).rename(tmp_path / "gone")
    Store(tmp_path).make(outer)
    assert log == ["transfer", 2.0], "an artifact that stands needs no inputs"


def test_a_version_or_an_input_changes_the_fingerprint():
    base = step()
    assert base.fingerprint == step().fingerprint
    assert base.fingerprint != step(2.5).fingerprint
    assert base.fingerprint != step(inputs={"x": step()}).fingerprint
    assert step(inputs={"x": step()}).fingerprint != step(inputs={"x": step(3.0)}).fingerprint
    assert base.fingerprint != Step("letters", 2, {"temperature": 2.0}, {}, base.build).fingerprint


def test_a_failed_build_leaves_no_artifact_and_the_next_resumes(tmp_path, capsys):
    def broken(folder, inputs):
        (folder / "shard-0").write_text("kept")
        raise RuntimeError("killed")

    store = Store(tmp_path)
    with pytest.raises(RuntimeError):
        store.make(step(build=broken))
    assert not store.folder(step()).exists()
    seen = []
    Store(tmp_path).make(step(build=lambda folder, inputs: seen.append((folder / "shard-0").read_text()) or {}))
    assert seen == ["kept"]
    assert "resuming an interrupted build" in capsys.readouterr().err


def test_a_damaged_file_is_built_again_and_reported(tmp_path, capsys):
    def shards(folder, inputs):
        for name in ("0.npy", "1.npy"):
            if not (folder / name).exists():
                (folder / name).write_text(name)
                made.append(name)
        return {}

    made = []
    folder = Store(tmp_path).make(step(build=shards)).folder
    (folder / "1.npy").write_text("rot")
    Store(tmp_path).make(step(build=shards))
    assert made == ["0.npy", "1.npy", "1.npy"], "the shard that is whole stays"
    assert "1.npy: its checksum differs; rebuilding it" in capsys.readouterr().err
    assert (folder / "1.npy").read_text() == "1.npy"


def test_a_stale_artifact_given_by_hand_is_refused_with_the_fields(tmp_path):
    inner = {"split": Step("first", 1, {"seed": 0}, {}, lambda folder, inputs: {})}
    other = {"split": Step("first", 1, {"seed": 1}, {}, lambda folder, inputs: {})}
    folder = Store(tmp_path / "there").make(step(2.0, inputs=inner)).folder
    with pytest.raises(ArtifactError) as caught:
        Store(tmp_path / "here").adopt(step(4.0, inputs=other), folder)
    message = str(caught.value)
    assert "must be the letters of this recipe" in message
    assert "temperature: 4.0 here, 2.0 there" in message and "split.seed: 1 here, 0 there" in message


def test_an_artifact_given_by_hand_is_used_in_place_of_a_built_one(tmp_path):
    folder = Store(tmp_path / "there").make(step()).folder
    here = Store(tmp_path / "here")
    here.adopt(step(), folder)
    assert Store(tmp_path / "here").make(step()).folder == tmp_path / "here" / "letters" / step().fingerprint
    (folder / "a.txt").write_text("rot")
    with pytest.raises(ArtifactError, match=r"must be undamaged, got damaged a.txt"):
        Store(tmp_path / "here").adopt(step(), folder)
    with pytest.raises(ArtifactError, match=r"must be the folder of a letters artifact, got no record.json"):
        here.adopt(step(), tmp_path)


def test_the_record_says_how_the_artifact_was_made(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    record = json.loads((Store(tmp_path).make(step()).folder / RECORD).read_text())
    assert record["spec"] == step().spec
    assert record["files"]["a.txt"]["bytes"] == 4
    assert {"kd2mobile", "python", "platform", "packages", "environment"} == record["made_with"].keys()
    assert record["made_with"]["environment"]["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_a_full_disk_is_reported(tmp_path):
    def full(folder, inputs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ArtifactError, match=r"must have room to write, got no space left on .* [MGT]B free\. Free"):
        Store(tmp_path).make(step(build=full))
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "another error stays itself")


def test_several_are_built_by_one_call_and_only_the_missing(tmp_path):
    calls = []

    def together(building):
        calls.append([s.config["temperature"] for s in building.steps])
        for s, folder in zip(building.steps, building.folders, strict=True):
            building.commit(s, s.build(folder, building.inputs))

    store = Store(tmp_path)
    store.make(step(1.0))
    made = store.make_together([step(1.0), step(2.0), step(3.0)], together)
    assert calls == [[2.0, 3.0]]
    assert [m.record["spec"]["config"]["temperature"] for m in made] == [1.0, 2.0, 3.0]


BUILDER = """
import sys
from pathlib import Path
from kd2mobile.store.artifact import Step, Store
def build(folder, inputs):
    print("building", flush=True)
    sys.stdin.readline()
    return {}
Store(Path(sys.argv[1])).make(Step("letters", 1, {}, {}, build))
"""


def test_two_processes_build_it_once(tmp_path):
    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([sys.executable, "-c", BUILDER, str(tmp_path)], **pipes)

    with start() as first:
        assert first.stdout.readline() == "building\n"
        with start() as second:
            assert "another process is building" in second.stderr.readline()
            first.communicate("go on\n")
            assert second.communicate("go on\n")[0] == ""
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_failed_step_does_not_affect_the_others(tmp_path):
    def together(building):
        first = building.steps[0]
        building.commit(first, first.build(building.folders[0], building.inputs))
        raise RuntimeError("the second one fails")

    store = Store(tmp_path)
    with pytest.raises(RuntimeError):
        store.make_together([step(1.0), step(2.0)], together)
    assert Store(tmp_path).find(step(1.0)) and not Store(tmp_path).find(step(2.0))


def test_a_folder_without_its_record_is_resumed(tmp_path, capsys):
    folder = Store(tmp_path).make(step()).folder
    (folder / RECORD).unlink()
    assert Store(tmp_path).make(step()).folder == folder
    assert "unfinished" in capsys.readouterr().err


def test_another_stages_artifact_given_by_hand_is_refused(tmp_path):
    folder = Store(tmp_path / "there").make(step()).folder
    other = Step("sent", 1, {}, {}, lambda folder, inputs: {})
    with pytest.raises(ArtifactError, match="must be the folder of a sent artifact, got a letters artifact"):
        Store(tmp_path / "here").adopt(other, folder)


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="must be (a folder|free), got (not a directory|file exists)"):
        Store(tmp_path / "file").make(step())


def test_differences_name_the_field():
    assert differences({"a": {"b": 1}}, {"a": {"b": 2}}) == ["a.b: 1 here, 2 there"]
    assert differences({"a": 1}, {}) == ["a: 1 here, None there"]


def test_an_unreadable_record_is_reported(tmp_path):
    folder = Store(tmp_path).make(step()).folder
    (folder / RECORD).write_text("{")
    with pytest.raises(
        ArtifactError, match=r"record\.json: must be JSON in UTF-8.*, got one that ends too early\. Remove"
    ):
        Store(tmp_path).find(step())
    (folder / RECORD).write_text("[]")
    with pytest.raises(ArtifactError, match=r"record\.json: must be an object, got a list of 0\. Copy it again"):
        Store(tmp_path).adopt(step(), folder)


def test_large_artifacts_are_checked_with_a_bar(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact, "SLOW_TO_HASH_BYTES", 1)
    folder = Store(tmp_path).make(step()).folder
    (folder / "a.txt").write_text("rot")
    assert Store(tmp_path).find(step()) is None


DAMAGED = """
import sys
from pathlib import Path
from kd2mobile.store.artifact import Step, Store
def build(folder, inputs):
    for name in "abcdefgh":
        if not (folder / name).exists():
            (folder / name).write_text(name)
    return {}
step = Step("letters", 1, {}, {}, build)
assert not [name for name in "abcdefgh" if (Store(Path(sys.argv[1])).make(step).folder / name).read_text() != name]
"""


def test_several_processes_repair_a_damaged_artifact(tmp_path):
    def run(count):
        running = [subprocess.Popen([sys.executable, "-c", DAMAGED, str(tmp_path)], stderr=-1) for _ in range(count)]
        assert [(one.communicate()[1], one.returncode)[1] for one in running] == [0] * count

    run(1)
    (folder,) = (tmp_path / "letters").glob("[!.]*")
    for _ in range(3):
        (folder / "c").write_text("rot")
        (folder / "e").unlink()
        run(4)


def test_a_given_artifact_replaces_a_damaged_or_unfinished_one(tmp_path):
    there = Store(tmp_path / "there").make(step()).folder
    here = Store(tmp_path / "here").make(step()).folder
    (here / "a.txt").write_text("rot")
    assert not damaged_files(Store(tmp_path / "here").adopt(step(), there))
    (here / RECORD).unlink()
    assert not damaged_files(Store(tmp_path / "here").adopt(step(), there))
