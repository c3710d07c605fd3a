"""Near duplicates: the hash against a plain cosine sum, the search against all pairs, and images drawn here."""

import math

import numpy as np
import pytest
from PIL import Image

from kd2mobile.data.sources.scan import ScannedImage
from kd2mobile.data.split import Sample, Split
from kd2mobile.data.splits import near_duplicates as near
from kd2mobile.data.splits.groups import Chains, near_groups
from kd2mobile.data.thumbnails import Thumbnails, make_thumbnails
from kd2mobile.pixels import Box, render


def soft_image(seed, size=(120, 90)):
    """An image of soft coloured spots; another seed gives one that looks different."""
    spots = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC)


def thumbnail(image):
    return render(image, Box(0.0, 0.0, 1.0, 1.0), near.THUMBNAIL_PX)


def split_of(*samples):
    """(path, label, split, content) of each; the classes are a and b."""
    return Split(["a", "b"], [Sample(path, label, split, sha, 9, 9) for path, label, split, sha in samples])


def naive_hash(image):
    """The definition, frequency by frequency: sums of cosines over float64 luma, above their median."""
    px = len(image)
    luma = [[0.299 * r + 0.587 * g + 0.114 * b for r, g, b in row] for row in image.tolist()]
    cosine = [[math.cos(math.pi * f * (2 * x + 1) / (2 * px)) for x in range(px)] for f in range(8)]
    found = [
        round(sum(luma[y][x] * cosine[v][y] * cosine[u][x] for y in range(px) for x in range(px)), 3)
        for v in range(8)
        for u in range(8)
    ]
    middle = sum(sorted(found)[31:33]) / 2
    return int("".join("1" if value > middle else "0" for value in found), 2)


def test_the_hash_is_the_sign_of_each_low_frequency_about_the_median():
    images = [thumbnail(soft_image(seed)) for seed in range(4)]
    assert near.perceptual_hashes(np.stack(images)).tolist() == [naive_hash(image) for image in images]


def test_an_image_of_one_colour_has_one_bit():
    flat = np.full((2, 16, 16, 3), [[[[90, 130, 7]]], [[[255, 255, 255]]]], np.uint8)
    assert near.perceptual_hashes(flat).tolist() == [1 << 63] * 2


@pytest.mark.parametrize("at_once", [7, 1_000_000])
def test_the_search_finds_every_close_pair_once(at_once, monkeypatch):
    monkeypatch.setattr(near, "PAIRS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 1 << 64, 12, np.uint64)
    flips = np.array([[1 << int(bit) for bit in rng.permutation(64)[:7]] for _ in range(240)], object)
    hashes = np.array(
        [int(centres[i % 12]) ^ sum(flips[i][: rng.integers(0, 8)].tolist()) for i in range(240)], np.uint64
    )
    expected = {
        (i, j) for j in range(240) for i in range(j) if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= near.MOST_BITS
    }
    passes = []
    found = [tuple(pair) for pairs in near.close_pairs(hashes, passes.append) for pair in pairs.tolist()]
    assert len(expected) > 500 and sorted(found) == sorted(expected)
    assert sum(passes) == near.PASSES


def groups_of(thumbnails, split):
    chains = Chains()
    for pair in near.near_pairs(thumbnails):
        chains.join(*pair)
    return near_groups(chains, split)


def thumbnails_of(root, split):
    return make_thumbnails(root, [ScannedImage(s.path, split.classes[s.label], None, s.sha256) for s in split.samples])


def test_a_smaller_copy_of_an_image_is_found_and_another_image_is_not(tmp_path):
    soft_image(0).save(tmp_path / "a0.png")
    soft_image(0).resize((60, 45)).save(tmp_path / "b0.jpg", quality=40)
    soft_image(1).save(tmp_path / "a1.png")
    split = split_of(("a0.png", 0, "train", "x"), ("a1.png", 0, "train", "y"), ("b0.jpg", 1, "test", "z"))
    (group,) = groups_of(thumbnails_of(tmp_path, split), split)
    assert group.paths == ["a0.png", "b0.jpg"]
    assert group.splits == ["train", "test"] and group.classes == ["a", "b"] and group.leaks
    assert 0 < group.difference < near.MOST_DIFFERENCE


def test_copies_alone_are_no_near_duplicates_but_come_with_their_group(tmp_path):
    for name in ("a.png", "copy.png"):
        soft_image(0).save(tmp_path / name)
    soft_image(0).save(tmp_path / "z.jpg", quality=90)
    alone = split_of(("a.png", 0, "train", "x"), ("copy.png", 0, "val", "x"))
    assert groups_of(thumbnails_of(tmp_path, alone), alone) == []
    split = split_of(("a.png", 0, "train", "x"), ("copy.png", 0, "val", "x"), ("z.jpg", 0, "train", "y"))
    (group,) = groups_of(thumbnails_of(tmp_path, split), split)
    assert group.paths == ["a.png", "copy.png", "z.jpg"] and group.splits == ["train", "val"]


def test_images_of_little_contrast_that_differ_are_not_the_same():
    pale = [np.clip(128 + (thumbnail(soft_image(seed)) / 255 - 0.5) * 12, 0, 255).astype(np.uint8) for seed in (0, 1)]
    pair = np.array([[0, 1]])
    assert np.abs(pale[0] - 128.0).max() <= 6
    assert np.isinf(near.confirmed(np.stack(pale), pair))
    assert near.confirmed(np.stack([pale[0], pale[0] + 1]), pair) == 1
    flat = np.full((2, 16, 16, 3), 200, np.uint8)
    assert near.confirmed(flat, pair) == 0, "without any contrast the difference decides"


def test_similar_handwritten_digits_are_not_near_duplicates():
    from sklearn.datasets import load_digits

    stored = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    thumbnails = np.stack([thumbnail(Image.fromarray(image).convert("RGB")) for image in stored])
    samples = [(f"{i:04d}", 0, "train", str(i)) for i in range(len(stored))]
    assert sum(len(pairs) for pairs in near.close_pairs(near.perceptual_hashes(thumbnails))) > 100
    contents = [content for *_, content in samples]
    assert groups_of(Thumbnails({}, contents, thumbnails), split_of(*samples)) == []
