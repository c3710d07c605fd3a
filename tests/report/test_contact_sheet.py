"""The contact sheet: its rows, its limits, and names in any script."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from kd2mobile.data.check import check_split
from kd2mobile.data.split import Sample, SetAside, Split
from kd2mobile.errors import PictureError
from kd2mobile.report import contact_sheet
from kd2mobile.report.contact_sheet import CELL_PX, GAP_PX, draw_contact_sheet


def data_set(root, names, **found):
    """A split of one picture of one colour for each class, each of another colour, and what is said of it."""
    root.mkdir()
    samples = []
    for label, _ in enumerate(names):
        colour = ((label * 67) % 256, 255 - (label * 31) % 256, 40)
        Image.new("RGB", (20, 20), colour).save(root / f"{label}.png")
        samples.append(Sample(f"{label}.png", label, "train", f"{label:064x}", 20, 20))
    split = Split(list(names), samples, **found)
    thumbnails = np.stack([np.full((16, 16, 3), 25 * label, np.uint8) for label in range(len(names))])
    return split, check_split("photos", split, thumbnails, 0, 32)


@pytest.fixture
def written(monkeypatch):
    """Every text that is drawn."""
    texts, really = [], ImageDraw.ImageDraw.text

    def text(pen, at, said, **how):
        texts.append(said)
        really(pen, at, said, **how)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


def test_a_row_of_pictures_a_class(tmp_path, written):
    split, checked = data_set(tmp_path / "photos", ["cat", "dog"])
    draw_contact_sheet(tmp_path / "sheet.png", tmp_path / "photos", split, checked)
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = np.asarray(opened)
    for colour in ((0, 255, 40), (67, 224, 40)):
        assert (sheet == colour).all(-1).sum() == CELL_PX**2
    assert {"cat", "dog", "1 picture", "1 + 0 + 0", "Classes: train + val + test"} <= set(written)


def test_of_many_classes_the_largest_and_the_smallest_are_drawn(tmp_path, written, monkeypatch):
    monkeypatch.setattr(contact_sheet, "MOST_CLASSES", 4)
    split, checked = data_set(tmp_path / "photos", [f"class{i}" for i in range(9)])
    draw_contact_sheet(tmp_path / "sheet.png", tmp_path / "photos", split, checked)
    assert "The 2 largest and the 2 smallest of 9 classes: train + val + test" in written
    assert sum(text.startswith("class") for text in written) == 4
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height < 9 * (CELL_PX + GAP_PX)


def test_files_aside_and_copies_have_their_place(tmp_path, written):
    aside = [SetAside(f"cat/{i:02d}.jpg", "OSError: broken") for i in range(20)]
    split, checked = data_set(tmp_path / "photos", ["cat", "dog"], set_aside=aside, contradictions=[["0.png", "1.png"]])
    draw_contact_sheet(tmp_path / "sheet.png", tmp_path / "photos", split, checked)
    assert "Set aside: the first 12 of 20" in written and "cat/11.jpg: OSError: broken" in written
    assert "In several classes, byte for byte the same: 1" in written and "cat, dog" in written


def test_names_are_written_or_escaped_never_empty_boxes(tmp_path, written, monkeypatch):
    monkeypatch.setattr(contact_sheet, "fonts", lambda px: [ImageFont.load_default(px)])
    split, checked = data_set(tmp_path / "photos", ["n" * 80, "plain", "x\ny", "狗"])
    draw_contact_sheet(tmp_path / "sheet.png", tmp_path / "photos", split, checked)
    assert {"plain", "x\\ny", "\\u72d7"} <= set(written)
    assert any(text.startswith("nnn") and text.endswith("…") for text in written)


def test_a_font_knows_what_it_has_no_shape_for():
    font = ImageFont.load_default(13)
    assert contact_sheet.missing(font, "a b狗") == {"狗"}


def test_a_picture_that_changed_meanwhile(tmp_path):
    split, checked = data_set(tmp_path / "photos", ["cat", "dog"])
    (tmp_path / "photos" / "0.png").write_bytes(b"")
    with pytest.raises(PictureError, match="must be the picture that was checked.*It changed meanwhile"):
        draw_contact_sheet(tmp_path / "sheet.png", tmp_path / "photos", split, checked)
    assert not (tmp_path / "sheet.png").exists()
