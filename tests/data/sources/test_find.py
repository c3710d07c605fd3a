"""Images that lie in several places: the ids of one folder, whatever the places are called."""

import shutil

import pytest

from kd2mobile.data.sources.find import find_images
from kd2mobile.data.sources.roots import Joined
from kd2mobile.data.sources.scan import scan
from kd2mobile.data.split import Leak, read_split
from kd2mobile.data.splits.splitting import split_images, split_unlabelled
from kd2mobile.errors import DataError
from kd2mobile.recipe.schema import Data


@pytest.fixture
def whole(photos):
    """One folder with train/, val/ and test/ in it, two classes."""
    photos("train", cat=9, dog=8)
    photos("val", cat=2, dog=2)
    return photos("test", cat=3, dog=3)


@pytest.fixture
def apart(whole, tmp_path):
    """The same images in three folders that have nothing to do with each other."""
    sources = {"train": tmp_path / "a" / "mine", "val": tmp_path / "b", "test": tmp_path / "c" / "of a friend"}
    for split, path in sources.items():
        shutil.copytree(whole / split, path)
    return sources


def test_separate_folders_are_scanned_like_one_folder(whole, apart):
    found, one = find_images(apart), scan(whole)
    assert isinstance(found.root, Joined)
    assert (found.scan.images, found.scan.given, found.scan.content) == (one.images, one.given, one.content)
    assert all((found.root / p.path).read_bytes() == (whole / p.path).read_bytes() for p in one.images)


def test_the_train_folder_may_hold_the_val_images(whole, apart, tmp_path):
    (whole / "test").rename(tmp_path / "aside")
    found = find_images({"train": whole, "test": apart["test"]})
    assert found.scan.given == ["train", "val", "test"] and len(found.scan.images) == 27
    assert all((found.root / p.path).is_file() for p in found.scan.images)


def test_val_is_drawn_from_train_where_only_test_has_a_folder_of_its_own(apart, tmp_path):
    found = find_images({"train": apart["train"], "test": apart["test"]})
    results = split_images(tmp_path / "split", found.root, found.scan, Data())
    assert (results["train"], results["val"], results["test"]) == (15, 2, 6)
    assert {s.path.split("/")[0] for s in read_split(tmp_path / "split").samples_of("val")} == {"train"}


def test_a_table_for_train_and_a_folder_for_test(apart, tmp_path):
    def rows(split):
        return [f"{p.relative_to(tmp_path).as_posix()},{p.parent.name}" for p in sorted(apart[split].rglob("*.png"))]

    (tmp_path / "train.csv").write_text("\n".join(["path,label", *rows("train")]))
    (tmp_path / "both.csv").write_text(
        "\n".join(["path,label,split", *(f"{r},{s}" for s in ("train", "val") for r in rows(s))])
    )
    contents = set()
    for train in ("train.csv", "both.csv"):
        found = find_images({"train": tmp_path / train, "test": apart["test"]})
        assert all((found.root / p.path).is_file() for p in found.scan.images)
        assert found.scan.images[-1].path.startswith(("train/a/mine/dog", "val/b/dog"))
        assert found.scan.location_of("cat", "train").startswith(f"{tmp_path / train}, label 'cat'")
        assert found.scan.location_of("cat", "test") == str(apart["test"] / "cat")
        contents.add(found.scan.content)
    assert len(contents) == 2
    found = find_images({"train": apart["train"], "test": tmp_path / "train.csv"})
    assert found.scan.given == ["train", "test"] and all((found.root / p.path).is_file() for p in found.scan.images)


def test_the_message_names_the_real_folder_of_a_broken_class(apart, tmp_path):
    for image in (apart["test"] / "dog").iterdir():
        image.write_bytes(b"no image")
    found = find_images(apart)
    with pytest.raises(DataError) as error:
        split_images(tmp_path / "split", found.root, found.scan, Data())
    assert str(error.value).startswith(f"{apart['test'] / 'dog'}: must hold at least 1 readable image, got ")
    assert "(3 skipped, first test/dog/0.png: Unidentified" in str(error.value)


def test_sources_that_differ_are_refused(whole, apart):
    def refusal(**sources):
        with pytest.raises(DataError) as error:
            find_images(sources)
        return str(error.value)

    message = refusal(train=whole, test=apart["test"])
    assert message.startswith(f"{whole}: must not hold test images as well, got some, and those in {apart['test']}.")
    message = refusal(train=apart["train"], test=whole)
    assert message.startswith(f"{whole}: must hold the test images alone, without splits, got train and val and test.")
    (apart["test"] / "dog").rename(apart["test"] / "Dog")
    message = refusal(train=apart["train"], test=apart["test"])
    assert f"must hold the same classes as {apart['train']}, got no 'dog' and 'Dog' in addition." in message
    assert refusal(train=apart["train"], val=whole / "nowhere").startswith(f"{whole / 'nowhere'}: must be a folder")


