"""The data that kd2mobile brings along, by name: each is written once as a folder of photos like any other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from kd2mobile.errors import MissingExtraError
from kd2mobile.registry import Registry

SOURCES: Registry[Callable[[Path], None]] = Registry("data")
"""materialise(folder): writes a folder of class folders; called again, it writes what is missing."""


@SOURCES.register(
    "digits", "1,797 handwritten digits, 8 x 8 grey, from scikit-learn's wheel (UCI, Alpaydin and Kaynak)"
)
def digits(folder: Path) -> None:
    """scikit-learn's digits as `<digit>/<index>.png`, the values 0 to 16 spread over 0 to 255.

    The files are not compressed: their bytes, and with them the split, are the same whatever zlib Pillow was built
    with. Raises MissingExtraError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as fault:
        raise MissingExtraError("data digits", "scikit-learn", "train") from fault
    stored = load_digits()
    pictures = (stored.images * (255 / 16)).round().astype(np.uint8)
    for index, (picture, digit) in enumerate(zip(pictures, stored.target, strict=True)):
        path = Path(folder) / str(digit) / f"{index:04d}.png"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        Image.fromarray(picture).save(temporary, format="PNG", compress_level=0)
        temporary.replace(path)
