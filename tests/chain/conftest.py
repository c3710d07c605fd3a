"""The whole chain on real pictures, trained once for the files here: a hundred and fifty of scikit-learn's digits."""

import shutil

import pytest
from PIL import Image

import kd2mobile
from kd2mobile import pipeline
from kd2mobile.data.sources import SOURCES


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with `photos/`: three digits, fifty pictures each, five of them saved again; one is no picture."""
    place = tmp_path_factory.mktemp("chain")
    SOURCES["digits"](place / "all")
    for digit in "037":
        (place / "photos" / digit).mkdir(parents=True)
        for number, picture in enumerate(sorted((place / "all" / digit).iterdir())[:45]):
            shutil.copy(picture, place / "photos" / digit / picture.name)
            if number % 9 == 0:
                Image.open(picture).save(place / "photos" / digit / f"{picture.stem} again.bmp")
    (place / "photos" / "3" / "broken.png").write_text("not a picture")
    return place


@pytest.fixture(scope="session")
def recipe(place):
    file = place / "recipe.toml"
    file.write_text(
        f"""
[data]
source = "{(place / "photos").as_posix()}"
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
calibration_pictures = 12
[benchmark]
latency_runs = 100
"""
    )
    return file


@pytest.fixture(scope="session")
def run(place, recipe):
    """The run after every verb, made by the Python API in a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        kd2mobile.distill(recipe)
        kd2mobile.export()
        kd2mobile.benchmark()
        pipeline.report()
    return next((place / "runs").iterdir())


@pytest.fixture(autouse=True)
def _in_place(place, monkeypatch):
    monkeypatch.chdir(place)
