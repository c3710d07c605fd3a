"""The split: a partition by class, the same from the same images, that drops nothing without a word."""

import math
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd2mobile.data.sources.scan import ScannedImage, scan
from kd2mobile.data.split import Leak, read_split
from kd2mobile.data.splits.draw import draw_splits
from kd2mobile.data.splits.splitting import split_images
from kd2mobile.errors import ArtifactError, DataError
from kd2mobile.recipe.schema import Data


def split(root, **data):
    folder = root.parent / "split"
    results = split_images(folder, root, scan(root), Data(**data))
    return read_split(folder), results


def refusal(root, **data):
    with pytest.raises(DataError) as error:
        split(root, **data)
    message = str(error.value)
    assert message.startswith(str(root)) and message.endswith(".") and "\n" not in message
    return message


def test_digits(digits, tmp_path):
    results = split_images(tmp_path, digits, scan(digits), Data())
    made = read_split(tmp_path)
    assert results | {"given": []} == {
        "classes": 10,
        "train": 1259,
        "val": 179,
        "test": 359,
        "given": [],
        "skipped": 0,
        "ignored_files": 0,
        "system_files": 0,
        "duplicates": 0,
        "leaks": 0,
        "contradictions": 0,
        "groups": True,
        "near_duplicates": 0,
        "leaked_test_images": 0,
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["groups.json", "split.json"]
    assert made.classes == [str(d) for d in range(10)] and len(made.samples) == 1797
    assert all(s.path.startswith(f"{s.label}/") and (s.width, s.height) == (8, 8) for s in made.samples)
    assert [s.path for s in made.samples] == sorted(s.path for s in made.samples)
    for label in range(10):
        counts = Counter(s.split for s in made.samples if s.label == label)
        assert abs(counts["test"] - 0.2 * counts.total()) <= 0.5 and abs(counts["val"] - 0.1 * counts.total()) <= 0.5


def test_a_part_of_train_has_images_of_each_class_and_all_of_val_and_test(digits, tmp_path):
    split_images(tmp_path, digits, scan(digits), Data())
    whole = read_split(tmp_path)
    assert whole.part_of_train(1.0, 0) is whole
    for fraction in (0.6, 0.001):
        part = whole.part_of_train(fraction, 0)
        assert [s for s in whole.samples if s in part.samples] == part.samples  # the same order
        assert part.samples_of("val") == whole.samples_of("val") and part.samples_of("test") == whole.samples_of("test")
        for label in range(10):
            of_class = [sum(s.label == label for s in given.samples_of("train")) for given in (part, whole)]
            assert of_class[0] == max(1, math.ceil(fraction * of_class[1]))
    assert part == whole.part_of_train(0.001, 0) != whole.part_of_train(0.001, 1)


def test_a_seed_is_another_split_and_a_name_is_not(photos, tmp_path):
    root = photos(cat=40, dog=40)
    first, _ = split(root)
    assert split(root)[0] == first and split(root, seed=1)[0] != first
    renamed = tmp_path / "elsewhere" / "photos"
    for sample in first.samples:
        target = renamed / Path(sample.path).parent / f"{sample.sha256[::-1][:9]}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / sample.path, target)
    splits = {s.sha256: s.split for s in split(renamed)[0].samples}
    assert splits == {s.sha256: s.split for s in first.samples}


def test_given_splits_stay_as_they_are(photos):
    photos("train", cat=9, dog=8)
    photos("val", cat=2, dog=1)
    made, results = split(photos("test", cat=3, dog=2))
    assert all(s.path.startswith(f"{s.split}/") for s in made.samples)
    assert (results["train"], results["val"], results["test"]) == (17, 3, 5)
    assert results["given"] == ["train", "val", "test"]


def test_a_missing_val_is_drawn_from_train(photos):
    photos("train", cat=20, dog=10)
    made, results = split(photos("test", cat=3, dog=2))
    assert (results["train"], results["val"], results["test"]) == (27, 3, 5)
    assert all(s.path.startswith("train/") for s in made.samples_of("val"))
    assert Counter(s.label for s in made.samples_of("val")) == {0: 2, 1: 1}


def test_train_alone(photos):
    made, results = split(photos("train", cat=10, dog=10))
    assert (results["train"], results["val"], results["test"]) == (14, 2, 4)


def test_a_damaged_image_is_skipped_with_the_reason(photos, capsys):
    root = photos(cat=10, dog=10)
    (root / "cat" / "3.png").write_bytes(b"")
    whole = (root / "dog" / "4.png").read_bytes()
    (root / "dog" / "4.png").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "letter.jpg").write_text("dear dog")
    made, results = split(root)
    assert [a.path for a in made.skipped] == ["cat/3.png", "dog/4.png", "dog/letter.jpg"]
    assert all("cannot identify" in a.reason or "truncated" in a.reason for a in made.skipped)
    assert results["skipped"] == 3 and len(made.samples) == 18
    assert "split: 3 files skipped, first 'cat/3.png': UnidentifiedImageError" in capsys.readouterr().err


