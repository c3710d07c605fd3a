"""The stage that decodes each image once: sizes, reasons and small images, the same after a kill."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from kd2mobile.data import shards, thumbnails
from kd2mobile.data.sources.scan import Picture, scan
from kd2mobile.data.thumbnails import WHOLE, Decoded, look_at, read_thumbnails, write_thumbnails
from kd2mobile.pixels import examined, open_picture, render


@pytest.fixture
def faulty(photos):
    """Ten images of two classes, one of them also as a copy, and a broken one."""
    root = photos(cat=6, dog=4)
    shutil.copy(root / "cat" / "0.png", root / "dog" / "copy.png")
    (root / "cat" / "broken.jpg").write_bytes(b"no image")
    return root


def same(one, other):
    return one[:2] == other[:2] and np.array_equal(one.pixels, other.pixels)


def test_each_content_is_decoded_once(faulty):
    pictures = scan(faulty).pictures
    found = look_at(faulty, pictures)
    by_path = {picture.path: picture.sha256 for picture in pictures}
    whole = sorted(set(by_path) - {"cat/broken.jpg", "dog/copy.png"})
    assert found.contents == [by_path[path] for path in whole]
    for row, path in zip(found.pixels, whole, strict=True):
        assert np.array_equal(row, render(open_picture(faulty / path), WHOLE, 16))
        assert found.decoded[by_path[path]] == Decoded(12, 8)
    broken = found.decoded[by_path["cat/broken.jpg"]]
    assert broken[:2] == (0, 0) and "UnidentifiedImageError" in broken.reason


def test_what_is_written_is_read_back(faulty, tmp_path):
    pictures = scan(faulty).pictures
    assert write_thumbnails(tmp_path / "out", faulty, pictures) == {"contents": 11, "broken": 1}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["broken-00000.json", "thumbnails-00000.npy"]
    assert same(read_thumbnails(tmp_path / "out"), look_at(faulty, pictures))


@pytest.fixture
def small_shards(monkeypatch):
    for module in (shards, thumbnails):
        monkeypatch.setattr(module, "SHARD", 3)


def test_a_killed_call_goes_on_to_the_same(faulty, tmp_path, monkeypatch, small_shards):
    pictures, opened = scan(faulty).pictures, []

    @contextmanager
    def dies(path):
        opened.append(path.name)
        if len(opened) == 8:
            raise KeyboardInterrupt
        with examined(path) as found:
            yield found

    monkeypatch.setattr(thumbnails, "examined", dies)
    monkeypatch.setattr(thumbnails, "in_threads", map)
    with pytest.raises(KeyboardInterrupt):
        write_thumbnails(tmp_path / "out", faulty, pictures)
    write_thumbnails(tmp_path / "out", faulty, pictures)
    assert len(opened) == 8 + (11 - 6), "two shards of three stood"
    assert same(read_thumbnails(tmp_path / "out"), look_at(faulty, pictures))


def test_a_shard_without_its_reasons_is_made_again(faulty, tmp_path, small_shards):
    pictures = scan(faulty).pictures
    write_thumbnails(tmp_path / "out", faulty, pictures)
    (reasons,) = (tmp_path / "out").glob("broken-*.json")
    reasons.unlink()
    write_thumbnails(tmp_path / "out", faulty, pictures)
    assert same(read_thumbnails(tmp_path / "out"), look_at(faulty, pictures))


def test_two_sets_beside_each_other_have_each_content_once(faulty, photos):
    pictures = scan(faulty).pictures
    both = look_at(faulty, pictures[:7]).beside(look_at(faulty, pictures[4:]))
    assert len(both.contents) == len(set(both.contents)) == 10
    rows = dict(zip(both.contents, both.pixels, strict=True))
    alone = look_at(faulty, pictures)
    assert both.decoded == alone.decoded
    assert all(np.array_equal(rows[c], row) for c, row in zip(alone.contents, alone.pixels, strict=True))


def test_what_an_image_of_16_bits_holds_is_kept(tmp_path):
    Image.fromarray(np.array([[7, 4000], [9, 8]], np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (3, 2)).save(tmp_path / "plain.png")
    pictures = [Picture(f"{name}.png", "x", None, name) for name in ("deep", "plain")]
    write_thumbnails(tmp_path / "out", tmp_path, pictures)
    assert read_thumbnails(tmp_path / "out").decoded == {"deep": Decoded(2, 2, (7, 4000)), "plain": Decoded(3, 2)}
