"""What is found in a folder, what is not, and what is refused with which words."""

import json
import os
import sys

import pytest
from PIL import Image

from kd2mobile.data.sources import scan as scan_module
from kd2mobile.data.sources.scan import scan
from kd2mobile.errors import DataError

BYTES_AS_NAMES = pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes any bytes as a name")


def refusal(root):
    with pytest.raises(DataError) as error:
        scan(root)
    message = str(error.value)
    assert message.startswith(str(root)) and ": must " in message and message.endswith(".") and "\n" not in message
    return message


def test_class_folders(photos):
    root = photos(cat=2, dog=3)
    found = scan(root)
    assert found.classes == ["cat", "dog"] and found.given == []
    assert [p.path for p in found.images] == ["cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png", "dog/2.png"]
    assert {p.class_name for p in found.images} == {"cat", "dog"} and not found.skipped and not found.ignored


def test_given_splits(photos):
    for split in ("train", "val", "test"):
        root = photos(split, cat=1, dog=2)
    found = scan(root)
    assert found.given == ["train", "val", "test"] and found.classes == ["cat", "dog"]
    assert [(p.path, p.class_name, p.given) for p in found.images[:2]] == [
        ("test/cat/0.png", "cat", "test"),
        ("test/dog/0.png", "dog", "test"),
    ]


def test_classes_may_be_called_train_and_test(photos):
    found = scan(photos(train=2, test=2))
    assert found.given == [] and found.classes == ["test", "train"]


def test_suffixes_hidden_files_and_depth(photos, image):
    root = photos(cat=1, dog=1)
    image(root / "cat" / "2019" / "may" / "DEEP.JPEG", 5)
    image(root / "cat" / ".hidden.png", 6)
    image(root / "cat" / ".thumbnails" / "a.png", 7)
    image(root / ".git" / "a.png", 7)
    image(root / "loose.jpg", 8)
    (root / "cat" / "notes.txt").write_text("about cats")
    (root / "cat" / "IMG_1.HEIC").write_bytes(b"phone")
    found = scan(root)
    assert [p.path for p in found.images] == ["cat/0.png", "cat/2019/may/DEEP.JPEG", "dog/0.png"]
    assert [(a.path, a.reason) for a in found.skipped] == [
        ("cat/IMG_1.HEIC", ".heic files are not decoded: save it as .jpg or .png"),
        ("loose.jpg", "it is outside the class folders"),
    ]
    assert (found.ignored, found.system_files) == (3, 1), "the folder .thumbnails is the system's"


@pytest.mark.parametrize(
    "name", ["two words", 'a "quoted" one', "two\nlines", "\u00fcn\u00efc\u00f6de \u732b", "it's & <b>", "-rf", "%s"]
)
def test_any_name_will_do(photos, image, name):
    root = photos(dog=1)
    image(root / name / f"{name}.png", 1)
    found = scan(root, root.parent / "cache.json")
    assert found == scan(root, root.parent / "cache.json")
    assert (f"{name}/{name}.png", name) in [(p.path, p.class_name) for p in found.images]


@BYTES_AS_NAMES
def test_a_file_name_that_is_not_utf8_is_skipped(photos):
    root = photos(cat=1, dog=1)
    image = (root / "cat" / "0.png").read_bytes()
    with open(os.fsencode(root / "cat") + b"/caf\xe9.png", "wb") as file:
        file.write(image)
    found = scan(root)
    assert [(a.path, a.reason) for a in found.skipped] == [("cat/caf\\xe9.png", "its name is not UTF-8; rename it")]
    assert len(found.images) == 2


@BYTES_AS_NAMES
def test_a_class_name_that_is_not_utf8_is_refused(photos):
    root = photos(cat=1, dog=1)
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    assert r"must hold class folders with UTF-8 names, got 'caf\\xe9'. Rename it." in refusal(root)


