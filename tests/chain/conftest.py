"""The whole chain on real images, trained once for the files here: a hundred and fifty of scikit-learn's digits."""

import shutil

import pytest
from PIL import Image

import kd2mobile
from kd2mobile.data.sources.named import SOURCES

RECIPE = """
[data]
source = "{photos}"
val = 0.2
groups = false
[views]
count = 2
flip = false
smallest_area = 0.7
[teacher]
name = "mobilenet"
weights = "none"
input_px = 32
epochs = 1
[student]
name = "small_cnn"
weights = "none"
input_px = 16
[distill]
epochs = 3
baseline = true
learning_rate = 0.01
[export]
precisions = ["fp32", "int8"]
calibration_images = 12
[benchmark]
latency_runs = 100
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder after every command, made by the Python API; each test works in a copy of it.

    It holds `photos/`, three digits of fifty images each, five of them saved again, and a file that is none;
    `recipe.toml`; a store; and the run `runs/made`."""
    place = tmp_path_factory.mktemp("chain")
    made = place / "made"
    SOURCES["digits"](place / "all")
    for digit in "037":
        (made / "photos" / digit).mkdir(parents=True)
        for number, image in enumerate(sorted((place / "all" / digit).iterdir())[:45]):
            shutil.copy(image, made / "photos" / digit / image.name)
            if number % 9 == 0:
                Image.open(image).save(made / "photos" / digit / f"{image.stem} again.bmp")
    (made / "photos" / "3" / "broken.png").write_text("not an image")
    (made / "recipe.toml").write_text(RECIPE.format(photos=(made / "photos").as_posix()))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        kd2mobile.distill(made / "recipe.toml", run="runs/made")
        kd2mobile.export()
        kd2mobile.benchmark()
        kd2mobile.report()
    return made


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """The test's own copy of all that, which it works in."""
    place = tmp_path / "chain"
    shutil.copytree(made, place)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def recipe(place):
    return place / "recipe.toml"


@pytest.fixture
def run(place):
    """The run after every verb."""
    return place / "runs" / "made"
