"""The stage `thumbnails`: decodes each image once, for its size, its fault and a thumbnail of 16 x 16 pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.shards import SHARD, open_shards, shard_path, write_shards
from kd2mobile.data.sources.roots import Root
from kd2mobile.data.sources.scan import ScannedImage
from kd2mobile.errors import ArtifactError, ImageError
from kd2mobile.files import read_json, write_json
from kd2mobile.pixels import Box, Range, examined, render

THUMBNAIL_PX = 16
WHOLE = Box(0.0, 0.0, 1.0, 1.0)
NAME = "thumbnails"
ROW = np.dtype(
    [("sha256", "S64"), ("width", "<u4"), ("height", "<u4"), ("values", "<f8", 2)]
    + [("pixels", "u1", (THUMBNAIL_PX, THUMBNAIL_PX, 3))]
)
"""The stored row of one content. width is 0 if it cannot be decoded; values is NaN for an image of 8 bits."""


class Decoded(NamedTuple):
    """The result of decoding one content.

    width, height: in pixels, after EXIF rotation; values: the darkest and the brightest pixel value of an image with
    more than 8 bits, else None; reason: why the image cannot be used, empty if it can.
    """

    width: int
    height: int
    values: Range | None = None
    reason: str = ""


class Thumbnails(NamedTuple):
    """The results of decoding the images, by the SHA-256 of their content, and the thumbnails of the usable ones.

    contents: the SHA-256 of each row of pixels; pixels: uint8 [contents, 16, 16, 3], each whole image stretched to a
    square.
    """

    decoded: dict[str, Decoded]
    contents: list[str]
    pixels: np.ndarray

    def merged_with(self, other: "Thumbnails") -> "Thumbnails":
        """These thumbnails and those of the other; a content in both is kept once."""
        new = [row for row, content in enumerate(other.contents) if content not in self.decoded]
        return Thumbnails(
            other.decoded | self.decoded,
            self.contents + [other.contents[row] for row in new],
            np.concatenate([self.pixels, other.pixels[new]]),
        )


def make_thumbnails(root: Root, images: Sequence[ScannedImage]) -> Thumbnails:
    """Decodes the images and returns their thumbnails. An image that cannot be decoded has a reason instead."""
    rows, broken = _rows(root, _distinct(images))
    return _thumbnails(rows, broken)


def write_thumbnails(folder: Path, root: Root, images: Sequence[ScannedImage]) -> dict[str, Any]:
    """Writes the thumbnails of the images as thumbnails-*.npy, and the reasons of broken images as broken-*.json.

    Shards that a killed call completed are kept. Returns the numbers of contents and of broken ones. Raises
    ArtifactError if the disk is full.
    """
    distinct = _distinct(images)
    for number in range(-(-len(distinct) // SHARD)):
        _remove_incomplete(folder, number)

    def make(numbers: range) -> np.ndarray:
        rows, broken = _rows(root, [distinct[number] for number in numbers])
        if broken:
            write_json(_broken(folder, numbers.start // SHARD), broken)
        return rows[:, None]

    write_shards(folder, NAME, len(distinct), make, NAME, "images")
    return {"contents": len(distinct), "broken": sum(not d.width for d in read_thumbnails(folder).decoded.values())}


def read_thumbnails(folder: Path) -> Thumbnails:
    """Reads what write_thumbnails wrote into memory. Raises ArtifactError if a file is missing or damaged."""
    stored = open_shards(folder, NAME)
    rows = stored.take(np.arange(len(stored)), np.zeros(len(stored), int))
    broken: dict[str, str] = {}
    for path in sorted(Path(folder).glob("broken-*.json")):
        next_step = f"Remove the folder {folder}; the next run builds it again."
        broken |= read_json(path, dict[str, str], next_step, error=ArtifactError)
    return _thumbnails(rows, broken)


def _distinct(images: Sequence[ScannedImage]) -> list[ScannedImage]:
    """One image per content, the first by path."""
    first: dict[str, ScannedImage] = {}
    for image in sorted(images, key=lambda image: image.path):
        first.setdefault(image.sha256, image)
    return list(first.values())


def _rows(root: Root, images: Sequence[ScannedImage]) -> tuple[np.ndarray, dict[str, str]]:
    """A ROW per image, and by SHA-256 the reasons of images that cannot be decoded."""
    rows = np.zeros(len(images), ROW)
    broken: dict[str, str] = {}

    def decode(numbered: tuple[int, ScannedImage]) -> None:
        number, image = numbered
        rows[number]["sha256"] = image.sha256
        try:
            with examined(root / image.path) as (opened, depth):
                rows[number]["pixels"] = render(opened, WHOLE, THUMBNAIL_PX)
            rows[number]["values"] = depth.values or np.nan
            rows[number]["width"], rows[number]["height"] = depth.width, depth.height
        except ImageError as fault:
            broken[image.sha256] = str(fault.got)

    for _ in in_threads(decode, enumerate(images)):
        pass
    return rows, dict(sorted(broken.items()))


def _thumbnails(rows: np.ndarray, broken: dict[str, str]) -> Thumbnails:
    contents = [content.decode() for content in rows["sha256"].tolist()]
    sizes = zip(contents, rows["width"].tolist(), rows["height"].tolist(), rows["values"].tolist(), strict=True)
    whole = rows["width"] > 0
    return Thumbnails(
        {
            content: Decoded(width, height, None if np.isnan(values[0]) else tuple(values), broken.get(content, ""))
            for content, width, height, values in sizes
        },
        [content for content, is_whole in zip(contents, whole.tolist(), strict=True) if is_whole],
        rows["pixels"][whole],
    )


def _broken(folder: Path, number: int) -> Path:
    return Path(folder) / f"broken-{number:05d}.json"


def _remove_incomplete(folder: Path, number: int) -> None:
    """Removes a file of reasons without its shard, and a shard without its reasons, so that both are built again."""
    shard, broken = shard_path(folder, NAME, number), _broken(folder, number)
    if not shard.exists():
        broken.unlink(missing_ok=True)
    elif not broken.exists():
        try:
            incomplete = (np.load(shard)["width"] == 0).any()
        except (OSError, ValueError, EOFError, IndexError):
            incomplete = True
        if incomplete:
            shard.unlink()
