"""What `kd2mobile check` prints."""

import pytest

from kd2mobile.data.check import Checked, ClassCounts, Imbalance, Sizes
from kd2mobile.data.split import Leak, NearGroup, Skipped
from kd2mobile.pages.terminal.check import check_text


@pytest.fixture
def found():
    """found(n) classes, class i with i + 3 training images; keywords are other fields."""

    def make(count=3, **fields):
        classes = [ClassCounts(f"c{i:03d}", i + 3, 1, 2) for i in range(count)]
        plain = {
            "unlabelled": None,
            "skipped": [],
            "ignored_files": 0,
            "duplicates": [],
            "leaks": [],
            "contradictions": [],
            "near_duplicates": [],
            "groups": True,
            "group_by": None,
            "without_key": 0,
            "leaked_test_images": [],
            "sizes": Sizes((8, 8), (20, 10), (1000, 30), 0.5, 33.333, 128, 2),
            "unlabelled_sizes": None,
            "imbalance": Imbalance(classes[-1], classes[0], (count + 2) / 3),
        }
        return Checked("photos", **{"classes": classes} | plain | fields)

    return make


def test_a_clean_folder(found):
    said = check_text(found())
    assert said.startswith("photos: 21 images of 3 classes; 0 files skipped; 0 other files skipped.\n\n")
    assert "\nc001       4    1     2    7\n" in said
    assert "\ntrain      12         3       4              5\n" in said
    assert "\n\nCopies: none.\n\nNear duplicates: none.\n\n" in said
    assert "Sizes: 8 x 8 to 1,000 x 30 px, median 20 x 10; width / height 0.5 to 33.333; 2 images with" in said
    assert said.endswith("Imbalance: 1.66667 to 1 in train, c002 5 and c000 3.")


def test_every_finding_is_said(found):
    said = check_text(
        found(
            skipped=[Skipped("a/x.jpg", "OSError: broken")],
            ignored_files=1,
            duplicates=[["a/1.png", "b/1.png"]],
            leaks=[Leak(["a/1.png", "b/1.png"], ["train", "test"])],
            contradictions=[["a/1.png", "b/1.png"]],
            near_duplicates=[NearGroup(["a/2.png", "b/3.png"], ["train", "val"], ["a", "b"], 1.5)],
        )
    )
    for paragraph in (
        "Skipped: 1 file cannot be used.\n  a/x.jpg: OSError: broken",
        "Copies: 1 file identical to another byte for byte.\n  a/1.png, b/1.png",
        "Copies in several splits: 1. The measured scores will be too good.\n  train and test: a/1.png",
        "Copies in several classes: 1. One label is wrong.\n  a/1.png, b/1.png",
        "Near duplicates: 2 images in 1 group that look the same. Drawn splits keep each group in one "
        "split.\n  a/2.png, b/3.png",
        "Near duplicates in several splits: 1 group. The measured scores will be too good.\n  train and val: "
        "a/2.png, b/3.png",
        "Near duplicates in several classes: 1 group.\n  a/2.png, b/3.png",
    ):
        assert f"\n\n{paragraph}" in said


def test_what_lies_among_the_images_without_a_label_is_said(found):
    said = check_text(
        found(
            unlabelled=3,
            near_duplicates=[
                NearGroup(["a/1.png", "unlabelled/1.png"], ["test", "unlabelled"], ["a"], 1.5),
                NearGroup(["a/2.png", "unlabelled/2.png"], ["train", "unlabelled"], ["a"], 1.5),
                NearGroup(["unlabelled/3.png", "unlabelled/4.png"], ["unlabelled"], [], 1.5),
            ],
            unlabelled_sizes=Sizes((9, 9), (9, 9), (9, 9), 1.0, 1.0, 128, 1),
        )
    )
    assert "Near duplicates: 6 images in 3 groups that look the same. Drawn splits" in said
    across = "Near duplicates in several splits: 1 group. The measured scores will be too good."
    assert f"{across}\n  test and unlabelled: a/1.png, unlabelled/1.png\n\n" in said
    assert "Sizes without a label: 9 x 9 to 9 x 9 px, median 9 x 9; width / height 1 to 1; 1 image with" in said


def test_what_belongs_together_and_what_leaks_is_said(found):
    near = [NearGroup(["a/1.png", "a/2.png"], ["train", "test"], ["a"], 1.5)]
    said = check_text(found(near_duplicates=near, groups=False, leaked_test_images=["a/2.png", "b/1.png"]))
    assert "Near duplicates: 2 images in 1 group that look the same.\n  a/1.png, a/2.png\n\n" in said
    assert (
        "\n\nLeaks: 2 of 6 test images are also in train or val, as a copy, a near duplicate or by their key. The"
        in said
    )
    assert "scores without them.\n  a/2.png\n  b/1.png\n\n" in said and "Keys" not in said
    said = check_text(found(group_by="p\\d", without_key=1_000))
    assert "\n\nKeys by 'p\\\\d': images with one key stay in one drawn split. 1,000 images without a key.\n\n" in said
    assert "Leaks" not in said


def test_long_lists_are_cut_and_say_so(found):
    groups = [[f"a/{i}{j}.png" for j in range(6)] for i in range(7)]
    said = check_text(found(1000, duplicates=groups))
    listed = [line for line in said.splitlines() if line.startswith("c") and line.split()[0][1:].isdigit()]
    assert [line.split()[0] for line in listed] == [f"c{i:03d}" for i in (*range(15), *range(985, 1000))]
    assert "The 15 largest and the 15 smallest of 1,000 classes; --json has all of them." in said
    assert "  a/00.png, a/01.png, a/02.png, a/03.png and 2 more\n" in said
    assert "  and 2 more; --json has all of them\n" in said
    assert said.endswith("Consider `--class-weights`.")


def test_columns_stand_below_each_other_in_any_script(found):
    classes = [ClassCounts("cat", 5, 1, 1), ClassCounts("狗", 5, 1, 1), ClassCounts("n" * 300, 5, 1, 1)]
    said = check_text(found(classes=classes))
    assert f"\ncat{' ' * 45}      5    1     1    7\n" in said, "three columns and 45 are the longest name's 48"
    assert f"\n狗{' ' * 46}      5    1     1    7\n" in said, "a wide character takes two"
    assert f"\n{'n' * 47}…      5    1     1    7\n" in said


def test_a_newline_in_a_name_does_not_break_a_line(found):
    said = check_text(found(duplicates=[["a\nb/1.png", "a\nb/2.png"]]))
    assert "  a\\nb/1.png, a\\nb/2.png" in said
