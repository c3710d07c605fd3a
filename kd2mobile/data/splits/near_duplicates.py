"""Finds near duplicates: images that look the same though their files differ. Perceptual hashes propose pairs, and
the pixels of the thumbnails confirm them.

Why these hashes and thresholds: docs/decisions/0006-near-duplicates.md.
"""

from collections.abc import Callable, Iterator

import numpy as np

from kd2mobile import progress
from kd2mobile.data.thumbnails import THUMBNAIL_PX, Thumbnails

HASH_SIDE = 8
MOST_BITS = 7
"""Bits of 64 in which the hashes of two near duplicates may differ; `close_pairs` can find no more than 7."""
MOST_DIFFERENCE = 6.0
"""The largest root mean square difference of two near duplicates' thumbnails, in grey levels of 0..255."""
LEAST_CORRELATION = 0.95
"""The least correlation of the luma of two near duplicates' thumbnails. Images of little contrast differ little
whatever
they show, so the difference alone does not decide."""
PAIRS_AT_ONCE = 1_000_000
"""The most pairs of hashes that are compared at once."""
THUMBNAILS_AT_ONCE = 8192
"""The most thumbnails that are processed at once: 6 MB as bytes, 25 MB as float32."""
PASSES = 4 * 17
LUMA = np.array([0.299, 0.587, 0.114])
_BITS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def perceptual_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """The pHash of each thumbnail: a bit for each of its 8 x 8 lowest cosine frequencies, set where it is above their
    median.

    thumbnails: uint8 [n, px, px, 3]. Returns uint64 [n]; the frequency (0, 0) is the highest bit, rows first. An image
    of one colour has only that bit set. Source: Zauner 2010, Implementation and Benchmarking of Perceptual Image
    Hash Functions, section 3.2.1 (DCT based hash), on luma as ITU-R BT.601 weighs it.
    """
    px = thumbnails.shape[1]
    frequency, position = np.arange(HASH_SIDE)[:, None], np.arange(px)[None]
    cosines = np.cos(np.pi * frequency * (2 * position + 1) / (2 * px))
    hashes = np.empty(len(thumbnails), np.uint64)
    for begin in range(0, len(thumbnails), THUMBNAILS_AT_ONCE):
        luma = thumbnails[begin : begin + THUMBNAILS_AT_ONCE] @ LUMA
        coefficients = np.round(cosines @ luma @ cosines.T, 3).reshape(-1, HASH_SIDE**2)
        above = coefficients > np.median(coefficients, axis=1, keepdims=True)
        hashes[begin : begin + len(luma)] = np.packbits(above, axis=1).view(">u8").reshape(-1)
    return hashes


def close_pairs(hashes: np.ndarray, advance: Callable[[int], None] = lambda passes: None) -> Iterator[np.ndarray]:
    """Every pair of hashes that differ in at most MOST_BITS bits, each once: int [m, 2], the smaller index first.

    hashes: uint64 [n]; advance: called with 1 after each of the PASSES. If two hashes differ in at most 7 bits, one of
    their four bands of 16 bits differs in at most one bit, so only hashes with such a band are compared. Memory is
    bounded by PAIRS_AT_ONCE and the largest set of equal bands. Source: Norouzi, Punjani, Fleet 2012, Fast Search in
    Hamming Space with Multi-Index Hashing, section 3.
    """
    bands = hashes[:, None].view(np.uint16)
    for number in range(bands.shape[1]):
        order = np.argsort(bands[:, number], kind="stable")
        starts = np.searchsorted(bands[order, number], np.arange((1 << 16) + 1))
        for flipped in (0, *(1 << bit for bit in range(16))):
            close_bands = bands[:, number].astype(np.int64) ^ flipped
            counts = starts[close_bands + 1] - starts[close_bands]
            ends = np.cumsum(counts)
            begin = 0
            while begin < len(hashes):
                before = ends[begin - 1] if begin else 0
                end = max(begin + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, side="right")))
                chunk = counts[begin:end]
                first = np.repeat(np.arange(begin, end), chunk)
                within = np.arange(len(first)) - np.repeat(np.cumsum(chunk) - chunk, chunk)
                second = order[np.repeat(starts[close_bands[begin:end]], chunk) + within]
                later = first < second
                pairs = np.stack([first[later], second[later]], axis=1)
                differing = _BITS[bands[pairs[:, 0]] ^ bands[pairs[:, 1]]]
                unseen = (differing[:, :number] > 1).all(1)
                yield pairs[unseen & (differing.sum(1) <= MOST_BITS)]
                begin = end
            advance(1)


def confirmed(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The root mean square difference of each pair's thumbnails, infinite where the pair is no near duplicate.

    thumbnails: uint8 [n, 16, 16, 3]; pairs: int [m, 2]. Returns float32 [m], in grey levels of 0..255.
    """
    firsts, seconds = (thumbnails[pairs[:, side]].astype(np.float32) for side in (0, 1))
    difference = np.sqrt(np.square(firsts - seconds).mean((1, 2, 3)))
    a, b = ((image @ LUMA.astype(np.float32)).reshape(-1, THUMBNAIL_PX**2) for image in (firsts, seconds))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    spread = np.sqrt(np.square(a).mean(1) * np.square(b).mean(1))
    correlated = ((a * b).mean(1) >= LEAST_CORRELATION * spread) | (spread < 1)
    return np.where(correlated & (difference <= MOST_DIFFERENCE), difference, np.float32(np.inf))


def near_pairs(thumbnails: Thumbnails) -> Iterator[tuple[str, str, float]]:
    """Yields every pair of near duplicates: their SHA-256s, and the root mean square difference of their thumbnails in
    grey levels of 0..255."""
    contents, pixels = thumbnails.contents, thumbnails.pixels
    with progress.bar("comparing", PASSES, "passes") as advance:
        for close in close_pairs(perceptual_hashes(pixels), advance):
            for begin in range(0, len(close), THUMBNAILS_AT_ONCE):
                pairs = close[begin : begin + THUMBNAILS_AT_ONCE]
                difference = confirmed(pixels, pairs)
                same = difference < np.inf
                for (i, j), steps in zip(pairs[same].tolist(), difference[same].tolist(), strict=True):
                    yield contents[i], contents[j], steps
