"""The contact sheet: its rows, its limits, and names in any script."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from kd2mobile.data.check import SourceImages, check_split
from kd2mobile.data.sources.roots import Joined
from kd2mobile.data.split import UNLABELLED, Groups, NearGroup, Sample, Skipped, Split
from kd2mobile.errors import ImageError
from kd2mobile.pages import contact_sheet
from kd2mobile.pages.contact_sheet import CELL_PX, GAP_PX, draw_contact_sheet


def data_set(root, names, **found):
    """One image of one colour for each class, each of another colour, and what is said of them."""
    root.mkdir()
    samples = []
    for label, _ in enumerate(names):
        colour = ((label * 67) % 256, 255 - (label * 31) % 256, 40)
        Image.new("RGB", (20, 20), colour).save(root / f"{label}.png")
        samples.append(Sample(f"{label}.png", label, "train", f"{label:064x}", 20, 20))
    split = Split(list(names), samples, **found)
    looked = SourceImages(root, split, Groups(True, []), 0)
    return check_split("photos", 32, looked), looked


@pytest.fixture
def written(monkeypatch):
    """Every text that is drawn."""
    texts, really = [], ImageDraw.ImageDraw.text

    def text(pen, at, said, **how):
        texts.append(said)
        really(pen, at, said, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


def test_a_row_of_images_a_class(tmp_path, written):
    checked, looked = data_set(tmp_path / "photos", ["cat", "dog"])
    draw_contact_sheet(tmp_path / "sheet.png", checked, looked)
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = np.asarray(opened)
    for colour in ((0, 255, 40), (67, 224, 40)):
        assert (sheet == colour).all(-1).sum() == CELL_PX**2
    assert {"cat", "dog", "1 image", "1 + 0 + 0", "Classes: train + val + test"} <= set(written)


def test_of_many_classes_the_largest_and_the_smallest_are_drawn(tmp_path, written, monkeypatch):
    monkeypatch.setattr(contact_sheet, "MOST_CLASSES", 4)
    checked, looked = data_set(tmp_path / "photos", [f"class{i}" for i in range(9)])
    draw_contact_sheet(tmp_path / "sheet.png", checked, looked)
    assert "The 2 largest and the 2 smallest of 9 classes: train + val + test" in written
    assert sum(text.startswith("class") for text in written) == 4
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height < 9 * (CELL_PX + GAP_PX)


def test_files_aside_and_copies_have_their_place(tmp_path, written):
    aside = [Skipped(f"cat/{i:02d}.jpg", "OSError: broken") for i in range(20)]
    checked, looked = data_set(tmp_path / "photos", ["cat", "dog"], skipped=aside, contradictions=[["0.png", "1.png"]])
    draw_contact_sheet(tmp_path / "sheet.png", checked, looked)
    assert "Skipped: the first 12 of 20" in written and "cat/11.jpg: OSError: broken" in written
    assert "In several classes, identical byte for byte: 1" in written and "cat, dog" in written


def test_images_without_a_label_have_a_row_and_stand_in_their_groups(tmp_path, written):
    _, labelled = data_set(tmp_path / "photos", ["cat", "dog"])
    (tmp_path / "loose").mkdir()
    samples = []
    for name, colour in {"near.png": (66, 225, 40), "new.png": (9, 9, 250)}.items():
        Image.new("RGB", (30, 20), colour).save(tmp_path / "loose" / name)
        samples.append(Sample(f"unlabelled/{name}", -1, UNLABELLED, name, 30, 20))
    near = NearGroup(["1.png", "unlabelled/near.png"], ["train", "unlabelled"], ["dog"], 1.0)
    place = Joined({"unlabelled": str(tmp_path / "loose")})
    loose = SourceImages(place, Split(["cat", "dog"], samples), Groups(True, [near]), 0)
    checked = check_split("photos", 32, labelled, loose)
    assert checked.near_duplicates == [near]
    draw_contact_sheet(tmp_path / "sheet.png", checked, labelled, loose)
    assert {"without a label", "2 images", "2 in train, unlabelled"} <= set(written)
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = np.asarray(opened)
    assert (sheet == (66, 225, 40)).all(-1).sum() == 2 * CELL_PX * round(CELL_PX * 20 / 30)


def test_names_are_written_or_escaped_never_empty_boxes(tmp_path, written, monkeypatch):
    monkeypatch.setattr(contact_sheet, "fonts", lambda px: [ImageFont.load_default(px)])
    checked, looked = data_set(tmp_path / "photos", ["n" * 80, "plain", "x\ny", "狗"])
    draw_contact_sheet(tmp_path / "sheet.png", checked, looked)
    assert {"plain", "x\\ny", "\\u72d7"} <= set(written)
    assert any(text.startswith("nnn") and text.endswith("…") for text in written)


def test_a_font_knows_what_it_has_no_shape_for():
    font = ImageFont.load_default(13)
    assert contact_sheet.missing(font, "a b狗") == {"狗"}


def test_an_image_that_changed_meanwhile(tmp_path):
    checked, looked = data_set(tmp_path / "photos", ["cat", "dog"])
    (tmp_path / "photos" / "0.png").write_bytes(b"")
    with pytest.raises(ImageError, match="must be the image that was checked.*It has changed since"):
        draw_contact_sheet(tmp_path / "sheet.png", checked, looked)
    assert not (tmp_path / "sheet.png").exists()
