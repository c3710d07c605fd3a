"""Names of splits, what systems leave among images, and classes whose names look the same."""

import pytest

from kd2mobile.data.sources.find import find_images
from kd2mobile.data.sources.folders import Inside, class_names, similar_names, split_from_name, splits_among
from kd2mobile.data.sources.scan import content_of, scan
from kd2mobile.data.split import read_split
from kd2mobile.data.splits.splitting import split_images
from kd2mobile.errors import DataError
from kd2mobile.files import is_left_by_system
from kd2mobile.measure.external import class_folders
from kd2mobile.pixels import SUFFIXES
from kd2mobile.recipe.schema import Data
from tests.data.conftest import write_image

CLASSES, IMAGES, BOTH, EMPTY = Inside(["cat", "dog"], False), Inside([], True), Inside(["cat"], True), Inside([], False)
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def write(root, *files):
    for number, file in enumerate(files):
        write_image(root / file, (sum(file.encode()), number))
    return root


@pytest.mark.parametrize(
    ("split", "names"),
    {
        "train": ["train", "Train", "TRAINING", "training_set", "train set", "Train-Images", "traindata"]
        + ["trn", "Trainingsdaten", "Trainings-Bilder"],
        "val": ["val", "Valid", "validation", "VALIDATION", "valset", "validation-set", "eval", "Evaluation", "dev"]
        + ["Validierung", "Validierungsdaten"],
        "test": ["test", "Test", "TESTING", "test_set", "testset", "test.images", "tst", "Testdaten", "Testdatensatz"],
        None: ["trains", "tests", "cat", "valley", "devil", "trainer", "set", "", "1", "tr", "te"],
    }.items(),
)
def test_the_usual_names_of_splits_are_recognized(split, names):
    assert [split_from_name(name) for name in names] == [split] * len(names)


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        ({"train": CLASSES, "test": CLASSES}, {"train": "train", "test": "test"}),
        (
            {"Training": CLASSES, "Test": CLASSES, "valid": CLASSES},
            {"train": "Training", "test": "Test", "val": "valid"},
        ),
        ({"train": BOTH, "test": CLASSES}, {"train": "train", "test": "test"}),
        ({"train": CLASSES, "test": IMAGES}, {"train": "train", "test": "test"}),
        ({"train": IMAGES, "test": IMAGES}, {}),
        ({"Train": IMAGES, "Bus": IMAGES}, {}),
        ({"Train": BOTH, "Bus": BOTH}, {}),
        ({"valid": Inside(["2024"], False), "invalid": Inside(["2024"], False)}, {}),
        ({"cat": IMAGES, "dog": CLASSES}, {}),
    ],
)
def test_folders_that_are_splits_and_folders_that_are_classes(tmp_path, folders, splits):
    assert splits_among(tmp_path, folders) == splits


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (
            {"Training": CLASSES, "train": CLASSES, "test": CLASSES},
            ": must hold only one folder of train, got 'Training' and 'train'. Move all of them into one "
            "folder, train.",
        ),
        (
            {"train": CLASSES, "val": CLASSES, "valid": CLASSES},
            ": must hold only one folder of val, got 'val' and 'valid'. Move all of them into one folder, val.",
        ),
        (
            {"train": CLASSES, "bird": IMAGES},
            ": must hold only folders of splits next to 'train', got 'bird'. If it is a class, move it into the folder "
            "of its split; if all of them are classes, rename 'train'. The names of splits are train, val and test.",
        ),
        (
            {"Test": CLASSES, "Validation": CLASSES},
            ": must hold a folder of training images, or class folders alone, got 'Test' and 'Validation' without "
            "train. Name the folder of the training images train.",
        ),
        (
            {"cat": IMAGES, "dog": IMAGES, "test": CLASSES},
            ": must hold class folders or splits, not both, got 'cat' beside 'test', which holds 'cat' as well. Move "
            "the class folders into a folder named train beside 'test'.",
        ),
    ],
)
def test_mixed_layouts_are_refused_with_the_name_to_use(tmp_path, folders, message):
    with pytest.raises(DataError) as error:
        splits_among(tmp_path, folders)
    assert str(error.value).startswith(f"{tmp_path}{message}")


