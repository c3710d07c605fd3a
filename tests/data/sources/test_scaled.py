"""Greyscale of more than 8 bits: scaled once, before the split, and said where its values are nearly all unused."""

import json

import numpy as np
import pytest
from PIL import Image

import kd2mobile
from kd2mobile.cli.commands import main_status
from kd2mobile.data.split import read_split
from kd2mobile.errors import ImageError, RecipeError
from kd2mobile.measure.predict import predict
from kd2mobile.recipe.compose import compose
from kd2mobile.stages.plan import plan_splits
from kd2mobile.store.artifact import Store
from tests.data.conftest import write_image

BLACK, WHITE = 96, 4095


def scan12(path, seed):
    """A 12-bit image in a 16-bit file, and the values in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 4096, (6, 5), np.uint16)
    values[0, :2] = BLACK, WHITE
    Image.fromarray(values).save(path)
    return values


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """Two classes of four 12-bit TIFFs, and the values of each by its path; one 8-bit image more in `b`."""
    monkeypatch.chdir(tmp_path)
    values = {f"{c}/{n}.tif": scan12(tmp_path / "scans" / c / f"{n}.tif", (ord(c), n)) for c in "ab" for n in range(4)}
    write_image(tmp_path / "scans" / "b" / "8.png", 1)
    return values


def planned(tmp_path, **data):
    """The images with labels and the step of their split, then those without where some are given."""
    return plan_splits(compose(settings={f"data.{k}": v for k, v in data.items()}), Store(tmp_path / "store"))


def made(tmp_path, **data):
    found, step = planned(tmp_path, **data)[0]
    return found, read_split(Store(tmp_path / "store").make(step).folder), step


def test_the_chain_reads_scaled_8_bit_images(scans, tmp_path):
    found, split, step = made(tmp_path, source="scans", range=(BLACK, WHITE))
    assert split.classes == ["a", "b"] and len(split.samples) == 9
    for path, values in scans.items():
        with Image.open(found.root / path) as stored:
            exact = (values.astype(np.float64) - BLACK) / (WHITE - BLACK) * 255
            assert stored.mode == "L"
            np.testing.assert_allclose(np.asarray(stored), np.clip(exact, 0, 255), atol=0.5 + 1e-9)
    assert (found.root / "b" / "8.png").read_bytes() == (tmp_path / "scans" / "b" / "8.png").read_bytes()
    _, again, same = made(tmp_path, source="scans", range=(BLACK, WHITE))
    assert (again, same.fingerprint) == (split, step.fingerprint)
    fingerprints = {made(tmp_path, source="scans", **how)[2].fingerprint for how in ({}, {"range": (0, 65535)})}
    assert len({step.fingerprint, *fingerprints}) == 3


def test_a_range_without_effect_keeps_the_fingerprint_and_is_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png", "b/3.png"):
        write_image(tmp_path / "photos" / name, tuple(name.encode()))
    plain = made(tmp_path, source="photos")[2].fingerprint
    assert made(tmp_path, source="photos", range=(0, 4095))[2].fingerprint == plain
    assert "photos: holds no greyscale of more than 8 bits: --range has no effect on it" in capsys.readouterr().err


def test_tables_separate_splits_and_unlabelled_images_are_scaled_too(scans, tmp_path):
    rows = [f'../scans/{path},"class, {path[0]}",patient {path[2]}' for path in scans]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "x.csv").write_text("\n".join(["path,label,Who", *rows]))
    scan12(tmp_path / "loose" / "deep" / "1.tif", 77)
    for c in "ab":
        scan12(tmp_path / "test" / f"class, {c}" / "1.tif", (7, ord(c)))
    data = {"source": "lists/x.csv", "test_source": "test", "unlabelled": "loose", "range": (BLACK, WHITE)}
    listed = made(tmp_path, source="lists/x.csv", range=(BLACK, WHITE), group_by="column:who")[0].scan.images
    assert [(p.path, p.key) for p in listed][1] == ("scans/a/1.tif", "patient 1")
    found, split, _ = made(tmp_path, **data)
    assert split.classes == ["class, a", "class, b"] and len(split.samples) == 10 and not split.skipped
    for sample in split.samples:
        with Image.open(found.root / sample.path) as stored:
            assert stored.mode == "L" and np.asarray(stored)[0, :2].tolist() == [0, 255]
    unlabelled, _ = planned(tmp_path, **data)[1]
    (loose,) = unlabelled.scan.images
    with Image.open(unlabelled.root / loose.path) as stored:
        assert loose.path == "unlabelled/deep/1.tif" and stored.mode == "L"


def test_check_reports_a_nearly_unused_range(scans, tmp_path, capsys):
    assert main_status(["check", "--data", "scans", "--store", "store"]) == 0
    output = capsys.readouterr()
    words = (
        "8 images of more than 8 bits have values from 0 to 4,095, which come out nearly black: `--range 0,4095` scales"
    )
    values = np.stack(list(scans.values()))
    words = words.replace("from 0 to", f"from {values.min():,} to")
    assert f"Depth: {words}" in output.out and f"split: {words}" in output.err
    (record,) = (tmp_path / "store" / "split").glob("[!.]*/record.json")
    deep = json.loads(record.read_text())["results"]["deep_images"]
    assert deep == {"count": 8, "low": float(values.min()), "high": 4095.0}
    assert main_status(["check", "--data", "scans", "--store", "store", "--range", "0,4095"]) == 0
    output = capsys.readouterr()
    assert "Depth" not in output.out and "nearly black" not in output.err
    checked = kd2mobile.check(data="scans", store="store", range=(0, 4095))
    assert checked.deep_images is None and [one.all for one in checked.classes] == [4, 5]


@pytest.mark.parametrize("given", ["4095,0", "1,1", "0,inf", "5", "0,x", "0,1,2"])
def test_an_impossible_range_is_refused(scans, given, capsys):
    assert main_status(["check", "--data", "scans", "--store", "store", "--range", given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert ": must be " in line and "range" in line


def test_colour_of_16_bits_is_refused_with_a_range(scans, tmp_path):
    from tests.test_pixels import png

    (tmp_path / "scans" / "b" / "c.png").write_bytes(png(1, 1, 16, 2, bytes(7)))
    with pytest.raises(ImageError, match=r"c.png: must be greyscale where a range is given, got colour of 16 bits"):
        made(tmp_path, source="scans", range=(0, 4095))


def test_an_image_that_cannot_be_decoded_is_skipped(scans, tmp_path):
    whole = (tmp_path / "scans" / "b" / "1.tif").read_bytes()
    (tmp_path / "scans" / "b" / "1.tif").write_bytes(whole[:-20])
    _, split, _ = made(tmp_path, source="scans", range=(0, 4095))
    assert [file.path for file in split.skipped] == ["b/1.tif"] and len(split.samples) == 8


def test_predict_and_benchmark_scale_by_the_range(models, scans, tmp_path):
    path = tmp_path / "scans" / "a" / "0.tif"
    shown = predict(models / "uint8.tflite", [path], value_range=(BLACK, WHITE))
    pixels = np.clip((scans["a/0.tif"].astype(float) - BLACK) / (WHITE - BLACK) * 255, 0, 255).round().astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "8 bits.png")
    assert shown[0].classes == predict(models / "uint8.tflite", [tmp_path / "8 bits.png"])[0].classes
    with pytest.raises(RecipeError, match="range: must be two finite numbers, black below white, got 2,1"):
        predict(models / "uint8.tflite", [path], value_range=(2, 1))


def test_integers_beyond_16_bits_are_reported_before_near_duplicates(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(f"{c}/{n}.tif" for c in "ab" for n in range(6)):
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).integers(100_000, 2**31, (24, 24)).astype(np.int32)
        values[0, :2] = 100_000, 2**31 - 1  # above 65,535 all of them: without a range each image is white
        Image.fromarray(values).save(tmp_path / "scans" / name)
    assert main_status(["check", "--data", "scans", "--store", "store", "--quiet"]) == 2
    *before, refused = [line for line in capsys.readouterr().err.splitlines() if "split" in line or "must" in line]
    assert "groups of images that may be drawn apart" in refused
    assert any("from 100,000 to 2,147,483,647" in line and "`--range 0,2147483647`" in line for line in before)
    assert main_status(["check", "--data", "scans", "--store", "store", "--range", "0,2147483647"]) == 0
    assert "Near duplicates: none." in capsys.readouterr().out