def test_copies_stay_together_and_are_reported(photos, capsys):
    root = photos(cat=20, dog=20)
    for copy in range(5):
        shutil.copy(root / "cat" / "0.png", root / "cat" / f"copy {copy}.png")
    made, results = split(root)
    assert [len(group) for group in made.duplicates] == [6] and not made.leaks
    assert len({s.split for s in made.samples if s.path in made.duplicates[0]}) == 1
    assert (results["duplicates"], results["leaks"], len(made.samples)) == (1, 0, 45)
    assert "split: 5 images the same as another, first of" in capsys.readouterr().err


def test_an_image_in_train_and_test_is_reported(photos, capsys):
    root = photos("train", cat=10, dog=10)
    photos("test", cat=2, dog=2)
    shutil.copy(root / "train" / "cat" / "0.png", root / "test" / "cat" / "same.png")
    made, results = split(root)
    assert made.leaks == [Leak(["test/cat/same.png", "train/cat/0.png"], ["train", "test"])] and results["leaks"] == 1
    assert "split: 1 image in several splits, first 'test/cat/same.png' in train and test" in capsys.readouterr().err
    assert len(made.samples_of("test")) == 5


def test_an_image_in_two_classes_is_reported_and_trained_on(photos, capsys):
    root = photos(cat=10, dog=10)
    shutil.copy(root / "cat" / "0.png", root / "dog" / "also.png")
    made, results = split(root)
    assert made.contradictions == [["cat/0.png", "dog/also.png"]] and results["contradictions"] == 1
    assert {s.split for s in made.samples if s.path in made.contradictions[0]} == {"train"}
    assert "split: 1 image in several classes, first 'cat/0.png', 'dog/also.png'" in capsys.readouterr().err


def test_a_class_with_too_few_images(photos):
    message = refusal(photos(cat=9, dog=2))
    assert "dog: must hold at least 3 different readable images, one each for train, val and test" in message
    assert message.endswith(", got 2. Add images to the class or remove it.")


def test_copies_alone_do_not_make_a_class(photos):
    root = photos(cat=9, dog=2)
    shutil.copy(root / "dog" / "0.png", root / "dog" / "copy.png")
    assert "got 2 different among 3. Add images" in refusal(root)


def test_three_images_are_enough(photos):
    made, _ = split(photos(cat=3, dog=3))
    assert Counter((s.label, s.split) for s in made.samples).most_common(1)[0][1] == 1


def test_a_class_without_readable_images(photos):
    root = photos(cat=5, dog=5)
    for path in (root / "dog").iterdir():
        path.write_bytes(b"no image")
    assert "dog: must hold at least 3 different readable images" in refusal(root)
    assert "got 0 (5 skipped, first dog/0.png: UnidentifiedImageError: cannot identify" in refusal(root)


