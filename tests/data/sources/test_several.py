"""Several folders and tables for one split: nothing lost, nothing confused, and one folder as it always was."""

import hashlib
import os
import shutil

import msgspec
import pytest

import kd2mobile
from kd2mobile.api.results import Labelled, as_json
from kd2mobile.cli.commands import main_status
from kd2mobile.data.sources.find import find_images
from kd2mobile.data.sources.roots import Joined, absolute
from kd2mobile.data.split import read_split
from kd2mobile.data.splits.splitting import split_images, split_unlabelled
from kd2mobile.errors import DataError
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.schema import Data
from kd2mobile.recipe.toml import write_recipe
from kd2mobile.stages.plan import plan_splits
from kd2mobile.store.artifact import Store, fingerprint_of


@pytest.fixture
def make_folder(tmp_path, monkeypatch, image):
    """make_folder(folder, class=count, ...) makes images `class/0.png`, ..., other ones in each folder."""
    monkeypatch.chdir(tmp_path)

    def make(folder, **counts):
        for name, count in counts.items():
            for number in range(count):
                seed = int.from_bytes(hashlib.sha256(f"{folder}/{name}/{number}".encode()).digest()[:4])
                image(tmp_path / folder / name / f"{number}.png", seed)
        return tmp_path / folder

    return make


def table(file, rows):
    file.write_text("\n".join([",".join(("path", "label", "split")[: rows[0].count(",") + 1]), *rows]))
    return file


def contents(found):
    """Each id with the SHA-256 of the file that it leads to, which must be the one that was scanned."""
    led = {p.path: hashlib.sha256((found.root / p.path).read_bytes()).hexdigest() for p in found.scan.images}
    assert led == {p.path: p.sha256 for p in found.scan.images} and len(led) == len(found.scan.images)
    return led


