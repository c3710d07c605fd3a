"""Images of one colour, in folders of its name."""

import pytest
from PIL import Image

from tests.tiny_models import COLOURS


@pytest.fixture
def photos(tmp_path):
    """Seven plain images in class folders, one of them in the wrong one: red/green.png."""
    root = tmp_path / "photos"
    for name, colour in COLOURS.items():
        image(root / name / "plain.png", colour)
        image(root / name / "half.png", [level // 2 for level in colour])
    image(root / "red" / "green.png", COLOURS["green"])
    return root


def image(path, colour, size=(12, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(colour)).save(path)
    return path
