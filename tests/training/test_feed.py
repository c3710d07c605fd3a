"""What the student sees: every picture once an epoch, every view in turn, and the same again after a restart."""

import numpy as np
import pytest

from kd2mobile.errors import ArtifactError, TrainingError
from kd2mobile.training.feed import Feed, Judged, picture_order, view_choice


def feed_of(stores, batch_size=16, seed=0, **changes):
    given = {"labels": stores.train_labels, "classes": stores.classes, "transfer_folder": stores.transfer_folder}
    return Feed(**given | changes, pixels_folder=stores.pixels_folder, batch_size=batch_size, seed=seed)


def test_every_cycle_of_epochs_shows_every_view_of_every_picture():
    for first in (0, 4, 8):
        seen = np.stack([view_choice(30, 4, 5, epoch) for epoch in range(first, first + 4)])
        assert (np.sort(seen, axis=0) == np.arange(4)[:, None]).all()


def test_order_and_views_depend_on_seed_and_epoch_alone():
    assert (picture_order(40, 1, 6) == picture_order(40, 1, 6)).all()
    assert (view_choice(40, 4, 1, 6) == view_choice(40, 4, 1, 6)).all()
    for other in ((1, 7), (2, 6)):
        assert (picture_order(40, 1, 6) != picture_order(40, *other)).any()
        assert (view_choice(40, 4, 1, 6) != view_choice(40, 4, *other)).any()


def test_an_epoch_shows_every_picture_and_fills_its_last_batch_with_second_views(stores):
    feed = feed_of(stores)
    pixels = np.concatenate([x for x, _ in feed.epoch(2)])
    assert feed.steps == 4 and len(pixels) == 64
    order, view = picture_order(50, 0, 2), view_choice(50, 2, 0, 2)
    stored = np.load(stores.pixels_folder / "train-00000.npy")
    assert (pixels[:50] == stored[order, view[order]]).all()
    assert (pixels[50:] == stored[order[:14], 1 - view[order[:14]]]).all()


def test_targets_are_one_hot_and_the_logits_of_the_very_view(stores):
    feed = feed_of(stores)
    targets = np.concatenate([y for _, y in feed.epoch(1)])[:50]
    order, view = picture_order(50, 0, 1), view_choice(50, 2, 0, 1)
    assert targets.dtype == np.float32
    assert (targets[:, :3] == np.eye(3)[stores.train_labels[order]]).all()
    assert (targets[:, 3:] == np.load(stores.transfer_folder / "train-00000.npy")[order, view[order]]).all()


def test_without_a_teacher_the_soft_half_is_zero(stores):
    assert all((y[:, 3:] == 0).all() for _, y in feed_of(stores, transfer_folder=None).epoch(0))


def test_a_batch_is_never_larger_than_the_set(stores):
    feed = feed_of(stores, batch_size=200)
    assert [x.shape[0] for x, _ in feed.epoch(0)] == [50]


def test_validation_pictures_come_in_order_in_batches_of_one_size(stores):
    batches = list(Judged(stores.val_labels, stores.pixels_folder).batches(8))
    assert [len(b) for b in batches] == [8, 8]
    stored = np.load(stores.pixels_folder / "val-00000.npy")[:, 0]
    assert (np.concatenate(batches)[:14] == stored).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros(49, int)}, "pixels, train: must be [49] for [pictures], got [50]"),
        ({"classes": 4}, "transfer, train: must be [50, 2, 4] for [pictures, views, classes], got [50, 2, 3]"),
    ],
)
def test_stores_of_other_pictures_are_refused(stores, changes, message):
    with pytest.raises(TrainingError) as caught:
        feed_of(stores, **changes)
    assert message in str(caught.value)


def test_a_missing_store_is_named(stores, tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere.train-00000.npy: must be there"):
        feed_of(stores, transfer_folder=tmp_path / "nowhere")