@pytest.mark.parametrize(
    "names",
    [
        ("seg_test", "seg_train"),
        ("01_train", "02_test"),
        ("test1", "train1"),
        ("my_test", "my_train"),
        ("x_test", "x_train"),
        ("test", "trainval"),
        ("entrainement", "test"),
        ("te", "tr"),
        ("te", "tr", "vl"),
        ("entra\u00eenement", "essai"),
    ],
)
def test_splits_by_other_names_are_refused_and_not_taken_for_classes(tmp_path, names):
    write(tmp_path, *(f"{name}/{label}/0.png" for name in names for label in ("cat", "dog")))
    for read in (scan, class_folders):
        with pytest.raises(DataError, match=r"must hold class folders, or splits|not both|without train") as error:
            read(tmp_path)
        assert repr(names[0]) in str(error.value) and "train" in str(error.value) and "\n" not in str(error.value)


def test_nested_splits_are_refused_and_classes_with_folders_stay_classes(tmp_path):
    nested = {name: Inside([name], False) for name in ("seg_train", "seg_test")}
    with pytest.raises(DataError, match="'seg_test' and 'seg_train'. Name the splits train, val and test, each with"):
        splits_among(tmp_path, nested)
    assert splits_among(tmp_path, {"en": IMAGES, "te": IMAGES, "tr": IMAGES}) == {}
    assert splits_among(tmp_path, {"bullet_train": IMAGES, "bus": CLASSES}) == {}
    assert splits_among(tmp_path, {"cats": Inside(["2020", "2021"], False), "dogs": Inside(["2020"], False)}) == {}


def test_a_data_set_with_other_names_has_ids_and_messages_of_its_own_folders(tmp_path):
    root = tmp_path / "photos"
    for label in ("cat", "dog"):
        write(root, f"Training Set/{label}/0.png", f"Training Set/{label}/1.png", f"Valid/{label}/2.png")
    found = find_images({"train": root})
    assert found.scan.given == ["train", "val"] and found.scan.classes == ["cat", "dog"]
    assert [(p.path, p.given) for p in found.scan.images if p.class_name == "cat"] == [
        ("Training Set/cat/0.png", "train"),
        ("Training Set/cat/1.png", "train"),
        ("Valid/cat/2.png", "val"),
    ]
    assert found.scan.content != content_of([(p.path, p.sha256) for p in found.scan.images]), (
        "as two classes, Training Set and Valid, it was another data set"
    )
    assert found.scan.location_of("cat", "train") == str(root / "Training Set" / "cat")
    with pytest.raises(DataError, match=r"Training Set and .* must not hold|must not hold test|must hold the test"):
        find_images({"train": root, "test": root})
    apart = find_images({"train": root, "test": write(tmp_path / "x", "cat/9.png", "dog/9.png")})
    assert sorted({p.path.partition("/")[0] for p in apart.scan.images}) == ["test", "train", "val"]
    assert all((apart.root / p.path).is_file() for p in apart.scan.images)


def test_a_table_may_use_the_usual_names_of_splits(tmp_path):
    write(tmp_path, *(f"{label}{n}.png" for label in "ab" for n in range(2)))
    rows = [f"{label}{n}.png,{label},{split}" for label in "ab" for n, split in enumerate(("Training", "valid"))]
    (tmp_path / "x.csv").write_text("\n".join(["path,label,split", *rows]))
    found = find_images({"train": tmp_path / "x.csv"}).scan
    assert found.given == ["train", "val"] and [p.given for p in found.images] == ["train", "val"] * 2