def test_an_unreadable_file_is_skipped(photos, monkeypatch):
    root, real = photos(cat=2, dog=1), scan_module.opened_file

    def refuse(path, *rest, **named):
        if str(path).endswith("1.png"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(scan_module, "opened_file", refuse)
    found = scan(root)
    assert [(a.path, a.reason) for a in found.skipped] == [("cat/1.png", "PermissionError: Permission denied")]
    assert [p.path for p in found.images] == ["cat/0.png", "dog/0.png"]


def test_file_permissions_are_those_of_the_system(photos):
    root = photos(cat=2, dog=1)
    (root / "cat" / "1.png").chmod(0)
    if os.access(root / "cat" / "1.png", os.R_OK):
        pytest.skip("this user reads everything")
    assert [a.path for a in scan(root).skipped] == ["cat/1.png"]


def test_links_are_followed_and_circles_and_dead_ends_skipped(photos, image, tmp_path):
    root = photos(cat=1, dog=1)
    outside = image(tmp_path / "elsewhere" / "x.png", 9)
    (root / "cat" / "linked.png").symlink_to(outside)
    (root / "cat" / "album").symlink_to(outside.parent)
    (root / "cat" / "circle").symlink_to(root / "cat")
    (root / "cat" / "dead.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(root / "cat" / "pipe.png")
    found = scan(root)
    assert [p.path for p in found.images] == ["cat/0.png", "cat/album/x.png", "cat/linked.png", "dog/0.png"]
    assert [(a.path, a.reason) for a in found.skipped] == [
        ("cat/circle", "a link to one of its own parent folders"),
        ("cat/dead.png", "FileNotFoundError: No such file or directory"),
        ("cat/pipe.png", "it is not a regular file"),
    ]


def test_the_content_changes_with_the_images_and_nothing_else(photos, image):
    root = photos(cat=2, dog=2)
    first = scan(root).content
    os.utime(root / "cat" / "0.png", (1, 1))
    (root / "cat" / "notes.txt").write_text("x")
    assert scan(root).content == first
    contents = {first}
    image(root / "cat" / "0.png", 99)
    contents.add(scan(root).content)
    (root / "cat" / "1.png").rename(root / "cat" / "one.png")
    contents.add(scan(root).content)
    (root / "cat" / "one.png").rename(root / "dog" / "one.png")
    contents.add(scan(root).content)
    (root / "dog" / "one.png").unlink()
    contents.add(scan(root).content)
    assert len(contents) == 5


def test_a_second_scan_opens_no_image(photos, image, tmp_path, monkeypatch):
    root, cache = photos(cat=2, dog=2), tmp_path / "store" / "hashes.json"
    first = scan(root, cache)
    opened = []
    real = scan_module.opened_file
    monkeypatch.setattr(scan_module, "opened_file", lambda p, *r: opened.append(p.name) or real(p, *r))
    assert scan(root, cache) == first and not opened
    image(root / "cat" / "0.png", 99)
    os.utime(root / "cat" / "0.png", ns=(5, 5))
    assert scan(root, cache).content != first.content and opened == ["0.png"]


def test_the_cache_serves_several_folders_and_may_be_damaged(photos, digits, tmp_path, monkeypatch):
    root, cache = photos(cat=2, dog=2), tmp_path / "hashes.json"
    expected = scan(root, cache), scan(digits, cache)
    assert len(json.loads(cache.read_text())) == 2
    monkeypatch.setattr(scan_module, "opened_file", None)
    assert (scan(root, cache), scan(digits, cache)) == expected
    monkeypatch.undo()
    for damage in (b"", b"{", b'{"x": 1}', b"\xff"):
        cache.write_bytes(damage)
        assert scan(root, cache) == expected[0]
    (root / "cat" / "1.png").unlink()
    scan(root, cache)
    assert [list(files) for files in json.loads(cache.read_text()).values()] == [
        ["cat/0.png", "dog/0.png", "dog/1.png"]
    ]


def test_a_cache_that_cannot_be_written_is_reported(photos, capsys):
    root = photos(cat=2, dog=2)
    cache = root / "cat" / "0.png" / "hashes.json"
    assert len(scan(root, cache).images) == 4
    assert f"{cache}: not written (" in capsys.readouterr().err


def test_ctrl_c_keeps_the_finished_hashes(photos, tmp_path, monkeypatch):
    root, cache = photos(cat=30, dog=30), tmp_path / "hashes.json"
    real, opened = scan_module.opened_file, []

    def interrupted(path, *rest):
        opened.append(path)
        if path.name == "20.png" and path.parent.name == "dog":
            raise KeyboardInterrupt
        return real(path, *rest)

    monkeypatch.setattr(scan_module, "opened_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan(root, cache)
    (files,) = json.loads(cache.read_text()).values()
    assert 30 <= len(files) < 60


def test_a_missing_folder(tmp_path):
    assert refusal(tmp_path / "photos").endswith(
        "photos: must be a folder of photos, got nothing there. Check the path."
    )


def test_a_file(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    assert "photo.jpg: must be a folder of photos, got a file. Give a folder with one folder" in refusal(
        tmp_path / "photo.jpg"
    )


def test_an_empty_folder(tmp_path):
    assert ": must hold class folders, got an empty folder. Give a folder with" in refusal(tmp_path)


def test_a_folder_of_other_files(tmp_path):
    (tmp_path / "letter.txt").write_text("x")
    assert ": must hold class folders, got no folder. Give a folder with" in refusal(tmp_path)


def test_images_without_class_folders(tmp_path, image):
    image(tmp_path / "a.png", 0)
    image(tmp_path / "b.png", 1)
    message = refusal(tmp_path)
    assert ": must hold class folders, got 2 images directly inside and no folder. Move the images of" in message


def test_one_class(photos):
    message = refusal(photos(cat=9))
    assert "must hold at least 2 class folders, got one, 'cat'. Add a folder of images of something else" in message


def test_one_class_under_train(photos):
    photos("train", cat=3)
    assert "train: must hold at least 2 class folders, got one, 'cat'." in refusal(photos("test", cat=3))


def test_a_class_without_images(photos):
    root = photos(cat=3, dog=3)
    (root / "bird").mkdir()
    assert "bird: must hold images, as a class folder, got none. Add images of the class or" in refusal(root)
    (root / "bird" / "a.heic").write_bytes(b"x")
    assert "got none (1 skipped, first bird/a.heic: .heic files are not decoded" in refusal(root)


def test_splits_with_different_classes(photos):
    photos("train", cat=3, dog=3, emu=3)
    message = refusal(photos("test", cat=3, Dog=3))
    same = "test: must hold the same class folders as train, got no 'dog', 'emu' and 'Dog' in addition. Rename, add or"
    assert same in message


def test_another_folder_beside_train(photos, tmp_path):
    photos("train", cat=3, dog=3)
    message = refusal(photos("more", cat=3, dog=3))
    assert "must hold only folders of splits next to 'train', got 'more'. If it is a class, move it into" in message
    (tmp_path / "photos" / "train" / "notes").mkdir()
    (tmp_path / "photos" / "empty").mkdir()
    assert "next to 'train', got 'empty'. Move it away, or give the folder" in refusal(tmp_path / "photos")


def test_a_folder_that_cannot_be_read(photos, monkeypatch):
    root, real = photos(cat=1, dog=1), os.scandir

    def refuse(path):
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(scan_module.os, "scandir", refuse)
    assert "dog: must be a folder that can be read, got PermissionError: Permission denied." in refusal(root)


def test_images_are_not_decoded(photos, monkeypatch):
    root = photos(cat=1, dog=1)
    monkeypatch.setattr(Image, "open", None)
    assert len(scan(root).images) == 2