@pytest.fixture
def loose(tmp_path, image):
    """Five images without labels, some of them deep."""
    for number, place in enumerate(("a.png", "2019/b.png", "2019/may/c.png", "2019/may/d.png", "e.png")):
        image(tmp_path / "loose" / place, (9, number))
    return tmp_path / "loose"


def split_loose(photos, loose, tmp_path):
    found = find_images({"train": photos(cat=10, dog=10)}, loose)
    split_images(tmp_path / "labelled", found.root, found.scan, Data())
    labelled = read_split(tmp_path / "labelled")
    folder = tmp_path / "unlabelled"
    return split_unlabelled(folder, found.unlabelled_root, found.unlabelled, labelled), read_split(folder), labelled


def test_unlabelled_images_at_any_depth(photos, loose, tmp_path):
    (loose / "notes.txt").write_text("x")
    (loose / "broken.png").write_text("x")
    results, made, labelled = split_loose(photos, loose, tmp_path)
    assert [s.path for s in made.samples] == [
        "unlabelled/2019/b.png",
        "unlabelled/2019/may/c.png",
        "unlabelled/2019/may/d.png",
        "unlabelled/a.png",
        "unlabelled/e.png",
    ]
    assert {(s.label, s.split) for s in made.samples} == {(-1, "unlabelled")} and made.classes == labelled.classes
    assert [a.path for a in made.skipped] == ["unlabelled/broken.png"]
    assert results == {
        "unlabelled": 5,
        "skipped": 1,
        "ignored_files": 1,
        "system_files": 0,
        "duplicates": 0,
        "leaks": 0,
        "near_leaks": 0,
    }
    assert (
        made.with_samples("train", "val", "unlabelled") == ["unlabelled"] and labelled.with_samples("unlabelled") == []
    )


def test_labelled_images_among_the_unlabelled_are_skipped_and_leaks_are_reported(photos, loose, tmp_path, capsys):
    _, _, labelled = split_loose(photos, loose, tmp_path)
    for split in ("train", "test"):
        shutil.copy(tmp_path / "photos" / labelled.samples_of(split)[0].path, loose / f"{split}.png")
    (tmp_path / "unlabelled" / "split.json").unlink()
    results, made, _ = split_loose(photos, loose, tmp_path)
    test, train = labelled.samples_of("test")[0].path, labelled.samples_of("train")[0].path
    assert [(a.path, a.reason) for a in made.skipped] == [
        ("unlabelled/test.png", f"the same image as {test}, which has a label (test)"),
        ("unlabelled/train.png", f"the same image as {train}, which has a label (train)"),
    ]
    assert made.leaks == [Leak(["unlabelled/test.png", test], ["unlabelled", "test"])]
    assert (results["unlabelled"], results["leaks"]) == (5, 1)
    output = capsys.readouterr().err
    assert f"split: 1 unlabelled image also in val or test, first 'unlabelled/test.png', the same as {test!r}" in output


def test_unlabelled_images_do_not_change_the_labelled_ones(photos, loose):
    plain, beside = find_images({"train": photos(cat=9, dog=9)}), find_images({"train": photos()}, loose)
    assert beside[:2] == plain[:2] and plain.unlabelled is None
    before = beside.unlabelled.content
    (loose / "e.png").rename(loose / "f.png")
    assert find_images({"train": photos()}, loose).unlabelled.content != before


def test_unusable_unlabelled_folders_are_refused(photos, tmp_path, image, loose):
    root = photos(cat=9, dog=9)
    image(root / "loose" / "a.png", 1)

    def refusal(unlabelled):
        with pytest.raises(DataError) as error:
            split_loose(photos, unlabelled, tmp_path)
        return str(error.value)

    message = refusal(root / "loose")
    assert message.startswith(
        f"{root / 'loose'}: must lie outside the folders of labelled images, got a folder in {root}."
    )
    shutil.rmtree(root / "loose")
    assert "nowhere: must be a folder of unlabelled images, got nothing there." in refusal(tmp_path / "nowhere")
    assert "a.png: must be a folder of unlabelled images, got a file." in refusal(loose / "a.png")
    (tmp_path / "empty").mkdir()
    assert "empty: must hold images, got none. Give the folder that contains them." in refusal(tmp_path / "empty")
    shutil.copytree(root / "cat", tmp_path / "same")
    message = refusal(tmp_path / "same")
    assert "same: must hold a readable image without a label, got none (10 skipped, first " in message