def test_benchmark_refuses_splits_by_any_name(tmp_path):
    write(tmp_path, "Training/cat/0.png", "Training/dog/0.png", "Valid/cat/0.png", "Valid/dog/0.png")
    with pytest.raises(DataError, match=r"got 'Training', 'Valid'. These look like splits: give one of them"):
        class_folders(tmp_path)
    assert list(class_folders(tmp_path / "Valid").images) == ["cat", "dog"]


def test_system_files_are_skipped_and_counted(tmp_path):
    root = tmp_path / "photos"
    images = [f"{label}/{n}.png" for label in ("cat", "dog") for n in range(5)]
    thumbnails = [f"cat/@eaDir/{n}.png/SYNOPHOTO_THUMB_{size}.png" for n in range(5) for size in "SMX"]
    more = ["__MACOSX/cat/._0.png", "cat/.@__thumb/0.png", "$RECYCLE.BIN/S-1-5/0.png", "#recycle/dog/0.png"]
    write(root, *images, *thumbnails, *more, "dog/._1.png", "dog/.AppleDouble/1.png", "lost+found/1.png")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (root / "cat" / name).write_bytes(b"x")
    found = scan(root)
    assert [p.path for p in found.images] == images and found.classes == ["cat", "dog"]
    assert (found.system_files, found.ignored, found.skipped) == (15 + 4 + 3 + 3, 0, [])
    loose = find_images({"train": root}, unlabelled=write(tmp_path / "loose", "@eaDir/1/a.png", "b.png")).unlabelled
    assert [p.path for p in loose.images] == ["unlabelled/b.png"] and loose.system_files == 1
    labelled, system_files = class_folders(root)
    assert sum(map(len, labelled.values())) == 10 and system_files == found.system_files


def test_skipped_system_files_are_reported_once_and_recorded(tmp_path, capsys):
    root = write(tmp_path / "photos", *(f"{c}/{n}.png" for c in "ab" for n in range(3)), "a/@eaDir/0.png/x.png")
    found = find_images({"train": root})
    results = split_images(tmp_path / "split", found.root, found.scan, Data())
    assert results["system_files"] == 1 and results["train"] + results["val"] + results["test"] == 6
    assert capsys.readouterr().err.count("skipped 1 file that systems leave among images") == 1


def test_images_and_splits_are_never_system_files():
    assert not [
        name for name in ("cat", "recycle", "trash", "thumb", "thumbs", "tmp", "Icons") if is_left_by_system(name)
    ]
    assert not [f"a{suffix}" for suffix in SUFFIXES if is_left_by_system(f"a{suffix}")]


def test_composed_and_decomposed_names_are_one_class(tmp_path, capsys):
    windows = write(tmp_path / "windows", *(f"{c}/{n}.png" for c in (COMPOSED, "dog") for n in range(2)))
    mac = write(tmp_path / "mac", *(f"{c}/{n}.png" for c in (DECOMPOSED, "dog") for n in range(2)))
    found = find_images({"train": [windows, mac]})
    assert found.scan.classes == [COMPOSED, "dog"] and len(found.scan.images) == 8
    assert all((found.root / p.path).is_file() for p in found.scan.images)
    assert f"data: {COMPOSED!r} is one class, written in 2 ways: 'cafe\\u0301', 'caf\\xe9'\n" in capsys.readouterr().err
    assert found.scan.location_of(COMPOSED, None) == f"{windows / COMPOSED} and {mac / DECOMPOSED}"
    tested = find_images({"train": windows, "test": mac})
    assert tested.scan.classes == [COMPOSED, "dog"] and tested.scan.given == ["train", "test"]


