"""A CSV of path,label: the same images as a folder, and what is refused with which words."""

import csv
import shutil

import pytest

from kd2mobile.data.sources.find import find_images
from kd2mobile.data.sources.scan import scan
from kd2mobile.data.sources.table import scan_table
from kd2mobile.data.split import read_split
from kd2mobile.data.splits.splitting import split_images
from kd2mobile.errors import DataError
from kd2mobile.recipe.schema import Data


@pytest.fixture
def table(photos):
    """table(text) writes photos.csv beside class folders of ten cats and ten dogs; without text, of all of them."""
    root = photos(cat=10, dog=10)

    def write(text=None, name="photos.csv", encoding="utf-8"):
        if text is None:
            text = "path,label\n" + "".join(f"{c}/{i}.png,{c}\n" for c in ("cat", "dog") for i in range(10))
        (root / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return root / name

    return write


def refusal(path):
    with pytest.raises(DataError) as error:
        scan_table(path)
    message = str(error.value)
    assert message.startswith(str(path)) and ": must " in message and message.endswith(".") and "\n" not in message
    return message.removeprefix(str(path))


def test_a_table_finds_the_images_of_the_folder(table):
    path = table()
    listed, folder = scan_table(path), scan(path.parent)
    assert (listed.classes, listed.given, listed.images) == (folder.classes, folder.given, folder.images)
    assert listed.root == folder.root and not listed.skipped


def test_a_table_gives_the_split_of_the_folder(table, tmp_path):
    path = table()
    for name, found in (("listed", find_images({"train": path})), ("folder", find_images({"train": path.parent}))):
        assert found.root == path.parent
        split_images(tmp_path / name, found.root, found.scan, Data())
    assert read_split(tmp_path / "listed") == read_split(tmp_path / "folder")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_columns_in_any_order_with_any_of_three_separators(table, encoding, delimiter):
    rows = [["Label ", "note", "path"], ["cat", "a", "cat/0.png"], [], ["dög", "b", "dog/0.png"]]
    path = table("\r\n".join(delimiter.join(row) for row in rows), "photos.tsv", encoding)
    assert [(p.path, p.class_name, p.given) for p in scan_table(path).images] == [
        ("cat/0.png", "cat", None),
        ("dog/0.png", "dög", None),
    ]


def test_quotes_commas_and_lines_inside_fields(table):
    path = table()
    names = ["a, b.png", 'c "d".png', "e\nf.png"]
    for number, name in enumerate(names):
        shutil.copy(path.parent / "cat" / f"{number}.png", path.parent / name)
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerows([("path", "label"), *((name, 'two\nlines, "x"') for name in names), ("dog/0.png", "dog")])
    found = scan_table(path)
    assert {p.path for p in found.images} == {*names, "dog/0.png"}
    assert found.classes == ["dog", 'two\nlines, "x"']
    with open(path, "a", encoding="utf-8") as file:
        file.write("gone.png,dog\n")
    assert refusal(path).startswith(", line 10: must name existing files"), "lines are counted as an editor does"


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_table_may_have_every_field_between_quotes(table, delimiter):
    path = table()
    names = ["cat/0.png", "cat/1.png", "dog/0.png"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        rows.writerows([("path", "label"), *((name, name[:3]) for name in names)])
    found = scan_table(path)
    assert {p.path for p in found.images} == set(names) and found.classes == ["cat", "dog"]


def test_a_header_with_broken_quotes_is_refused(table):
    path = table()
    path.write_text('"path"x,"label"\ncat/0.png,cat\n')
    assert refusal(path).startswith(", line 1: must be CSV, got ")


def test_given_splits_are_kept_and_missing_ones_are_drawn(table, tmp_path):
    rows = [f"{c}/{i}.png,{c},{'test' if i < 2 else 'Train'}" for c in ("cat", "dog") for i in range(10)]
    found = find_images({"train": table("path,label,split\n" + "\n".join(rows))})
    assert found.scan.given == ["train", "test"]
    results = split_images(tmp_path / "split", found.root, found.scan, Data())
    assert (results["train"], results["val"], results["test"]) == (14, 2, 4)


def test_ids_of_paths_outside_the_folder_do_not_name_the_machine(table, tmp_path, image):
    outside = image(tmp_path / "elsewhere" / "x.png", 5)
    path = table(f"path,label\n{outside},cat\n./dog/../dog/0.png,dog\n")
    found = find_images({"train": path})
    assert [p.path for p in found.scan.images] == ["../elsewhere/x.png", "dog/0.png"]
    assert all((found.root / p.path).is_file() for p in found.scan.images)


def test_the_content_changes_with_labels_and_splits_and_not_with_the_order(table):
    rows = ["cat/0.png,cat,train", "cat/1.png,cat,test", "dog/0.png,dog,train", "dog/1.png,dog,test"]

    def content(rows):
        return scan_table(table("path,label,split\n" + "\n".join(rows))).content

    first = content(rows)
    assert content(rows[::-1]) == first
    relabelled = [*rows[1:3], "cat/0.png,dog,train", "dog/1.png,cat,train", "cat/2.png,dog,test"]
    moved = ["cat/0.png,cat,test", "cat/1.png,cat,train", *rows[2:]]
    assert len({first, content(relabelled), content(moved)}) == 3


def test_a_second_scan_opens_no_image(table, tmp_path, monkeypatch):
    from kd2mobile.data.sources import scan as scan_module

    path = table()
    first = scan_table(path, tmp_path / "cache.json")
    scan(path.parent, tmp_path / "cache.json")
    monkeypatch.setattr(scan_module, "opened_file", None)
    assert scan_table(path, tmp_path / "cache.json") == first


def test_other_files_are_skipped(table):
    path = table("path,label\ncat/0.png,cat\ndog/0.png,dog\nletter.txt,dog\nphone.heic,cat\n")
    for name in ("letter.txt", "phone.heic"):
        (path.parent / name).write_text("x")
    assert [(a.path, a.reason) for a in scan_table(path).skipped] == [
        ("letter.txt", ".txt suffix: not an image"),
        ("phone.heic", ".heic files are not decoded: save it as .jpg or .png"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ", line 1: must name the columns path and label, got an empty line. Begin the file with"),
        (
            "path,class\ncat/0.png,cat\n",
            ", line 1: must name the columns path and label, got no 'label' in 'path,class'.",
        ),
        ("cat/0.png,cat\n", "got no 'path', 'label' in 'cat/0.png,cat'."),
        ("path,label,path\n", ", line 1: must name each column once, got 'path' twice."),
        ("path,label\n", ": must list images, got no line below the first."),
        ("path,label\ncat/0.png,cat\n", ": must have at least 2 labels to train on, got one, 'cat'. Add images of"),
        ("path,label\ncat/0.png,cat\ndog/0.png,\n", ", line 3: must have a label, got an empty one."),
        ("path,label\n,cat\n", ", line 2: must name an image, got an empty path."),
        (
            "path,label\na, b.png,cat\n",
            ", line 2: must have 2 fields, as the first line, got 3. Put a field that holds ','",
        ),
        (
            "path,label\ncat/0.png,cat\ncat/no.png,cat\ndog/no.png,dog\n",
            ", line 3: must name existing files, got 'cat/no.png', no such file and 1 more. Paths are relative",
        ),
        ("path,label\ncat\\0.png,cat\ndog/0.png,dog\n", "where the table lies. Write / between folders."),
        ("path,label\ncat,cat\ndog/0.png,dog\n", ", line 2: must name existing files, got 'cat', a folder"),
        (
            "path,label\ncat/0.png,cat\ndog/0.png,dog\n./cat/0.png,dog\n",
            ", line 4: must list each image once, got 'cat/0.png' as on line 2.",
        ),
        (
            'path,label\ncat/0.png,"cat\ndog/0.png,dog\n',
            ", line 2: must be CSV, got a double quote that is not closed. Correct its quotes",
        ),
        (
            "path,label,split\ncat/0.png,cat,practice\n",
            ", line 2: must have a split of train, val, test, got 'practice'.",
        ),
        ("path,label,split\ncat/0.png,cat,\n", "got ''. Fill in the column in every line, or leave it out"),
        (
            "path,label,split\ncat/0.png,cat,test\ndog/0.png,dog,test\n",
            ": must have images of the split train, got test. Name some of them train.",
        ),
        (
            "path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,train\ncat/1.png,Cat,test\n",
            ": must have the same labels in test as in train, got no 'cat', 'dog' and 'Cat' in addition.",
        ),
        (
            "path,label\nb\xe4r.png,cat\n".encode("latin-1"),
            ", line 2: must be text in UTF-8, got the byte 0xe4 (in Latin-1",
        ),
        ("path,label\n".encode("utf-16"), ", line 1: must be text in UTF-8, got UTF-16 or no text. Save it again with"),
        ("path,label\n".encode("utf-16-le"), ", line 1: must be text in UTF-8, got UTF-16 or no text."),
    ],
)
def test_what_is_refused(table, text, message):
    assert message in refusal(table(text))


def test_a_class_without_image_files(table):
    path = table("path,label\ncat/0.png,cat\nx.heic,dog\n")
    (path.parent / "x.heic").write_text("x")
    assert ", line 3: must have images of the label 'dog', got none (1 skipped, first x.heic: .heic" in refusal(path)


def test_a_class_whose_images_are_broken_is_named_by_its_label(table, tmp_path):
    path = table()
    for i in range(9):
        (path.parent / "dog" / f"{i}.png").write_bytes(b"no image")
    found = find_images({"train": path})
    with pytest.raises(DataError) as error:
        split_images(tmp_path / "split", found.root, found.scan, Data())
    assert str(error.value).startswith(f"{path}, label 'dog': must hold at least 3 different readable images")
    assert "got 1 (9 skipped, first dog/0.png: UnidentifiedImageError" in str(error.value)