GOLDEN = {
    "folder": "5f425a5ceffb9a9a",
    "folder with splits": "81e68eb19afb7ceb",
    "table": "47b08b76a998268d",
    "table with splits": "884d110a78d9a1df",
    "folders apart": "538e766a3e18864a",
    "table and folders apart": "1c109b5efa915f63",
    "folder with splits and one apart": "a01830259067cba5",
    "table with splits and a folder apart": "3b8914f23525747f",
    "unlabelled": "35f20de0991d149b",
}
"""Fingerprints of the stage `split` as the code gave them before it knew of several folders (commit 575e118): a
step then had its content and the draw's settings alone."""


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("folder", {"source": "photos"}),
        ("folder", {"source": ["photos"]}),
        ("folder with splits", {"source": "given"}),
        ("table", {"source": "plain.csv"}),
        ("table with splits", {"source": "split.csv"}),
        ("folders apart", {"source": "photos", "test_source": "given/test"}),
        ("table and folders apart", {"source": "plain.csv", "test_source": "given/test", "val_source": "photos"}),
        ("folder with splits and one apart", {"source": "given", "val_source": "photos"}),
        ("table with splits and a folder apart", {"source": "split.csv", "val_source": ["photos"]}),
        ("unlabelled", {"source": "photos", "unlabelled": "loose"}),
        ("unlabelled", {"source": ["photos"], "unlabelled": ["loose"]}),
    ],
)
def test_the_content_hash_of_one_folder_is_unchanged(name, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = [f"photos/{label}/{i}.png,{label}" for label in ("cat", "dog") for i in range(3)]
    halves = [(split, label, i) for split in ("train", "test") for label in ("cat", "dog") for i in range(2)]
    split = [f"given/{split}/{label}/{split}{i}.png,{label},{split}" for split, label, i in halves]
    for file in [row.partition(",")[0] for row in plain + split] + ["loose/a.png", "loose/deep/b.png"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(file.rpartition("/")[2])
    for file, rows in {"plain.csv": plain, "split.csv": split}.items():
        (tmp_path / file).write_text("\n".join(["path,label,split" if rows is split else "path,label", *rows]))
    composed = compose(settings={f"data.{field}": value for field, value in data.items()})
    (found, _), *more = plan_splits(composed, Store(tmp_path / "store"))
    drawn = {"content": found.scan.content, "val": 0.1, "test": 0.2, "seed": 0}
    spec = {"stage": "split", "version": 1, "config": drawn, "inputs": {}}
    for unlabelled, _ in more:
        spec = spec | {"config": {"unlabelled": unlabelled.scan.content}, "inputs": {"split": spec}}
    assert fingerprint_of(spec) == GOLDEN[name]


def test_classes_of_the_same_name_are_merged_and_no_two_files_share_an_id(make_folder, tmp_path):
    folders = [make_folder("a", cat=6, dog=5), make_folder("of a friend", dog=4, bird=3), make_folder("c", owl=3)]
    found = find_images({"train": folders})
    assert found.scan.classes == ["bird", "cat", "dog", "owl"] and found.scan.given == []
    led = contents(found)
    assert len(led) == len(set(led.values())) == 21, "a/dog/0.png and of a friend/dog/0.png are two images"
    assert {"1/dog/0.png", "2/dog/0.png", "3/owl/2.png"} <= led.keys()
    results = split_images(tmp_path / "split", found.root, found.scan, Data())
    assert (results["train"] + results["val"] + results["test"], results["classes"]) == (21, 4)
    assert sum(s.label == 2 for s in read_split(tmp_path / "split").samples) == 9


def test_the_ids_and_the_draw_do_not_depend_on_where_the_folders_lie(make_folder, tmp_path):
    folders = [make_folder("a", cat=6, dog=5), make_folder("b", dog=4)]
    found = find_images({"train": folders})
    moved = [shutil.copytree(folder, tmp_path / "elsewhere" / f"x{n}") for n, folder in enumerate(folders)]
    assert find_images({"train": moved}).scan.content == found.scan.content
    (moved[1] / "dog" / "0.png").rename(moved[1] / "dog" / "9.png")
    assert find_images({"train": moved}).scan.content != found.scan.content


def test_folders_with_splits_and_tables_with_splits(make_folder, tmp_path):
    make_folder("a/train", cat=4, dog=4), make_folder("a/test", cat=2, dog=2)
    make_folder("b/train", owl=3), make_folder("b/test", owl=1)
    make_folder("images", x=3)
    rows = ["images/x/0.png,cat,train", "images/x/1.png,owl,train", "images/x/2.png,owl,test"]
    listed = table(tmp_path / "c.csv", [*rows, "a/test/cat/0.png,cat,test"])
    (tmp_path / "b" / "test" / "owl" / "broken.heic").write_text("x")
    (tmp_path / "b" / "outside.png").write_text("x")
    found = find_images({"train": [tmp_path / "a", tmp_path / "b", listed]})
    assert found.scan.classes == ["cat", "dog", "owl"] and found.scan.given == ["train", "test"]
    led = contents(found)
    assert {"train/1/cat/0.png", "test/2/owl/0.png", "test/3/images/x/2.png"} <= led.keys() and len(led) == 20
    assert [file.path for file in found.scan.skipped] == ["2/outside.png", "test/2/owl/broken.heic"]
    assert found.scan.location_of("owl", "test") == f"{tmp_path / 'b/test/owl'} and {listed}, label 'owl' of test"
    split_images(tmp_path / "split", found.root, found.scan, Data())
    split = read_split(tmp_path / "split")
    assert split.duplicates == [["test/1/cat/0.png", "test/3/a/test/cat/0.png"]] and split.leaks == []


def test_several_test_sources_and_a_table_beside_a_folder(make_folder, tmp_path):
    train, tests = make_folder("a", cat=4, dog=4), [make_folder("t1", cat=2), make_folder("t2", dog=2, cat=1)]
    make_folder("b", cat=2)
    listed = table(tmp_path / "b.tsv", ["b/cat/0.png,dog", "b/cat/1.png,dog"])
    found = find_images({"train": [train, listed], "test": tests})
    assert found.scan.given == ["train", "test"]
    assert {"train/1/cat/0.png", "train/2/b/cat/1.png", "test/1/cat/0.png", "test/2/cat/0.png"} <= contents(
        found
    ).keys()
    alone = find_images({"train": train, "test": tests})
    assert {"train/cat/0.png", "test/2/dog/1.png"} <= contents(alone).keys()
    labels = {p.path: p.class_name for p in found.scan.images}
    assert labels["train/2/b/cat/1.png"] == "dog"


def test_the_same_image_in_two_folders_stays_in_one_split_or_is_a_leak(make_folder, tmp_path):
    a, b, c = make_folder("a", cat=6, dog=6), make_folder("b", cat=6, dog=6), make_folder("c", cat=2, dog=2)
    shutil.copy(a / "cat" / "0.png", b / "cat" / "0.png")
    shutil.copy(a / "dog" / "1.png", c / "dog" / "1.png")
    for seed in range(5):
        found = find_images({"train": [a, b]})
        split_images(tmp_path / f"{seed}", found.root, found.scan, Data(seed=seed))
        split = read_split(tmp_path / f"{seed}")
        assert split.duplicates == [["1/cat/0.png", "2/cat/0.png"]] and split.leaks == []
    found = find_images({"train": [a, b], "test": c})
    split_images(tmp_path / "leak", found.root, found.scan, Data())
    (leak,) = read_split(tmp_path / "leak").leaks
    assert leak.paths == ["test/dog/1.png", "train/1/dog/1.png"]


def test_several_folders_of_unlabelled_images(make_folder, tmp_path):
    labelled, loose = make_folder("a", cat=5, dog=5), [make_folder("l1", deep=3), make_folder("l2", deep=2)]
    shutil.copy(labelled / "cat" / "0.png", loose[1] / "known.png")
    found = find_images({"train": labelled}, loose)
    assert found[:2] == find_images({"train": labelled})[:2]
    ids = [p.path for p in found.unlabelled.images]
    assert ids == [*(f"unlabelled/1/deep/{i}.png" for i in range(3)), "unlabelled/2/deep/0.png"] + [
        "unlabelled/2/deep/1.png",
        "unlabelled/2/known.png",
    ]
    split_images(tmp_path / "split", found.root, found.scan, Data())
    results = split_unlabelled(
        tmp_path / "more", found.unlabelled_root, found.unlabelled, read_split(tmp_path / "split")
    )
    assert (results["unlabelled"], results["skipped"]) == (5, 1)


def test_the_message_names_every_folder_of_a_broken_class(make_folder, tmp_path):
    a, b = make_folder("a", cat=5, dog=2), make_folder("b", dog=1)
    for broken in [*(a / "dog").iterdir(), *(b / "dog").iterdir()]:
        broken.write_bytes(b"no image")
    found = find_images({"train": [a, b]})
    with pytest.raises(DataError) as error:
        split_images(tmp_path / "split", found.root, found.scan, Data())
    assert str(error.value).startswith(f"{a / 'dog'} and {b / 'dog'}: must hold at least 3 different readable images")
    assert "(3 skipped, first 1/dog/0.png: Unidentified" in str(error.value)


def test_nested_roots_reach_another_process():
    root = Joined({"train": Joined({"1": "a", "2": os.path.abspath("b")}), "test": "c"})
    sent = msgspec.json.encode(absolute(root))
    assert msgspec.json.decode(sent, type=str | Joined) / "train/2/x.png" == absolute(root) / "train/2/x.png"
    assert (absolute(root) / "train/1/x.png").is_absolute() and (absolute(root) / "test/x.png").is_absolute()


def test_a_recipe_has_one_or_an_array(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text('[data]\nsource = ["a", "b"]\ntest_source = ["t"]\nunlabelled = "loose"\n')
    data = compose(file).data
    assert (data.source, data.test_source, data.unlabelled) == (("a", "b"), "t", "loose")
    write_recipe(compose(file), tmp_path / "again.toml")
    assert compose(tmp_path / "again.toml") == compose(file)
    assert compose(settings={"data.source": ["digits"]}) == compose(), "the demo's recipe too"


def test_repeated_flags_keywords_and_the_recipe_are_equivalent(make_folder, tmp_path, capsys):
    make_folder("a", cat=6, dog=6), make_folder("b", dog=3), make_folder("l1", deep=1), make_folder("l2", deep=1)
    flags = ["--data", "a", "--data", "b", "--unlabelled", "l1", "--unlabelled", "l2"]
    assert main_status(["check", *flags, "--json", "--store", "s"]) == 0
    output = capsys.readouterr()
    found = kd2mobile.check(data=[tmp_path / "a", tmp_path / "b"], unlabelled=["l1", "l2"], store=tmp_path / "s")
    assert msgspec.json.decode(output.out)["source"] == "a and b"
    assert msgspec.json.decode(as_json(found)) | {"source": "a and b"} == msgspec.json.decode(output.out)
    (tmp_path / "recipe.toml").write_text('[data]\nsource = ["a", "b"]\nunlabelled = ["l1", "l2"]\n')
    capsys.readouterr()
    assert main_status(["check", "--recipe", "recipe.toml", "--store", "s"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith("a and b: 15 images of 2 classes and 2 without a label;")
    assert "building" not in output.err


def test_the_next_command_names_every_folder(monkeypatch, tmp_path, capsys):
    labelled = Labelled(tmp_path, [tmp_path], 0.5, None)
    monkeypatch.setattr(kd2mobile, "label", lambda *args, **kwargs: labelled)
    assert main_status(["label", "--data", "my a", "--data", "b", "--test-data", "c"]) == 0
    assert "kd2mobile distill --data 'my a' --data b --test-data c\n" in capsys.readouterr().out


def test_classes_that_differ_only_in_capitals_are_reported(make_folder, capsys, tmp_path):
    found = find_images({"train": [make_folder("a", cat=3, dog=3), make_folder("b", Dog=3)]})
    assert found.scan.classes == ["Dog", "cat", "dog"]
    message = "data: 'Dog' and 'dog' are two classes (b/Dog and a/dog); rename one if they are not\n"
    assert message in capsys.readouterr().err.replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--data", "a", "--data", "digits"],
            "data.source, digits: must be a folder of photos or a CSV or TSV where several are given, got a name of "
            "`kd2mobile list data`. Give it alone.",
        ),
        (
            ["--data", "a", "--test-data", "a", "--test-data", "idx"],
            "data.test_source, idx: must be a folder of photos or a CSV or TSV where several are given, got a "
            "folder of idx files. Give it alone.",
        ),
        (["--data", "a", "--data", "./a"], "a: must be given only once, got twice. Leave one of them out."),
        (["--data", "a", "--data", "a/cat"], "a/cat: must lie outside the other given folders, got a"),
        (["--data", "a", "--data", "given"], "given: must have the same splits as a, no splits, got train and test."),
        (["--data", "one", "--data", "one2"], "one and one2: must hold at least 2 classes together, got one, 'cat'."),
        (
            ["--data", "a", "--data", "gone"],
            "gone: must be a folder of photos, a CSV or TSV of path,label, or the name",
        ),
        (
            ["--data", "a", "--test-data", "one", "--test-data", "one2"],
            "one and one2: must hold the same classes as a, got no 'dog'. Rename, add or remove classes",
        ),
        (
            ["--data", "a", "--data", "one", "--test-data", "given"],
            "given: must hold the test images alone, without splits, got train and test.",
        ),
        (["--data", "a", "--unlabelled", "one", "--unlabelled", "one"], "one: must be given only once, got twice."),
        (
            ["--data", "a", "--unlabelled", "one", "--unlabelled", "x.csv"],
            "x.csv: must be a folder of unlabelled image",
        ),
        (
            ["--set", "data.source=[]"],
            "--set, data.source: must be text, or a list that is not empty, each entry text, got []. The images",
        ),
        (["--set", "data.source=[1]"], "--set, data.source: must be text, got 1. The images: a folder"),
        (
            ["--set", "data.val_source=1"],
            "--set, data.val_source: must be text, or a list that is not empty, each entry text, or left out, got 1.",
        ),
        (
            ["--data", "clash", "--unlabelled", "one"],
            "clash: must not have the ids of unlabelled images, unlabelled/..., got 'unlabelled/cat/0.png'. Rename",
        ),
    ],
)
def test_sources_that_cannot_be_merged_are_refused(make_folder, tmp_path, arguments, message, capsys):
    make_folder("a", cat=4, dog=4), make_folder("given/train", cat=3, dog=3), make_folder("given/test", cat=1, dog=1)
    (
        make_folder("one", cat=2),
        make_folder("one2", cat=1),
        make_folder("clash/unlabelled", cat=3),
        make_folder("clash", dog=3),
    )
    (tmp_path / "idx").mkdir()
    (tmp_path / "idx" / "train-images-idx3-ubyte").write_bytes(b"")
    (tmp_path / "x.csv").write_text("path,label\n")
    assert main_status(["check", *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(message)
