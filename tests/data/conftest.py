"""Folders of images, made or materialised."""

import numpy as np
import pytest
from PIL import Image

from kd2mobile.data.sources.named import SOURCES


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """scikit-learn's digits as a folder of class folders. Not to be changed."""
    folder = tmp_path_factory.mktemp("digits")
    SOURCES["digits"](folder)
    return folder


def write_image(path, seed, size=(12, 8)):
    """A small image; another seed gives other bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(values).save(path, format="PNG", compress_level=0)
    return path


@pytest.fixture
def photos(tmp_path):
    """photos(name=count, ...) makes class folders of different images under tmp_path/photos."""

    def make(under="", **counts):
        root = tmp_path / "photos"
        for number, (name, count) in enumerate(counts.items()):
            for i in range(count):
                seed = (sum(under.encode()), number, i)
                write_image(root / under / name / f"{i}.png", seed)
        return root

    return make


@pytest.fixture
def image():
    return write_image
