"""ZIP archives of class folders: the same as the folder everywhere, and refused where they are hostile."""

import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import kd2mobile
from kd2mobile.cli.commands import main_status
from kd2mobile.data.decode_workers import renderer
from kd2mobile.data.pixel_store import render_pixels
from kd2mobile.data.shards import open_shards
from kd2mobile.data.sources.containers import Member, Zip, is_within, source_at
from kd2mobile.data.sources.find import find_images
from kd2mobile.data.sources.named import resolve_sources
from kd2mobile.data.sources.roots import absolute, root_at
from kd2mobile.data.split import read_split
from kd2mobile.data.splits.splitting import split_images
from kd2mobile.data.thumbnails import make_thumbnails
from kd2mobile.data.views import VIEW_DTYPE, draw_views
from kd2mobile.errors import DataError, ImageError
from kd2mobile.files import local_files
from kd2mobile.pages.shown_images import thumbnail
from kd2mobile.pixels import examine, load
from kd2mobile.recipe.schema import Data, Views
from kd2mobile.store.artifact import Store


@pytest.fixture
def zipped(tmp_path):
    """zipped(folder) is the folder as an archive."""

    def make(folder, name="photos.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder).as_posix())
        return str(tmp_path / name)

    return make


def stages(source, folder, tmp_path):
    """The data stages: the scan, and what thumbnails, split, views and pixels of it are."""
    (placed,) = resolve_sources("data.source", source, Store(tmp_path / "store"))
    found = find_images({"train": placed}, cache=tmp_path / "hashes.json")
    thumbnails = make_thumbnails(found.root, found.scan.images)
    split_images(folder / "split", found.root, found.scan, Data(), thumbnails)
    split = read_split(folder / "split")
    draw_views(folder / "views", split, Views(count=2), "crop")
    render_pixels(folder / "pixels", found.root, split, folder / "views", 8)
    return found, thumbnails, split, open_shards(folder / "pixels", "train")


@pytest.mark.parametrize("given", [[""], ["train", "test"]])
def test_the_data_stages_give_the_same_for_an_archive_and_its_folder(photos, zipped, tmp_path, given):
    for under in given:
        root = photos(under=under, cat=8, dog=7)
    (root / "Thumbs.db").write_bytes(b"x")
    (root / given[0] / "cat" / "broken.jpg").write_bytes(b"no image")
    (root / given[0] / "cat" / "notes.txt").write_text("no image by its name")
    archive = zipped(root)
    (_, thumbnails, of_folder, pixels), (found, archive_thumbnails, of_archive, same) = (
        stages(str(source), tmp_path / name, tmp_path) for source, name in ((root, "folder"), (archive, "archive"))
    )
    assert isinstance(found.root, Member)
    assert of_archive == of_folder and len(of_archive.skipped) == 1
    assert found.scan.ignored == 1 and found.scan.system_files == 1
    np.testing.assert_array_equal(thumbnails.pixels, archive_thumbnails.pixels)
    rows, views = np.arange(len(pixels)), np.zeros(len(pixels), int)
    np.testing.assert_array_equal(pixels.take(rows, views), same.take(rows, views))


def test_an_archive_has_the_same_steps_as_its_folder(photos, zipped, tmp_path):
    """One store: what was made of the folder is found for the archive, as the fingerprint knows contents alone."""
    root = photos(cat=8, dog=7)
    of_folder = kd2mobile.check(data=root, store=tmp_path / "store")
    made = sorted(path.name for path in (tmp_path / "store").glob("*/*"))
    of_archive = kd2mobile.check(data=zipped(root), store=tmp_path / "store")
    assert of_archive.classes == of_folder.classes and of_archive.sizes == of_folder.sizes
    assert sorted(path.name for path in (tmp_path / "store").glob("*/*")) == made != []


def test_hashes_are_cached_per_archive(photos, zipped, tmp_path, monkeypatch):
    archive = source_at(zipped(photos(cat=3, dog=3)))
    first = find_images({"train": archive}, cache=tmp_path / "hashes.json").scan
    monkeypatch.setattr(Zip, "open", lambda *_: pytest.fail("read again"))
    assert find_images({"train": archive}, cache=tmp_path / "hashes.json").scan == first


def test_an_archive_and_folders_together(photos, zipped, tmp_path):
    archive = source_at(zipped(photos(cat=3, dog=3)))
    test, loose = photos(under="elsewhere", cat=2, dog=2) / "elsewhere", photos(under="loose", any=2) / "loose"
    more = source_at(zipped(loose, "loose.zip"))
    found = find_images({"train": archive, "test": test}, more)
    ids = [image.path for image in found.scan.images]
    assert ids[:2] == ["test/cat/0.png", "test/cat/1.png"] and "train/dog/2.png" in ids
    sent = absolute(found.root)  # as a job carries it to another process
    for path in ids:
        np.testing.assert_array_equal(load(root_at(sent) / path, 8, "crop"), load(found.root / path, 8, "crop"))
    assert [image.path for image in found.unlabelled.images] == ["unlabelled/any/0.png", "unlabelled/any/1.png"]
    assert examine(found.unlabelled_root / "unlabelled/any/0.png").width == 12


def test_a_tool_that_needs_files_gets_temporary_copies(photos, zipped):
    root = photos(cat=2, dog=2)
    archive = source_at(zipped(root))
    with local_files([archive / "cat/0.png", root / "cat/1.png"]) as paths:
        assert paths[0].name == "0-0.png" and paths[1] == root / "cat" / "1.png"
        assert paths[0].read_bytes() == (root / "cat" / "0.png").read_bytes()
        copied = paths[0]
    assert not copied.exists()
    with local_files([root / "cat/1.png"]) as paths:
        assert paths == [root / "cat" / "1.png"]


def test_a_worker_receives_an_address_as_text(photos, zipped, tmp_path):
    root = photos(cat=2, dog=2)
    image = source_at(zipped(root)) / "cat/0.png"
    views = np.zeros((1, 1), VIEW_DTYPE)
    views["box"] = (0, 0, 1, 1)
    with renderer(1, tmp_path) as render:
        np.testing.assert_array_equal(render([image], views, 8), render([root / "cat/0.png"], views, 8))


def test_an_archive_is_known_by_its_ending(photos, zipped):
    root = photos(cat=2, dog=2)
    text = zipped(root)
    archive = source_at(text)
    assert str(archive / "cat") == f"{text}!/cat" and source_at(str(archive / "cat")) == archive / "cat"
    assert (archive / "cat").is_dir() and (archive / "cat/0.png").exists() and not (archive / "cow").exists()
    assert (archive / "cat").count() == 2 and (archive / "cat/0.png").name == "0.png"
    assert thumbnail(archive / "cat/0.png", 8) == thumbnail(root / "cat/0.png", 8), "as a page shows it"
    with closing((archive / "cat/0.png").open()) as stream:
        assert stream.read() == (root / "cat" / "0.png").read_bytes()
    assert is_within(archive / "cat", archive) and is_within(archive, archive) and not is_within(root, archive)
    folder = root / "a folder.zip"
    folder.mkdir()
    assert source_at(folder) == folder


def test_bad_input(photos, zipped):
    archive = source_at(zipped(photos(cat=2)))
    with pytest.raises(DataError, match=r"photos.zip!/: must hold at least 2 class folders, got one, 'cat'"):
        find_images({"train": archive})
    with pytest.raises(DataError, match="must be given only once, got twice"):
        find_images({"train": [archive, source_at(str(archive))]})
    with pytest.raises(ImageError, match=r"photos.zip!/cat/9.png: must be there, got no such file"):
        load(archive / "cat/9.png", 8, "crop")
    Path(archive.container).unlink()
    with pytest.raises(ImageError, match=r"photos.zip!/cat/0.png: must be there, got no such file"):
        load(archive / "cat/0.png", 8, "crop")


def member(name, content=b"x", **changes):
    info = zipfile.ZipInfo(name)
    for field, value in changes.items():
        setattr(info, field, value)
    return info, content


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../out.png")], r"photos.zip!/../out.png: must be a path inside the archive, got '../out.png'"),
        ([member("/etc/out.png")], "must be a path inside the archive, got '/etc/out.png'"),
        ([member("C:/out.png")], "must be a path inside the archive, got 'C:/out.png'"),
        ([member("cat//out.png")], "must be a path inside the archive, got 'cat//out.png'"),
        ([member("cat/a.png"), member("cat/a.png", b"y")], "cat/a.png: must be in the archive once, got twice"),
        ([member("cat/a.png", external_attr=0o120777 << 16)], "cat/a.png: must be a file, got a symbolic link"),
        (
            [member("cat/a.png", b"0" * 20_000_000, compress_type=zipfile.ZIP_DEFLATED)],
            r"must be at most .*, and no more than 100 times its packed size, got 20(\.0)? MB packed in",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_hostile_archive_is_refused_before_anything_is_unpacked(tmp_path, members, message, monkeypatch):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for info, content in members:
            archive.writestr(info, content)
    monkeypatch.setattr(Zip, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(DataError, match=message):
        find_images({"train": source_at(tmp_path / "photos.zip")})


def test_an_encrypted_a_damaged_and_a_false_archive(photos, zipped, capsys):
    path = Path(zipped(photos(cat=2, dog=2)))
    whole = path.read_bytes()
    flags = whole.index(b"PK\x01\x02") + 8
    path.write_bytes(whole[:flags] + b"\x01" + whole[flags + 1 :])
    with pytest.raises(DataError, match="must not be encrypted, got an encrypted file. Pack the folder without"):
        find_images({"train": source_at(path)})
    path.write_bytes(whole[: len(whole) // 2])
    assert main_status(["check", "--data", str(path)]) == 2
    assert (
        "photos.zip: must be a ZIP archive, got a damaged one, or another file. Pack it again."
        in capsys.readouterr().err
    )
    data = whole.index(b"PNG") + 40
    path.write_bytes(whole[:data] + b"\xff\x00\xff" + whole[data + 3 :])
    with pytest.raises(ImageError, match=r"photos.zip!/cat/0.png: must be"):
        load(source_at(path) / "cat/0.png", 8, "crop")
