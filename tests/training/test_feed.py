"""What the student sees: every image once an epoch, every view in turn, and the same again after a restart."""

import numpy as np
import pytest

from kd2mobile.errors import ArtifactError, TrainingError
from kd2mobile.training.feed import Evaluated, Feed, class_weights, image_order, view_choice

from .conftest import with_unlabelled


def feed_of(stores, batch_size=16, seed=0, **changes):
    given = {"labels": stores.train_labels, "classes": stores.classes, "transfer_folder": stores.transfer_folder}
    return Feed(
        **given | {"unlabelled": stores.unlabelled} | changes,
        pixels_folder=stores.pixels_folder,
        batch_size=batch_size,
        seed=seed,
    )


def test_every_cycle_of_epochs_shows_every_view_of_every_image():
    for first in (0, 4, 8):
        seen = np.stack([view_choice(30, 4, 5, epoch) for epoch in range(first, first + 4)])
        assert (np.sort(seen, axis=0) == np.arange(4)[:, None]).all()


def test_order_and_views_depend_on_seed_and_epoch_alone():
    assert (image_order(40, 1, 6) == image_order(40, 1, 6)).all()
    assert (view_choice(40, 4, 1, 6) == view_choice(40, 4, 1, 6)).all()
    for other in ((1, 7), (2, 6)):
        assert (image_order(40, 1, 6) != image_order(40, *other)).any()
        assert (view_choice(40, 4, 1, 6) != view_choice(40, 4, *other)).any()


def test_an_epoch_shows_every_image_and_fills_its_last_batch_with_second_views(stores):
    feed = feed_of(stores)
    pixels = np.concatenate([x for x, _ in feed.epoch(2)])
    assert feed.steps == 4 and len(pixels) == 64
    order, view = image_order(50, 0, 2), view_choice(50, 2, 0, 2)
    stored = np.load(stores.pixels_folder / "train-00000.npy")
    assert (pixels[:50] == stored[order, view[order]]).all()
    assert (pixels[50:] == stored[order[:14], 1 - view[order[:14]]]).all()


def test_targets_are_one_hot_and_the_logits_of_the_very_view(stores):
    feed = feed_of(stores)
    targets = np.concatenate([y for _, y in feed.epoch(1)])[:50]
    order, view = image_order(50, 0, 1), view_choice(50, 2, 0, 1)
    assert targets.dtype == np.float32
    assert (targets[:, :3] == np.eye(3)[stores.train_labels[order]]).all()
    assert (targets[:, 3:] == np.load(stores.transfer_folder / "train-00000.npy")[order, view[order]]).all()


def test_without_a_teacher_the_soft_half_is_zero(stores):
    assert all((y[:, 3:] == 0).all() for _, y in feed_of(stores, transfer_folder=None).epoch(0))


def test_a_batch_is_never_larger_than_the_set(stores):
    feed = feed_of(stores, batch_size=200)
    assert [x.shape[0] for x, _ in feed.epoch(0)] == [50]


def test_unlabelled_images_come_once_per_epoch_with_the_teachers_logits_alone(stores):
    feed = feed_of(with_unlabelled(stores))
    pixels, targets = (np.concatenate(part) for part in zip(*feed.epoch(1), strict=True))
    order, view = image_order(70, 0, 1), view_choice(70, 2, 0, 1)
    assert feed.steps == 5 and len(pixels) == 80
    stored = np.load(feed.pixels.second._paths[0]), np.load(feed.logits.second._paths[0])
    own = np.load(stores.pixels_folder / "train-00000.npy"), np.load(stores.transfer_folder / "train-00000.npy")
    for place in range(70):
        i, k = order[place], view[order[place]]
        from_pixels, from_logits = own if i < 50 else stored
        i_there = i if i < 50 else i - 50
        assert (pixels[place] == from_pixels[i_there, k]).all() and (
            targets[place, 3:] == from_logits[i_there, k]
        ).all()
        assert (targets[place, :3] == (np.eye(3)[stores.train_labels[i]] if i < 50 else 0)).all()
    assert (order >= 50).sum() == 20 and (order[:32] >= 50).any(), "mixed among the others"


def test_class_weights_by_hand():
    # 6 examples of 3 classes: 6 / (3 * 3), 6 / (3 * 2), 6 / (3 * 1)
    weights = class_weights(np.array([0, 0, 0, 1, 1, 2]), 3)
    np.testing.assert_allclose(weights, [2 / 3, 1, 2], rtol=1e-6)
    assert weights.dtype == np.float32


def test_weights_come_with_the_examples_and_unlabelled_ones_weigh_1(stores):
    labels = np.where(np.arange(50) < 30, 0, stores.train_labels)
    batches = list(feed_of(with_unlabelled(stores), labels=labels, weighted=True).epoch(0))
    given = np.concatenate([y[:, :3] for _, y, _ in batches])
    weights = np.concatenate([w for _, _, w in batches])
    counts = np.bincount(labels, minlength=3)
    expected = np.where(given.any(axis=1), 50 / (3 * counts[given.argmax(axis=1)]), 1)
    assert weights.dtype == np.float32 and len(set(weights.tolist())) == len({*counts.tolist()}) + 1
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert all(len(batch) == 2 for batch in feed_of(stores).epoch(0)), "no weights unless they are asked for"


def test_unlabelled_stores_that_do_not_fit_are_refused(stores):
    pixels, transfer = with_unlabelled(stores).unlabelled
    logits = np.load(transfer / "unlabelled-00000.npy")
    np.save(transfer / "unlabelled-00000.npy", logits[:19])
    with pytest.raises(TrainingError, match=r"must be \[20, 2, 3\] for \[images, views, classes\], got \[19, 2, 3\]"):
        feed_of(stores, unlabelled=(pixels, transfer))


def test_validation_images_come_in_order_in_batches_of_one_size(stores):
    batches = list(Evaluated(stores.val_labels, stores.pixels_folder).batches(8))
    assert [len(b) for b in batches] == [8, 8]
    stored = np.load(stores.pixels_folder / "val-00000.npy")[:, 0]
    assert (np.concatenate(batches)[:14] == stored).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.zeros(49, int)}, "pixels, train: must be [49] for [images], got [50]"),
        ({"classes": 4}, "transfer, train: must be [50, 2, 4] for [images, views, classes], got [50, 2, 3]"),
    ],
)
def test_stores_of_other_images_are_refused(stores, changes, message):
    with pytest.raises(TrainingError) as caught:
        feed_of(stores, **changes)
    assert message in str(caught.value)


def test_a_missing_store_is_named(stores, tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere.train-00000.npy: must be there"):
        feed_of(stores, transfer_folder=tmp_path / "nowhere")
