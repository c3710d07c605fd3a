"""The pixel store: what pixels.render gives for each view, in the split's order."""

import numpy as np
import pytest

from kd2mobile.data import pixel_store
from kd2mobile.data.pixel_store import render_pixels
from kd2mobile.data.shards import open_shards
from kd2mobile.data.sources.scan import scan
from kd2mobile.data.split import read_split
from kd2mobile.data.splits.splitting import split_images
from kd2mobile.data.views import draw_views, read_views
from kd2mobile.errors import DataError, ImageError
from kd2mobile.pixels import load, open_image, render
from kd2mobile.recipe.schema import Data, Views


@pytest.fixture
def made(photos, image, tmp_path):
    """The root, the split and the views of a few images of different sizes."""
    root = photos(cat=6, dog=6)
    for i in range(5):
        image(root / "cat" / f"big {i}.png", 50 + i, (30 + i, 20))
    split_images(tmp_path / "split", root, scan(root), Data())
    split = read_split(tmp_path / "split")
    draw_views(tmp_path / "views", split, Views(count=3), "pad")
    return root, split, tmp_path / "views"


def test_every_view_is_rendered(made, tmp_path):
    root, split, views_folder = made
    results = render_pixels(tmp_path / "pixels", root, split, views_folder, 16)
    train, val = split.samples_of("train"), split.samples_of("val")
    assert results == {"train_views": 3 * len(train), "val_views": len(val)}
    assert sorted(p.name for p in (tmp_path / "pixels").iterdir()) == ["train-00000.npy", "val-00000.npy"]
    pixels, views = open_shards(tmp_path / "pixels", "train"), read_views(views_folder, "train")
    assert pixels.shape == (len(train), 3, 16, 16, 3) and pixels.dtype == np.uint8
    for i, sample in enumerate(train):
        whole = open_image(root / sample.path)
        for k in range(3):
            expected = render(whole, views[i, k]["box"], 16, bool(views[i, k]["flip"]))
            np.testing.assert_array_equal(pixels[i, k], expected)
    evaluated = open_shards(tmp_path / "pixels", "val")
    for i, sample in enumerate(val):
        difference = evaluated[i, 0].astype(int) - load(root / sample.path, 16, "pad")
        assert np.abs(difference).max() <= 1  # the stored box is float32


def test_digits(digits, tmp_path):
    split_images(tmp_path / "split", digits, scan(digits), Data())
    split = read_split(tmp_path / "split")
    draw_views(tmp_path / "views", split, Views(count=1), "stretch")
    results = render_pixels(tmp_path / "pixels", digits, split, tmp_path / "views", 32)
    assert results == {"train_views": 1259, "val_views": 179}
    assert open_shards(tmp_path / "pixels", "train").shape == (1259, 1, 32, 32, 3)
    assert len(list((tmp_path / "pixels").glob("train-*.npy"))) == 3


def test_a_killed_call_renders_the_rest(made, tmp_path, monkeypatch):
    render_pixels(tmp_path / "pixels", *made, 16)
    (tmp_path / "pixels" / "val-00000.npy").unlink()
    names, real = [], pixel_store.opened
    monkeypatch.setattr(pixel_store, "opened", lambda path: names.append(path) or real(path))
    render_pixels(tmp_path / "pixels", *made, 16)
    assert len(names) == len(made[1].samples_of("val"))


def test_an_image_that_changed_since_the_split(made, image, tmp_path):
    root, split, views_folder = made
    path = image(root / split.samples_of("train")[0].path, 5, (9, 9))
    with pytest.raises(DataError) as error:
        render_pixels(tmp_path / "pixels", root, split, views_folder, 16)
    assert f"{path}: must be the image of " in str(error.value) and ", got 9 x 9. It has changed" in str(error.value)
    path.unlink()
    with pytest.raises(ImageError, match="must be there, got no such file or directory"):
        render_pixels(tmp_path / "pixels", root, split, views_folder, 16)
    assert not list((tmp_path / "pixels").iterdir())