def test_spellings_of_one_name_in_one_folder_are_one_class_and_another_data_set(tmp_path):
    root = write(
        tmp_path / "photos", f"{COMPOSED}/1.png", f"{DECOMPOSED}/2.png", "cat/1.png", "cat /2.png", "dog/1.png"
    )
    found = scan(root)
    assert found.classes == [COMPOSED, "cat", "dog"] and len(found.images) == 5
    assert found.location_of("cat", None) == f"{root / 'cat'} and {root / 'cat '}"
    apart = write(tmp_path / "apart", f"{DECOMPOSED}/1.png", "cat /2.png")
    assert scan(apart).classes == [DECOMPOSED, "cat "], (
        "written in one way alone it keeps its name, and its fingerprint"
    )


def test_spellings_of_one_label_in_a_table_are_one_class(tmp_path):
    write(tmp_path, "1.png", "2.png", "3.png")
    (tmp_path / "x.csv").write_text(f"path,label\n1.png,{COMPOSED}\n2.png,{DECOMPOSED}\n3.png,dog\n", "utf-8")
    assert find_images({"train": tmp_path / "x.csv"}).scan.classes == [COMPOSED, "dog"]


def test_names_of_classes():
    assert class_names([COMPOSED, DECOMPOSED]) == {COMPOSED: COMPOSED, DECOMPOSED: COMPOSED}
    assert class_names([DECOMPOSED, "a ", " "]) == {DECOMPOSED: DECOMPOSED, "a ": "a ", " ": " "}
    assert similar_names(["A", "a", "B", "c", "C", COMPOSED]) == [["A", "a"], ["C", "c"]]
    hidden = ["cat", "cat\u200b", "\ufeffcat", "c\u00adat", "dog", "\u2066dog\u2069"]  # Unicode's category Cf
    assert similar_names(hidden) == [sorted(hidden[:4]), sorted(hidden[4:])]


def test_a_class_that_is_a_copy_of_another_is_reported_as_a_copy(tmp_path, capsys):
    root = tmp_path / "photos"
    write(root, *(f"{split}/{label}/{n}.png" for split in ("train", "val", "test") for label in "ab" for n in range(2)))
    for split in ("train", "val", "test"):
        (root / split / "copy").mkdir()
        for n in range(2):
            (root / split / "copy" / f"{n}.png").write_bytes((root / split / "a" / f"{n}.png").read_bytes())
    (root / "train" / "b" / "9.png").write_bytes((root / "train" / "a" / "0.png").read_bytes())
    found = find_images({"train": root})
    split_images(tmp_path / "split", found.root, found.scan, Data())
    (copy,) = read_split(tmp_path / "split").copied_classes()
    assert (copy.name, copy.of, copy.images) == ("copy", "a", 6)
    output = capsys.readouterr().err
    assert "the class 'copy' is a copy of 'a', all of its 6 images are there as well" in output
    assert "1 image in several classes, first 'train/a/0.png', 'train/b/9.png'" in output, "which is no copied class"


def test_where_splits_are_drawn_a_copied_class_is_refused(tmp_path):
    root = write(tmp_path / "photos", *(f"{label}/{n}.png" for label in "ab" for n in range(4)))
    (root / "copy").mkdir()
    for n in range(3):
        (root / "copy" / f"{n}.png").write_bytes((root / "a" / f"{n}.png").read_bytes())
    found = find_images({"train": root})
    with pytest.raises(DataError) as error:
        split_images(tmp_path / "split", found.root, found.scan, Data())
    assert str(error.value) == (
        f"{root / 'copy'}: must hold images of its own, got every one of the 3 images of the class 'copy' is also in "
        "'a', which holds 1 more. Remove 'copy', or remove these images from 'a'."
    )
    (root / "copy" / "3.png").write_bytes((root / "a" / "3.png").read_bytes())
    found = find_images({"train": root})
    with pytest.raises(DataError) as error:
        split_images(tmp_path / "split", found.root, found.scan, Data())
    assert str(error.value) == (
        f"{root / 'copy'}: must hold images of its own, got a copy: the class 'copy' is a copy of "
        "'a', all of its 4 images are there as well. Remove one of the two classes, or merge them: 'a' holds "
        "the same images."
    )
