"""Writes arrays of images as class folders."""

from pathlib import Path

import numpy as np
from PIL import Image

from kd2mobile import progress
from kd2mobile.data.in_threads import in_threads
from kd2mobile.files import replaced


def numbered(classes: int) -> list[str]:
    """Numbers as class names, padded with zeros so that they sort in the order of the labels.

    >>> numbered(11)[:2], numbered(11)[-1]
    (['00', '01'], '10')
    """
    width = len(str(classes - 1))
    return [f"{label:0{width}d}" for label in range(classes)]


def write_images(folder: Path, images: np.ndarray, labels: np.ndarray, names: list[str]) -> None:
    """Writes `<class>/<index>.png` for each image. An existing file is kept.

    The files are not compressed, so that their bytes, and with them the split, do not depend on Pillow's zlib.
    images: uint8 [n, height, width] or [n, height, width, 3]; labels: int [n], indices into names.
    """
    width = len(str(len(images) - 1))
    for label in np.unique(labels):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)

    def write(index: int) -> None:
        path = folder / names[labels[index]] / f"{index:0{width}d}.png"
        if not path.exists():
            with replaced(path, durable=False) as temporary:  # thousands, whose SHA-256 the record has
                Image.fromarray(images[index]).save(temporary, format="PNG", compress_level=0)

    with progress.bar(f"writing {folder.name}", len(images), "images") as advance:
        for _ in in_threads(write, range(len(images))):
            advance(1)
