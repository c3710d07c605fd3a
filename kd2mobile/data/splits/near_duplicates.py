"""Images that look the same though their files differ: a perceptual hash finds them, their pixels confirm it.

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
"""Root mean square difference of two near duplicates' thumbnails, in steps of 255."""
LEAST_CORRELATION = 0.95
"""Of the luma of two near duplicates' thumbnails: images of little contrast differ little whatever they show."""
PAIRS_AT_ONCE = 1_000_000
"""Hashes compared by one call."""
THUMBNAILS_AT_ONCE = 8192
"""Thumbnails that are numbers at one time: 6 MB as bytes, 25 MB as float32."""
PASSES = 4 * 17
LUMA = np.array([0.299, 0.587, 0.114])
_BITS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def perceptual_hashes(thumbnails: np.ndarray) -> np.ndarray:
    """The pHash of each thumbnail: which of its 8 x 8 lowest cosine frequencies lie above their median.

    thumbnails: uint8 [n, px, px, 3]. Returns uint64 [n]; the frequency (0, 0) is the highest bit, rows first. A
    image of one colour has that bit alone. Source: Zauner 2010, Implementation and Benchmarking of Perceptual Image
    Hash Functions, section 3.2.1 (DCT based hash), on luma as ITU-R BT.601 weighs it.
    """
    px = thumbnails.shape[1]
    frequency, place = np.arange(HASH_SIDE)[:, None], np.arange(px)[None]
    cosines = np.cos(np.pi * frequency * (2 * place + 1) / (2 * px))
    hashes = np.empty(len(thumbnails), np.uint64)
    for begin in range(0, len(thumbnails), THUMBNAILS_AT_ONCE):
        luma = thumbnails[begin : begin + THUMBNAILS_AT_ONCE] @ LUMA
        coefficients = np.round(cosines @ luma @ cosines.T, 3).reshape(-1, HASH_SIDE**2)
        above = coefficients > np.median(coefficients, axis=1, keepdims=True)
        hashes[begin : begin + len(luma)] = np.packbits(above, axis=1).view(">u8").reshape(-1)
    return hashes


def close_pairs(hashes: np.ndarray, advance: Callable[[int], None] = lambda passes: None) -> Iterator[np.ndarray]:
    """Every pair of hashes that differ in at most MOST_BITS bits, each once: int [m, 2], the smaller index first.

    hashes: uint64 [n]; advance: called with 1 after each of the PASSES. Of four bands of 16 bits at least one differs
    in no more than one bit, so only images whose band is the same or one bit away are compared. Memory is bounded by
    PAIRS_AT_ONCE and the largest set of equal bands. Source: Norouzi, Punjani, Fleet 2012, Fast Search in Hamming
    Space with Multi-Index Hashing, section 3.
    """
    bands = hashes[:, None].view(np.uint16)
    for number in range(bands.shape[1]):
        order = np.argsort(bands[:, number], kind="stable")
        starts = np.searchsorted(bands[order, number], np.arange((1 << 16) + 1))
        for flipped in (0, *(1 << bit for bit in range(16))):
            wanted = bands[:, number].astype(np.int64) ^ flipped
            counts = starts[wanted + 1] - starts[wanted]
            ends = np.cumsum(counts)
            begin = 0
            while begin < len(hashes):
                before = ends[begin - 1] if begin else 0
                end = max(begin + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, side="right")))
                here = counts[begin:end]
                first = np.repeat(np.arange(begin, end), here)
                within = np.arange(len(first)) - np.repeat(np.cumsum(here) - here, here)
                second = order[np.repeat(starts[wanted[begin:end]], here) + within]
                later = first < second
                pairs = np.stack([first[later], second[later]], axis=1)
                differing = _BITS[bands[pairs[:, 0]] ^ bands[pairs[:, 1]]]
                unseen = (differing[:, :number] > 1).all(1)
                yield pairs[unseen & (differing.sum(1) <= MOST_BITS)]
                begin = end
            advance(1)


def confirmed(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The root mean square difference of each pair's thumbnails, infinite where it is no near duplicate.

    thumbnails: uint8 [n, 16, 16, 3]; pairs: int [m, 2]. Returns float32 [m], in steps of 255.
    """
    one, other = (thumbnails[pairs[:, side]].astype(np.float32) for side in (0, 1))
    difference = np.sqrt(np.square(one - other).mean((1, 2, 3)))
    a, b = ((image @ LUMA.astype(np.float32)).reshape(-1, THUMBNAIL_PX**2) for image in (one, other))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    spread = np.sqrt(np.square(a).mean(1) * np.square(b).mean(1))
    alike = ((a * b).mean(1) >= LEAST_CORRELATION * spread) | (spread < 1)
    return np.where(alike & (difference <= MOST_DIFFERENCE), difference, np.float32(np.inf))


def near_pairs(thumbnails: Thumbnails) -> Iterator[tuple[str, str, float]]:
    """Every pair of contents that look the same, by SHA-256, and the root mean square difference of their thumbnails in
    steps of 255."""
    contents, pixels = thumbnails.contents, thumbnails.pixels
    with progress.bar("comparing", PASSES, "passes") as advance:
        for close in close_pairs(perceptual_hashes(pixels), advance):
            for begin in range(0, len(close), THUMBNAILS_AT_ONCE):
                pairs = close[begin : begin + THUMBNAILS_AT_ONCE]
                difference = confirmed(pixels, pairs)
                same = difference < np.inf
                for (i, j), steps in zip(pairs[same].tolist(), difference[same].tolist(), strict=True):
                    yield contents[i], contents[j], steps
