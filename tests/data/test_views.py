"""The views: seeded by an image's content alone, evaluated views whole."""

from typing import get_args

import msgspec
import numpy as np
import pytest

from kd2mobile.data.split import Sample, Split
from kd2mobile.data.views import VIEW_DTYPE, draw_views, read_views
from kd2mobile.errors import ArtifactError
from kd2mobile.pixels import Resize, whole_box
from kd2mobile.recipe.schema import Views


def sample(i, split="train", size=(300, 200)):
    return Sample(f"cat/{i}.jpg", 0, split, f"{i * 7919:064x}"[::-1], *size)


TRAIN = [sample(i) for i in range(300)]
EVALUATED = [sample(1000, "val"), sample(1001, "val", (50, 80)), sample(1002, "test", (70, 70))]
SPLIT = Split(["cat", "dog"], TRAIN + EVALUATED)


def drawn(tmp_path, split=SPLIT, resize="crop", **views):
    draw_views(tmp_path, split, Views(**views), resize)
    return read_views(tmp_path, "train")


def test_shapes_and_results(tmp_path):
    results = draw_views(tmp_path, SPLIT, Views(count=3), "stretch")
    assert results == {"train": 900, "val": 2, "test": 1}
    train = read_views(tmp_path, "train")
    assert train.dtype == VIEW_DTYPE and train.shape == (300, 3)
    assert read_views(tmp_path, "val").shape == (2, 1) and read_views(tmp_path, "test").shape == (1, 1)
    assert (train["jitter"] == [1, 1, 1, 0]).all() and (train["mixup_partner"] == -1).all()
    assert (train["mixup_weight"] == 1).all() and set(np.unique(train["flip"])) == {0, 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["test.npy", "train.npy", "val.npy"]


@pytest.mark.parametrize("resize", get_args(Resize))
def test_evaluated_views_are_whole(tmp_path, resize):
    drawn(tmp_path, resize=resize)
    for name, sizes in {"val": [(300, 200), (50, 80)], "test": [(70, 70)]}.items():
        views = read_views(tmp_path, name)
        expected = [whole_box(*size, resize) for size in sizes]
        np.testing.assert_allclose(views["box"][:, 0], expected, atol=1e-7)
        assert not views["flip"].any()


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad"])
def test_without_drawn_views_training_images_are_whole_too(tmp_path, resize):
    assert draw_views(tmp_path, SPLIT, None, resize) == {"train": 300, "val": 2, "test": 1}
    views = read_views(tmp_path, "train")
    expected = np.tile(whole_box(300, 200, resize), (300, 1))
    np.testing.assert_allclose(views["box"][:, 0], expected, atol=1e-7)
    assert views.shape == (300, 1) and not views["flip"].any()


def test_all_views_differ_and_half_are_mirrored(tmp_path):
    train = drawn(tmp_path, count=4)
    assert len(np.unique(train["box"].reshape(-1, 4), axis=0)) == 1200
    assert abs(train["flip"].mean() - 0.5) < 4 * 0.5 / 1200**0.5
    assert not drawn(tmp_path, count=4, flip=False)["flip"].any()


def test_the_boxes_do_not_depend_on_flip_or_on_more_views(tmp_path):
    train = drawn(tmp_path, count=2)
    np.testing.assert_array_equal(drawn(tmp_path, count=2, flip=False)["box"], train["box"])
    np.testing.assert_array_equal(drawn(tmp_path, count=4)[:, :2], train)


def test_the_views_of_an_image_depend_on_its_content_and_the_seed(tmp_path):
    train = drawn(tmp_path)
    renamed = [msgspec.structs.replace(s, path=f"dog/{i}.png", label=1) for i, s in enumerate(TRAIN[:50:-1])]
    np.testing.assert_array_equal(drawn(tmp_path, Split(["a", "b"], renamed)), train[:50:-1])
    np.testing.assert_array_equal(drawn(tmp_path), train)
    assert (drawn(tmp_path, seed=1)["box"] != train["box"]).mean() > 0.9


def test_missing_damaged_and_other_files(tmp_path):
    with pytest.raises(ArtifactError, match=r"train.npy: must be there, got no such file\. Remove the folder"):
        read_views(tmp_path, "train")
    (tmp_path / "train.npy").write_bytes(b"no array")
    with pytest.raises(ArtifactError, match=r"train.npy: must be a complete \.npy file, got "):
        read_views(tmp_path, "train")
    np.save(tmp_path / "train.npy", np.zeros((3, 2)))
    with pytest.raises(ArtifactError, match=r"must hold views \[samples, views\], got float64 \[3, 2\]\."):
        read_views(tmp_path, "train")