def test_a_given_split_without_a_readable_image_of_a_class(photos):
    root = photos("train", cat=5, dog=5)
    photos("test", cat=1, dog=1)
    (root / "test" / "dog" / "0.png").write_bytes(b"no image")
    message = refusal(root)
    assert f"{root / 'test' / 'dog'}: must hold at least 1 readable image, got none (1 skipped" in message


def test_a_train_class_too_small_to_draw_val_from(photos):
    photos("train", cat=5, dog=1)
    message = refusal(photos("test", cat=1, dog=1))
    assert "dog: must hold at least 2 different readable images, one each for train and val, got 1" in message


def test_odd_names_survive_the_file(photos, image):
    root = photos(cat=3)
    name = 'two\nlines "\u732b"'
    for i in range(3):
        image(root / name / f"{name} {i}.png", i)
    made, _ = split(root)
    assert made.classes == ["cat", name] and {s.path for s in made.samples if s.label == 1} == {
        f"{name}/{name} {i}.png" for i in range(3)
    }


def test_a_missing_or_damaged_split(tmp_path):
    with pytest.raises(ArtifactError, match=r"split.json: must be a readable file, got no such file or directory\."):
        read_split(tmp_path)
    (tmp_path / "split.json").write_text('{"classes": [1]}')
    with pytest.raises(ArtifactError, match=r"split.json: .*must be text, got .*Remove the folder"):
        read_split(tmp_path)


FRACTION = st.floats(0.01, 0.49)
CLASS_SIZES = st.lists(st.integers(3, 60), min_size=2, max_size=4)


def images_of(sizes):
    return [
        ScannedImage(f"{label}/{i}.png", str(label), None, f"{label:02x}{i:062x}")
        for label, size in enumerate(sizes)
        for i in range(size)
    ]


def draw(images, data):
    classes = sorted({p.class_name for p in images})
    return draw_splits(images, classes, ["val", "test"], data, lambda name, given: (name, ""))


@given(CLASS_SIZES, FRACTION, FRACTION, st.integers(0, 9), st.randoms())
def test_the_draw_is_stratified_and_does_not_depend_on_order(sizes, val, test, seed, random):
    images, data = images_of(sizes), Data(val=val, test=test, seed=seed)
    drawn = draw(images, data)
    for label, size in enumerate(sizes):
        counts = Counter(split_name for p, split_name in zip(images, drawn, strict=True) if p.class_name == str(label))
        assert counts.total() == size and min(counts[s] for s in ("train", "val", "test")) >= 1
        assert abs(counts["val"] - size * val) <= 1 and abs(counts["test"] - size * test) <= 1
    shuffled = random.sample(images, len(images))
    again = dict(zip((p.path for p in shuffled), draw(shuffled, data), strict=True))
    assert again == {p.path: split_name for p, split_name in zip(images, drawn, strict=True)}


@given(st.lists(st.lists(st.integers(0, 8), min_size=3, max_size=25), min_size=2, max_size=3), FRACTION, FRACTION)
def test_copies_share_a_split_whatever_their_number(contents, val, test):
    images = [
        ScannedImage(f"{label}/{i}.png", str(label), None, f"{content:064x}")
        for label, listed in enumerate(contents)
        for i, content in enumerate(listed)
    ]
    try:
        drawn = draw(images, Data(val=val, test=test))
    except DataError as fault:
        assert "different readable images" in str(fault)
        return
    assert len({(p.sha256, split_name) for p, split_name in zip(images, drawn, strict=True)}) == len(
        {p.sha256 for p in images}
    )
    for label in range(len(contents)):
        here = {split_name for p, split_name in zip(images, drawn, strict=True) if p.class_name == str(label)}
        assert here == {"train", "val", "test"}


def test_one_more_image_moves_few_others():
    images = images_of([100, 100])
    before, after = draw(images[1:], Data()), draw(images, Data())[1:]
    assert sum(a != b for a, b in zip(before, after, strict=True)) <= 4
