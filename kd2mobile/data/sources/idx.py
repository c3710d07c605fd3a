"""Folders of idx files, the format of MNIST: training images and labels, and perhaps test images and labels."""

import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from kd2mobile.data.sources.written import numbered, write_images
from kd2mobile.errors import DataError
from kd2mobile.files import check_regular, is_left_by_system, os_error, sha256_of
from kd2mobile.pixels import LARGEST_IMAGE
from kd2mobile.text import listed

NAME = re.compile(r"(?P<set>.*?)(?P<part>train|t10k|test)-(?P<kind>images|labels)[-.]idx(?P<axes>[13])-ubyte(\.gz)?")
SPLITS = {"train": "train", "t10k": "test", "test": "test"}
LARGEST_UNPACKED = 2**31
"""The largest number of bytes that a .gz may unpack to; the largest file of EMNIST has 547 million."""
NEEDED = "Give the folder of the four files: train-images-idx3-ubyte, train-labels-idx1-ubyte and t10k-... of each."


class _Pair(NamedTuple):
    images: Path
    labels: Path


def is_idx_folder(folder: Path) -> bool:
    """Whether a file named like one of MNIST's lies directly in the folder."""
    return folder.is_dir() and any(map(_match, folder.iterdir()))


def _match(path: Path) -> re.Match | None:
    return None if is_left_by_system(path.name) else NAME.fullmatch(path.name)


def idx_content(folder: Path) -> dict[str, str]:
    """The SHA-256 of each of the files, by split and kind. Raises DataError if one is missing."""
    pairs = _pairs(folder)
    return {
        f"{split} {kind}": sha256_of(file) for split, pair in pairs.items() for kind, file in pair._asdict().items()
    }


def write_idx_images(source: Path, folder: Path) -> None:
    """Writes the images as `train/<label>/<index>.png` and, if the source has test files, `test/...`.

    The classes are the labels as numbers. Any number of labels and any size of image is accepted.
    Raises DataError for a file that is missing, incomplete or no idx file, and for images and labels of different
    number.
    """
    read = {split: _read_pair(pair) for split, pair in _pairs(source).items()}
    names = numbered(max(int(labels.max()) for _, labels in read.values()) + 1)
    for split, (images, labels) in read.items():
        write_images(folder / split, images, labels, names)


def _pairs(folder: Path) -> dict[str, _Pair]:
    """The files of train and, if present, of test. An unpacked file is preferred to the .gz of the same name."""
    found: dict[tuple[str, str, str], Path] = {}
    for path in sorted(folder.iterdir(), key=lambda path: (path.suffix == ".gz", path.name)):
        if match := _match(path):
            check_regular(path, DataError, NEEDED)
            found.setdefault((match["set"], SPLITS[match["part"]], match["kind"]), path)
    sets = sorted({name for name, _, _ in found})
    if len(sets) > 1:
        got = listed(map(repr, sets))
        raise DataError(folder, "must hold the idx files of one set", got, "Move each set to a folder of its own.")
    pairs = {}
    for split in ("train", "test"):
        files = {kind: found.get((sets[0], split, kind)) for kind in ("images", "labels")}
        missing = [kind for kind, file in files.items() if file is None]
        if missing and (split == "train" or len(missing) == 1):
            present = [file.name for file in files.values() if file]
            must = f"must hold the {' and '.join(missing)} of {split} as idx files"
            got = f"{present[0]} alone" if present else "only test files"
            raise DataError(folder, must, got, NEEDED)
        if not missing:
            pairs[split] = _Pair(**files)
    return pairs


def _read_pair(pair: _Pair) -> tuple[np.ndarray, np.ndarray]:
    """The images, uint8 [n, height, width], and the labels, uint8 [n]."""
    images, labels = _read(pair.images, 3), _read(pair.labels, 1)
    if len(images) != len(labels):
        must = f"must have a label for each of the {len(images)} images of {pair.images.name}"
        raise DataError(pair.labels, must, len(labels), "The two files are not of one set: download them again.")
    if len(set(labels.tolist())) < 2:
        next_step = "A classifier tells classes apart: give labels of two classes or more."
        raise DataError(pair.labels, "must hold at least 2 different labels", len(set(labels.tolist())), next_step)
    return images, labels


def _read(file: Path, axes: int) -> np.ndarray:
    """The array in an idx file of unsigned bytes.

    The header is a magic number with the type (8) and the number of axes, then the size of each axis. The sizes are
    checked before that much memory is taken, and no more than that is ever unpacked.
    """
    next_step = "Download it again."
    packed = file.suffix == ".gz"
    try:
        with gzip.open(file) if packed else open(file, "rb") as stream:
            header = stream.read(4 + 4 * axes)
            sizes = _sizes(file, axes, header, packed)
            count = math.prod(sizes)
            available = count if packed else os.fstat(stream.fileno()).st_size - len(header)
            stored = b"".join(_pieces(stream, count + 1)) if available == count else b""
    except (OSError, EOFError, zlib.error) as fault:
        if isinstance(fault, OSError) and fault.errno:
            raise os_error(fault, file) from fault
        raise DataError(file, "must be a complete file", f"{type(fault).__name__}: {fault}", next_step) from fault
    got = len(stored) if available == count else available
    if got != count:
        must = f"must hold {' x '.join(map(str, sizes))} bytes after its header"
        raise DataError(file, must, f"more than {count} bytes" if packed and got > count else f"{got} bytes", next_step)
    return np.frombuffer(stored, np.uint8).reshape(sizes)


def _pieces(stream: IO[bytes], most: int) -> Iterator[bytes]:
    """The content of the stream in pieces, at most `most` bytes; a single read would take all memory at once."""
    while most and (piece := stream.read(min(most, 2**20))):
        yield piece
        most -= len(piece)


def _sizes(file: Path, axes: int, header: bytes, packed: bool) -> list[int]:
    """The sizes of the axes in the header of an idx file. Raises DataError for sizes that no set of images has."""
    magic = bytes([0, 0, 8, axes])
    if header[:4] != magic:
        must = f"must start with the magic number of an idx{axes} file of bytes, {magic.hex(' ')}"
        raise DataError(file, must, header[:4].hex(" ") or "an empty file", "Download it again.")
    if len(header) < 4 + 4 * axes:
        raise DataError(file, "must have a complete header", f"{len(header) - 4} bytes", "Download it again.")
    sizes = np.frombuffer(header[4:], ">u4").tolist()
    shown = " x ".join(map(str, sizes))
    if not all(sizes) or math.prod(sizes[1:]) > LARGEST_IMAGE:
        must = f"must hold images of 1 to {LARGEST_IMAGE:,} pixels, at least one"
        raise DataError(file, must, shown, "Download it again.")
    if packed and math.prod(sizes) > LARGEST_UNPACKED:
        must = f"must unpack to at most {LARGEST_UNPACKED:,} bytes"
        raise DataError(file, must, shown, "Unpack it with gunzip: for unpacked files there is no such limit.")
    return sizes
