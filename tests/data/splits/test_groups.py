"""What belongs together stays in one split: near duplicates, keys, classes that share groups, and what is refused."""

import hashlib
import itertools
import json
import random
import shutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kd2mobile.data.sources.find import find_images
from kd2mobile.data.sources.scan import ScannedImage, scan
from kd2mobile.data.split import read_groups, read_split
from kd2mobile.data.splits.draw import draw_splits
from kd2mobile.data.splits.groups import Chains, group_keys
from kd2mobile.data.splits.splitting import split_images
from kd2mobile.errors import DataError, RecipeError
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.schema import Data
from kd2mobile.stages.plan import plan_splits
from kd2mobile.store.artifact import Store

SPLITS = ("train", "val", "test")


def soft(path, seed, size=(60, 45), **how):
    """An image of soft spots; another seed gives one that looks different, another size or quality does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spots = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC).save(path, **how)


def split(root, folder, **data):
    results = split_images(folder, root, scan(root), Data(**data))
    return read_split(folder), read_groups(folder), results


def splits_of(made, *paths):
    return {sample.split for sample in made.samples if sample.path in paths}


@pytest.fixture
def bursts(tmp_path):
    """Two classes of ten images; the first five of each come twice: as PNG and as a smaller JPEG."""
    root = tmp_path / "images"
    for number, name in enumerate(("cat", "dog")):
        for i in range(10):
            soft(root / name / f"{i}.png", 100 * number + i)
        for i in range(5):
            soft(root / name / f"{i} again.jpg", 100 * number + i, (40, 30), quality=85)
    return root


def test_near_duplicates_stay_in_one_split_with_any_seed(bursts, tmp_path):
    pairs = [(f"{name}/{i} again.jpg", f"{name}/{i}.png") for name in ("cat", "dog") for i in range(5)]
    for seed in range(6):
        made, groups, results = split(bursts, tmp_path / str(seed), seed=seed)
        assert sorted(tuple(group.paths) for group in groups.near_duplicates) == pairs
        assert all(len(splits_of(made, *pair)) == 1 for pair in pairs)
        counts = Counter((sample.label, sample.split) for sample in made.samples)
        for label in (0, 1):
            assert counts[label, "test"] == 3 and counts[label, "val"] in (1, 2), "of 15: 3, and 1.5 rounded to 2"
        assert groups.leaked == [] and (results["near_duplicates"], results["leaked_test_images"]) == (10, 0)


def test_without_groups_the_draw_ignores_near_duplicates_and_counts_leaks(bursts, tmp_path, capsys):
    made, groups, results = split(bursts, tmp_path / "apart", groups=False)
    scanned = scan(bursts)
    plain = draw_splits(scanned.images, scanned.classes, ["val", "test"], Data(), lambda *_: ("", ""))
    assert [sample.split for sample in made.samples] == plain
    twins = {f"{s.path[:5]} again.jpg": s.path for s in made.samples if s.path.endswith(".png") and s.path[4] < "5"}
    twins |= {path: twin for twin, path in twins.items()}
    test = {sample.path for sample in made.samples_of("test")}
    leaked = sorted(path for path in test if path in twins and twins[path] not in test)
    assert leaked and groups.leaked == leaked and results["leaked_test_images"] == len(leaked) and not groups.kept
    assert f"split: {len(leaked)} of 6 test images are also in train or val, or in a" in capsys.readouterr().err


def test_given_splits_are_kept_and_their_leaks_are_counted(tmp_path):
    root = tmp_path / "images"
    for number, name in enumerate(("cat", "dog")):
        for i in range(4):
            soft(root / "train" / name / f"{i}.png", 100 * number + i)
        for i in range(3):
            soft(root / "test" / name / f"{i}.png", 100 * number + 50 + i)
    soft(root / "test" / "cat" / "burst.jpg", 2, (40, 30), quality=85)
    shutil.copy(root / "train" / "dog" / "1.png", root / "test" / "dog" / "copy.png")
    made, groups, results = split(root, tmp_path / "out")
    assert all(s.path.startswith("test/") == (s.split == "test") for s in made.samples)
    assert groups.leaked == ["test/cat/burst.jpg", "test/dog/copy.png"] and results["leaked_test_images"] == 2
    (near,) = groups.near_duplicates
    assert near.paths == ["test/cat/burst.jpg", "train/cat/2.png"] and near.leaks


def test_an_image_of_a_given_split_does_not_join_two_drawn_ones():
    """The chain a - t - b, of which t is given for the test, binds neither a to b nor anything to t."""
    from kd2mobile.data.splits import splitting
    from kd2mobile.data.thumbnails import Decoded, Thumbnails

    images = [ScannedImage(f"{c}.png", "x", None, c) for c in "ab"] + [ScannedImage("t.png", "x", "test", "t")]
    ramp = np.arange(256, dtype=np.float64).reshape(16, 16, 1).repeat(3, 2)
    pixels = np.stack([np.clip(ramp * 0.9 + shift, 0, 255).astype(np.uint8) for shift in (0, 10, 5)])
    thumbnails = Thumbnails({c: Decoded(9, 9) for c in "abt"}, ["a", "b", "t"], pixels)
    near, together = splitting._chains(thumbnails, images, {}, Data())
    assert near.group_of("a") == near.group_of("b") == near.group_of("t") and together.group_of(
        "a"
    ) != together.group_of("b")


def noise(name, size=(12, 8)):
    """A PPM file of bytes that only hashlib makes, for a golden draw."""
    count = size[0] * size[1] * 3
    blocks = b"".join(hashlib.sha256(f"{name} {i}".encode()).digest() for i in range(-(-count // 32)))
    return b"P6 %d %d 255\n" % size + blocks[:count]


@pytest.mark.parametrize(
    ("data", "golden"),
    [
        (Data(), "2245174473c5e6c327e119105286ea6561e21b27a85080543bf73d13c66e61a5"),
        (Data(seed=1), "8f9c71d9acb10d849f190571df4949f945e9cc949bc4a3150740d786a7ee2ca4"),
        (Data(val=0.2, test=0.3, seed=5), "8cba6801218b97e5230df542fd4d4290b63803b32a8f2d3a33af71697bbe55b1"),
    ],
)
def test_without_groups_the_split_is_byte_for_byte_the_earlier_one(data, golden, tmp_path):
    """SHA-256 of split.json as commit 086dd10 wrote it, which knew copies and contradictions and no groups."""
    root = tmp_path / "images"
    for name, count in {"cat": 40, "dog": 23, "owl": 7}.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i:02d}.ppm").write_bytes(noise(f"{name} {i}"))
    for i in range(4):
        shutil.copy(root / "cat" / "03.ppm", root / "cat" / f"copy{i}.ppm")
    shutil.copy(root / "dog" / "01.ppm", root / "owl" / "also.ppm")
    split_images(tmp_path / "out", root, scan(root), data)
    written = (tmp_path / "out" / "split.json").read_bytes().replace(b'"skipped":', b'"set_aside":')  # its name then
    assert hashlib.sha256(written).hexdigest() == golden


def images_of(groups):
    """groups: of each group its images by class. Returns the images, and the chains that join each group."""
    images, chains = [], Chains()
    for number, counts in enumerate(groups):
        contents = []
        for name, count in counts.items():
            for i in range(count):
                contents.append(hashlib.sha256(f"{number} {name} {i}".encode()).hexdigest())
                images.append(ScannedImage(f"{name}/{number} {i}.png", name, None, contents[-1]))
        chains.join_all([contents])
    return images, chains


def draw(images, chains, **data):
    classes = sorted({p.class_name for p in images})
    return draw_splits(images, classes, ["val", "test"], Data(**data), lambda name, given: (name, ""), chains)


def counted(images, splits):
    return Counter((p.class_name, split_name) for p, split_name in zip(images, splits, strict=True))


@settings(max_examples=60)
@given(st.lists(st.integers(1, 12), min_size=3, max_size=25), st.integers(0, 9), st.randoms())
def test_groups_are_drawn_whole_and_miss_the_fractions_by_at_most_the_largest(sizes, seed, shuffle):
    images, chains = images_of([{"cat": size} for size in sizes] + [{"dog": 1}] * 3)
    drawn = draw(images, chains, seed=seed)
    by_group = {}
    for p, split_name in zip(images, drawn, strict=True):
        by_group.setdefault(chains.group_of(p.sha256), set()).add(split_name)
    assert all(len(found) == 1 for found in by_group.values())
    counts = counted(images, drawn)
    for name, target in {"test": 0.2, "val": 0.1}.items():
        assert counts["cat", name] >= 1 and abs(counts["cat", name] - target * sum(sizes)) <= max(sizes)
    mixed = shuffle.sample(images, len(images))
    again = dict(zip((p.path for p in mixed), draw(mixed, chains, seed=seed), strict=True))
    assert again == {p.path: split_name for p, split_name in zip(images, drawn, strict=True)}


def test_groups_of_several_classes_are_drawn_whole_and_every_class_is_near_its_fractions():
    """Sixty patients with 4 to 8 images each, healthy and ill ones beside each other."""
    rng = random.Random(0)
    patients = [{"healthy": rng.randint(2, 5), "ill": rng.randint(1, 3)} for _ in range(60)]
    images, chains = images_of(patients)
    for seed in range(5):
        drawn = draw(images, chains, seed=seed)
        assert len({(chains.group_of(p.sha256), split_name) for p, split_name in zip(images, drawn, strict=True)}) == 60
        counts = counted(images, drawn)
        for name in ("healthy", "ill"):
            whole = sum(counts[name, part] for part in SPLITS)
            assert abs(counts[name, "test"] - 0.2 * whole) <= 8 and abs(counts[name, "val"] - 0.1 * whole) <= 8


def test_the_nearest_group_fills_a_gap_that_none_fits():
    images, chains = images_of([{"cat": 15}] * 8 + [{"dog": 1}] * 10)
    counts = counted(images, draw(images, chains))
    assert [counts["cat", part] for part in SPLITS] == [75, 15, 30], "of 120 test wants 24: 30 is nearer than 15"


def test_a_group_with_a_contradiction_or_a_tested_content_stays_in_train():
    images, chains = images_of([{"cat": 2}] * 6 + [{"dog": 2}] * 6)
    known = images[0].sha256
    for extra in (
        ScannedImage("dog/again.png", "dog", None, known),
        ScannedImage("test/cat/again.png", "cat", "test", known),
    ):
        for seed in range(5):
            classes, missing = ["cat", "dog"], ["val"] if extra.given else ["val", "test"]
            drawn = draw_splits([*images, extra], classes, missing, Data(seed=seed), lambda *_: ("", ""), chains)
            assert drawn[:2] == ["train", "train"]


def test_too_few_groups_are_refused_with_a_next_step(bursts, tmp_path):
    for i in range(3, 10):
        (bursts / "dog" / f"{i}.png").unlink()
    for i in range(2, 5):
        (bursts / "dog" / f"{i} again.jpg").unlink()
    (bursts / "dog" / "2.png").unlink()
    with pytest.raises(DataError) as error:
        split(bursts, tmp_path / "out")
    assert str(error.value) == (
        f"{bursts / 'dog'}: must hold at least 3 groups of images that may be drawn apart, one each for train, val and "
        "test, got 2 groups of 4 images, because near duplicates are kept together. Add other images to the class, or "
        "draw them apart "
        "with --no-groups (data.groups = false)."
    )
    made, _, _ = split(bursts, tmp_path / "apart", groups=False)
    assert {s.split for s in made.samples if s.label == 1} == set(SPLITS)


def test_classes_whose_groups_cannot_be_spread_are_refused():
    """Seven groups, seven classes of three of them each (Fano's plane): no two colours reach every line."""
    lines = [(0, 1, 2), (0, 3, 4), (0, 5, 6), (1, 3, 5), (1, 4, 6), (2, 3, 6), (2, 4, 5)]
    images, chains = images_of(
        [{f"class{n}": 2 for n, line in enumerate(lines) if point in line} for point in range(7)]
    )
    with pytest.raises(
        DataError, match=r"must hold at least 3 groups of images.*got 3 groups of 6 images, because near dup"
    ):
        draw(images, chains)


def test_chains_name_a_group_by_its_smallest_content_whatever_the_order():
    pairs = [("d", "b", 1.0), ("b", "c", 3.0), ("e", "a", 2.0), ("c", "e", 0.5)]
    for order in itertools.permutations(pairs):
        chains = Chains()
        for pair in order:
            chains.join(*pair)
        assert {chains.group_of(content) for content in "abcde"} == {"a"} and chains.worst("a") == 3.0
        assert chains.group_of("z") == "z" and chains.worst("z") == 0.0


def named(*paths):
    return [ScannedImage(path, path.partition("/")[0], None, f"{n:064x}") for n, path in enumerate(paths)]


@pytest.mark.parametrize(
    ("group_by", "keys"),
    [
        (r"patient(\d+)", {"cat/patient7_1.jpg": "7", "dog/patient7_2.jpg": "7"}),
        (r"patient\d", {"cat/patient7_1.jpg": "patient7", "dog/patient7_2.jpg": "patient7"}),
        (r"^(\w+/patient\d)", {"cat/patient7_1.jpg": "cat/patient7", "dog/patient7_2.jpg": "dog/patient7"}),
        (r"(x)?_1", {"cat/patient7_1.jpg": None}),
        (None, {}),
    ],
)
def test_the_key_is_the_first_group_or_the_whole_match(group_by, keys):
    images = named("cat/patient7_1.jpg", "dog/patient7_2.jpg", "cat/other.jpg")
    if None in keys.values():
        with pytest.raises(DataError):
            group_keys(images, group_by)
        return
    assert group_keys(images, group_by) == keys


def test_images_with_one_key_stay_together_and_images_without_a_key_are_counted(photos, tmp_path, capsys):
    root = photos(cat=12, dog=12)
    for name in ("cat", "dog"):
        for i in range(8):
            (root / name / f"{i}.png").rename(root / name / f"bird{i // 2} frame{i % 2}.png")
    for seed in range(5):
        made, groups, _ = split(root, tmp_path / str(seed), group_by=r"bird(\d)", seed=seed)
        for bird in range(4):
            paths = [f"{name}/bird{bird} frame{i}.png" for name in ("cat", "dog") for i in (0, 1)]
            assert len(splits_of(made, *paths)) == 1
        assert (groups.group_by, groups.without_key, groups.leaked) == (r"bird(\d)", 8, [])
    assert r"split: 4 keys by 'bird(\\d)'; 8 images without one, each alone" in capsys.readouterr().err


def test_a_key_leaks_into_a_given_test_folder(photos, tmp_path):
    photos("train", cat=5, dog=5)
    root = photos("test", cat=2, dog=2)
    (root / "train" / "cat" / "0.png").rename(root / "train" / "cat" / "anna 1.png")
    (root / "test" / "dog" / "1.png").rename(root / "test" / "dog" / "anna 2.png")
    _, groups, _ = split(root, tmp_path / "out", group_by="anna")
    assert groups.leaked == ["test/dog/anna 2.png"] and groups.near_duplicates == []


@pytest.fixture
def listed(photos, tmp_path):
    """A CSV of 12 images a class, two for each patient, without a patient on the last two lines."""
    photos(cat=12, dog=12)
    rows = [f"photos/{name}/{i}.png,{name},{'' if i > 10 else i // 2}" for name in ("cat", "dog") for i in range(12)]
    (tmp_path / "images.csv").write_text("\n".join(["path,label,Patient", *rows]))
    return tmp_path / "images.csv"


def test_a_column_of_a_csv_is_the_key(listed, tmp_path):
    for seed in range(4):
        found = find_images({"train": listed}, key_column="patient")
        split_images(tmp_path / str(seed), found.root, found.scan, Data(group_by="column:patient", seed=seed))
        made, groups = read_split(tmp_path / str(seed)), read_groups(tmp_path / str(seed))
        for patient in range(5):
            paths = [f"photos/{n}/{i}.png" for n in ("cat", "dog") for i in (2 * patient, 2 * patient + 1)]
            assert len(splits_of(made, *paths)) == 1
        assert groups.without_key == 2


def test_another_key_in_the_column_is_another_split(listed, tmp_path):
    def fingerprint(**data):
        settings = {"data.source": str(listed)} | {f"data.{name}": value for name, value in data.items()}
        return plan_splits(compose(settings=settings), Store(tmp_path / "store"))[0][1].fingerprint

    first, plain = fingerprint(group_by="column:patient"), fingerprint()
    assert len({first, plain, fingerprint(group_by="png"), fingerprint(groups=False)}) == 4
    listed.write_text(listed.read_text().replace("0.png,cat,0", "0.png,cat,9"))
    assert fingerprint(group_by="column:patient") != first and fingerprint() == plain


@pytest.mark.parametrize(
    ("source", "group_by", "kind", "message"),
    [
        (
            "photos",
            "(",
            RecipeError,
            "data.group_by: must be a regular expression or `column:NAME`, got '(' (missing ), ",
        ),
        ("photos", "", RecipeError, "data.group_by: must be a regular expression or `column:NAME`, got ''."),
        (
            "photos",
            "column:",
            RecipeError,
            "data.group_by: must be a regular expression or `column:NAME`, got 'column:'.",
        ),
        (
            "photos",
            "zebra",
            DataError,
            "zebra: must match at least one image, got none for any of 24, the first ",
        ),
        (
            "photos",
            "column:patient",
            DataError,
            "photos: must be a CSV or TSV to have the column 'patient' of data.group_",
        ),
        (
            "images.csv",
            "column:who",
            DataError,
            "line 1: must name the column 'who' of data.group_by, got 'path', 'label',",
        ),
    ],
)
def test_invalid_keys_are_refused(source, group_by, kind, message, listed, tmp_path):
    settings = {"data.source": str(tmp_path / source), "data.group_by": group_by}
    with pytest.raises(kind) as error:
        plan_splits(compose(settings=settings), Store(tmp_path / "store"))[0]
    assert message in str(error.value)


def test_the_command_line_takes_both(listed, tmp_path, capsys):
    from kd2mobile.cli.commands import main_status

    def check(*flags):
        arguments = ["check", "--data", str(listed), "--store", str(tmp_path / "store"), "--json", *flags]
        assert main_status(arguments) == 0
        return json.loads(capsys.readouterr().out)

    found = check("--group-by", "column:Patient", "--no-groups")
    assert (found["groups"], found["group_by"], found["without_key"]) == (False, "column:Patient", 2)
    assert (check()["groups"], check()["group_by"]) == (True, None)


@pytest.mark.parametrize(
    ("given", "kept", "message"),
    [
        ([], True, "each group is in one of the drawn splits"),
        (["test"], True, "the given test may share a group with other splits; val is drawn by groups"),
        (["test"], False, "the given test may share a group with other splits; val is drawn without regard to groups"),
        (["val", "test"], True, "the given val and test may share a group with other splits"),
    ],
)
def test_the_report_on_groups_fits_given_splits(given, kept, message, capsys):
    from kd2mobile.data.split import Groups, NearGroup, Split
    from kd2mobile.data.splits.splitting import _report_groups

    near = NearGroup(*(["a", "b"] if field == "paths" else [] for field in NearGroup.__struct_fields__))
    _report_groups(Split([], []), Groups(kept, [near]), 0, given)
    assert f"2 images: {message}" in capsys.readouterr().err
