"""The stage that decodes each image once: sizes, reasons and small images, the same after a kill."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from kd2mobile.data import shards, thumbnails
from kd2mobile.data.sources.scan import ScannedImage, scan
from kd2mobile.data.thumbnails import WHOLE, Decoded, make_thumbnails, read_thumbnails, write_thumbnails
from kd2mobile.pixels import examined, open_image, render


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
    images = scan(faulty).images
    found = make_thumbnails(faulty, images)
    by_path = {image.path: image.sha256 for image in images}
    whole = sorted(set(by_path) - {"cat/broken.jpg", "dog/copy.png"})
    assert found.contents == [by_path[path] for path in whole]
    for row, path in zip(found.pixels, whole, strict=True):
        assert np.array_equal(row, render(open_image(faulty / path), WHOLE, 16))
        assert found.decoded[by_path[path]] == Decoded(12, 8)
    broken = found.decoded[by_path["cat/broken.jpg"]]
    assert broken[:2] == (0, 0) and "UnidentifiedImageError" in broken.reason


def test_written_thumbnails_are_read_back(faulty, tmp_path):
    images = scan(faulty).images
    assert write_thumbnails(tmp_path / "out", faulty, images) == {"contents": 11, "broken": 1}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["broken-00000.json", "thumbnails-00000.npy"]
    assert same(read_thumbnails(tmp_path / "out"), make_thumbnails(faulty, images))


@pytest.fixture
def small_shards(monkeypatch):
    for module in (shards, thumbnails):
        monkeypatch.setattr(module, "SHARD", 3)


def test_a_killed_call_resumes_to_the_same_result(faulty, tmp_path, monkeypatch, small_shards):
    images, opened = scan(faulty).images, []

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
        write_thumbnails(tmp_path / "out", faulty, images)
    write_thumbnails(tmp_path / "out", faulty, images)
    assert len(opened) == 8 + (11 - 6), "two shards of three stood"
    assert same(read_thumbnails(tmp_path / "out"), make_thumbnails(faulty, images))


def test_a_shard_without_its_reasons_is_built_again(faulty, tmp_path, small_shards):
    images = scan(faulty).images
    write_thumbnails(tmp_path / "out", faulty, images)
    (reasons,) = (tmp_path / "out").glob("broken-*.json")
    reasons.unlink()
    write_thumbnails(tmp_path / "out", faulty, images)
    assert same(read_thumbnails(tmp_path / "out"), make_thumbnails(faulty, images))


def test_merged_thumbnails_hold_each_content_once(faulty, photos):
    images = scan(faulty).images
    both = make_thumbnails(faulty, images[:7]).merged_with(make_thumbnails(faulty, images[4:]))
    assert len(both.contents) == len(set(both.contents)) == 10
    rows = dict(zip(both.contents, both.pixels, strict=True))
    alone = make_thumbnails(faulty, images)
    assert both.decoded == alone.decoded
    assert all(np.array_equal(rows[c], row) for c, row in zip(alone.contents, alone.pixels, strict=True))


def test_the_value_range_of_a_16_bit_image_is_kept(tmp_path):
    Image.fromarray(np.array([[7, 4000], [9, 8]], np.uint16)).save(tmp_path / "deep.png")
    Image.new("L", (3, 2)).save(tmp_path / "plain.png")
    images = [ScannedImage(f"{name}.png", "x", None, name) for name in ("deep", "plain")]
    write_thumbnails(tmp_path / "out", tmp_path, images)
    assert read_thumbnails(tmp_path / "out").decoded == {"deep": Decoded(2, 2, (7, 4000)), "plain": Decoded(3, 2)}
