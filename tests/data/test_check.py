"""What is found in a data set whose faults were put there."""

import shutil

import pytest
from PIL import Image

import kd2mobile
from kd2mobile.data.split import read_split
from kd2mobile.errors import DataError
from kd2mobile.pages.terminal.check import check_text


def soft(path, seed, size=(40, 30), **how):
    """An image of soft spots, one for each seed."""
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    spots = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC).save(path, **how)
    return path


@pytest.fixture
def faulty(tmp_path):
    """train/ and test/ of two classes: a broken file, copies, a contradiction and a near duplicate."""
    root = tmp_path / "photos"
    for seed in range(12):
        soft(root / "train" / "cat" / f"{seed:02d}.png", seed)
    for seed in range(4):
        soft(root / "train" / "dog" / f"{seed}.png", 100 + seed, (90, 30))
    soft(root / "test" / "cat" / "big.png", 200, (300, 200))
    soft(root / "test" / "dog" / "tiny.png", 201, (10, 20))
    shutil.copy(root / "train" / "cat" / "00.png", root / "test" / "cat" / "leak.png")
    shutil.copy(root / "train" / "cat" / "01.png", root / "train" / "dog" / "contradiction.png")
    soft(root / "test" / "dog" / "again.jpg", 100, (72, 24), quality=90)
    (root / "train" / "cat" / "broken.jpg").write_bytes(b"no image")
    (root / "train" / "cat" / "notes.txt").write_text("skipped")
    return root


@pytest.fixture
def checked(faulty, tmp_path):
    return kd2mobile.check(data=str(faulty), store=tmp_path / "store", input_px=32)


def test_counts_by_class_and_split(checked, faulty, tmp_path):
    cat, dog = checked.classes
    assert (cat.name, cat.train + cat.val, cat.test, cat.all) == ("cat", 12, 2, 14)
    assert (dog.name, dog.train + dog.val, dog.test, dog.all) == ("dog", 5, 2, 7)
    (split,) = (tmp_path / "store" / "split").glob("[!.]*/")
    drawn = read_split(split)
    assert [cat.val, dog.val] == [sum(s.label == label for s in drawn.samples_of("val")) for label in (0, 1)]


def test_class_names_that_differ_in_invisible_characters_are_shown_escaped(faulty, tmp_path):
    for split in ("train", "test"):
        for n in range(3):
            soft(faulty / split / "cat\u200b" / f"{n}.png", sum(map(ord, split)) + n)
    found = kd2mobile.check(data=str(faulty), store=tmp_path / "store", input_px=32)
    assert found.alike_classes == [["cat", "cat\u200b"]]
    assert "in capitals or in invisible characters; rename one if they are the same class.\n  cat and cat\\u200b" in (
        check_text(found)
    )


def test_the_planted_faults_are_found(checked):
    (skipped,) = checked.skipped
    assert skipped.path == "train/cat/broken.jpg" and "UnidentifiedImageError" in skipped.reason
    assert checked.ignored_files == 1
    leak, contradiction = ["test/cat/leak.png", "train/cat/00.png"], ["train/cat/01.png", "train/dog/contradiction.png"]
    assert checked.duplicates == [leak, contradiction]
    assert [(found.paths, found.splits) for found in checked.leaks] == [(leak, ["train", "test"])]
    assert checked.contradictions == [contradiction]
    (near,) = checked.near_duplicates
    assert near.paths == ["test/dog/again.jpg", "train/dog/0.png"] and near.classes == ["dog"]


def test_sizes_and_imbalance(checked):
    sizes = checked.sizes
    assert (sizes.smallest, sizes.median, sizes.largest) == ((10, 20), (40, 30), (300, 200))
    assert (sizes.narrowest, sizes.widest) == (0.5, 3.0)
    assert sizes.input_px == 32 and sizes.below_input == 20, "all but the one of 300 x 200"
    cat, dog = checked.classes
    assert checked.imbalance.largest == cat and checked.imbalance.smallest == dog
    assert checked.imbalance.ratio == round(cat.train / dog.train, 2)


@pytest.fixture
def loose(faulty, tmp_path):
    """Unlabelled: a test image saved again, a train image byte for byte, two like each other, a copy, a new one."""
    root = tmp_path / "loose"
    soft(root / "test again.jpg", 200, (150, 100), quality=90)
    shutil.copy(faulty / "train" / "cat" / "02.png", root / "train.png")
    soft(root / "burst1.png", 300)
    soft(root / "burst2.jpg", 300, (80, 60), quality=90)
    shutil.copy(root / "burst1.png", root / "burst1 copy.png")
    soft(root / "new.png", 301, (600, 20))
    (root / "notes.txt").write_text("skipped")
    return root


def test_near_duplicates_among_unlabelled_images_and_between_them_and_the_splits(checked, faulty, loose, tmp_path):
    found = kd2mobile.check(data=str(faulty), unlabelled=str(loose), store=tmp_path / "store", input_px=32)
    assert found.unlabelled == 4 and found.ignored_files == 2
    assert [(group.paths, group.splits, group.classes, group.leaks) for group in found.near_duplicates] == [
        (["test/dog/again.jpg", "train/dog/0.png"], checked.near_duplicates[0].splits, ["dog"], True),
        ([f"unlabelled/{n}" for n in ("burst1 copy.png", "burst1.png", "burst2.jpg")], ["unlabelled"], [], False),
    ]
    assert found.duplicates == [*checked.duplicates, ["unlabelled/burst1 copy.png", "unlabelled/burst1.png"]]
    paths = ["train/cat/broken.jpg", "unlabelled/test again.jpg", "unlabelled/train.png"]
    assert [file.path for file in found.skipped] == paths
    assert found.skipped[1].reason == "looks like test/cat/big.png, which is a test image"
    assert (found.sizes, found.leaks, found.classes) == (checked.sizes, checked.leaks, checked.classes)
    assert checked.unlabelled_sizes is None


def test_sizes_of_unlabelled_images(faulty, loose, tmp_path):
    sizes = kd2mobile.check(
        data=str(faulty), unlabelled=str(loose), store=tmp_path / "store", input_px=32
    ).unlabelled_sizes
    assert (sizes.smallest, sizes.median, sizes.largest) == ((40, 30), (60, 30), (600, 20))
    assert (sizes.narrowest, sizes.widest, sizes.below_input) == (1.333, 30.0, 3)


def test_the_second_check_builds_nothing(checked, faulty, tmp_path, capfd):
    capfd.readouterr()
    assert kd2mobile.check(data=str(faulty), store=tmp_path / "store", input_px=32) == checked
    output = capfd.readouterr().err
    assert "split    up to date" in output and "building" not in output


def test_distill_uses_the_split_of_the_check(checked, faulty, tmp_path):
    from kd2mobile.recipe.compose import compose
    from kd2mobile.stages.plan import make_plan
    from kd2mobile.store.artifact import Store

    small = {"teacher.weights": "none", "student.weights": "none", "data.source": str(faulty)}
    store = Store(tmp_path / "store")
    assert store.find(make_plan(compose(settings=small), store).steps["split"])


def test_a_folder_that_distill_refuses_is_refused_with_the_same_words(tmp_path):
    soft(tmp_path / "photos" / "cat" / "1.png", 1)
    with pytest.raises(DataError, match="photos: must hold at least 2 class folders, got one, 'cat'. Add a folder"):
        kd2mobile.check(data=str(tmp_path / "photos"), store=tmp_path / "store")
