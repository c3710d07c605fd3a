"""The contact sheet of a data set: one PNG with a row of images per class, then what should be looked at."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from PIL import Image, ImageDraw, ImageFont

from kd2mobile import progress
from kd2mobile.data.check import Checked, SourceImages
from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, Sample, Split
from kd2mobile.errors import ImageError
from kd2mobile.files import replaced
from kd2mobile.pages.terminal.check import cut_classes
from kd2mobile.pixels import open_image
from kd2mobile.store.output_files import signature
from kd2mobile.text import count_of, one_line

MOST_CLASSES = 120
MOST_GROUPS = 12
"""Rows of each kind of finding, and lines of files skipped."""
IMAGES_PER_ROW = 8
CELL_PX, GAP_PX, LABEL_PX, LINE_PX, TEXT_PX, MARGIN_PX = 80, 4, 190, 17, 13, 24
ROWS_OF_ONE_COLUMN = 20
"""Class rows from which they stand in two columns."""
INK, FAINT, PAPER = "#1b1b1b", "#6b6b6b", "#ffffff"
FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "NotoSansCJK-Regular.ttc", "msyh.ttc", "PingFang.ttc")
"""Looked for where the system keeps its fonts, for names that Pillow's own font cannot write."""


@dataclass(frozen=True)
class _Row:
    """One row: lines of text on the left, images on the right."""

    lines: list[str]
    samples: list[Sample]


@dataclass(frozen=True)
class _Section:
    heading: str
    rows: list[_Row]
    text: list[str]


def draw_contact_sheet(
    file: Path, checked: Checked, labelled: SourceImages, unlabelled: SourceImages | None = None
) -> None:
    """Writes the sheet: every class (of more than 120 the largest and smallest), duplicates, copies, skipped files.

    labelled, unlabelled: what `checked` was made of; the unlabelled images have one row. Those of a row are drawn by
    their content, training images first; small ones are shown enlarged with their pixels as squares. Characters that
    no font at hand has are written as escapes; scripts that join their letters or run right to left need a Pillow with
    Raqm. Raises ImageError if an image cannot be decoded.
    """
    sections = _sections(checked, labelled.split, unlabelled.split.samples if unlabelled else [])
    samples = {sample.path: sample for section in sections for row in section.rows for sample in row.samples}

    def thumbnail(sample: Sample) -> tuple[str, Image.Image]:
        root = unlabelled.root if sample.split == UNLABELLED else labelled.root
        return sample.path, _thumbnail(root / sample.path)

    with progress.bar("contact sheet", len(samples), "images") as advance:
        thumbnails = {}
        for path, image in in_threads(thumbnail, samples.values()):
            thumbnails[path] = image
            advance(1)
    sheet = _draw(checked, sections, thumbnails)
    with replaced(file) as temporary:
        sheet.save(temporary, format="PNG", optimize=False, pnginfo=signature())


def _sections(checked: Checked, split: Split, unlabelled: list[Sample]) -> list[_Section]:
    shown, title = cut_classes(checked.classes, MOST_CLASSES)
    members: dict[int, list[Sample]] = {}
    for sample in split.samples:
        members.setdefault(sample.label, []).append(sample)
    rows = []
    for one in shown:
        drawn = sorted(members[split.classes.index(one.name)], key=_by_content)
        counts = f"{one.train:,} + {one.val:,} + {one.test:,}"
        rows.append(_Row([one.name, count_of(one.all, "image"), counts], drawn[:IMAGES_PER_ROW]))
    if unlabelled:
        drawn = sorted(unlabelled, key=_by_content)[:IMAGES_PER_ROW]
        rows.append(_Row(["without a label", count_of(len(unlabelled), "image")], drawn))
    by_path = {sample.path: sample for sample in (*split.samples, *unlabelled)}
    near = sorted(checked.near_duplicates, key=lambda g: (len(g.classes) < 2, not g.leaks, -len(g.paths)))
    found = [
        _Section(f"{title or 'Classes'}: train + val + test", rows, []),
        _groups("In several classes, identical byte for byte", checked.contradictions, by_path, split),
        _groups("In several splits, identical byte for byte", [leak.paths for leak in checked.leaks], by_path, split),
        _groups("Near duplicates: different files that look the same", [g.paths for g in near], by_path, split),
        _skipped(checked),
    ]
    return [section for section in found if section.rows or section.text]


def _by_content(sample: Sample) -> tuple[bool, bytes]:
    return sample.split != "train", hashlib.sha256(sample.sha256.encode()).digest()


def _groups(heading: str, groups: list[list[str]], by_path: dict[str, Sample], split: Split) -> _Section:
    rows = []
    for paths in groups[:MOST_GROUPS]:
        samples = [by_path[path] for path in paths]
        classes = ", ".join(dict.fromkeys(split.classes[sample.label] for sample in samples if sample.label >= 0))
        names = (*SPLIT_NAMES, UNLABELLED)
        splits = ", ".join(name for name in names if any(sample.split == name for sample in samples))
        lines = [classes or "without a label", f"{len(paths):,} in {splits}", PurePosixPath(paths[0]).name]
        rows.append(_Row(lines, samples[:IMAGES_PER_ROW]))
    return _Section(f"{heading}: {_of(len(groups))}", rows, [])


def _skipped(checked: Checked) -> _Section:
    lines = [one_line(f"{one.path}: {one.reason}") for one in checked.skipped]
    return _Section(f"Skipped: {_of(len(lines))}", [], lines[:MOST_GROUPS])


def _of(count: int) -> str:
    return f"the first {MOST_GROUPS} of {count:,}" if count > MOST_GROUPS else f"{count:,}"


def _thumbnail(path: Path) -> Image.Image:
    try:
        image = open_image(path)
    except ImageError as fault:
        changed = "It has changed since: run the same command again."
        raise ImageError(path, "must be the image that was checked", fault.got, changed) from fault
    scale = CELL_PX / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    return image.resize(size, Image.Resampling.BOX if scale > 1 else Image.Resampling.LANCZOS, reducing_gap=3)


def _draw(checked: Checked, sections: list[_Section], thumbnails: dict[str, Image.Image]) -> Image.Image:
    columns = 2 if len(sections[0].rows) > ROWS_OF_ONE_COLUMN else 1
    row_px, head_px = CELL_PX + GAP_PX, 3 * LINE_PX
    column_px = LABEL_PX + IMAGES_PER_ROW * row_px + MARGIN_PX
    width = MARGIN_PX + columns * column_px
    heights = [
        head_px + -(-len(section.rows) // columns) * row_px + len(section.text) * LINE_PX for section in sections
    ]
    sheet = Image.new("RGB", (width, head_px + sum(heights) + LINE_PX), PAPER)
    pen, left, top = ImageDraw.Draw(sheet), MARGIN_PX, head_px
    images = sum(one.all for one in checked.classes)
    headline = f"{images:,} images, {len(checked.classes):,} classes: {checked.source}"
    _write(pen, (left, LINE_PX), headline, 18, INK, width - 2 * MARGIN_PX)
    for section, height in zip(sections, heights, strict=True):
        _write(pen, (left, top + LINE_PX), section.heading, 15, INK, width - 2 * MARGIN_PX)
        below = top + head_px
        down = -(-len(section.rows) // columns)
        for index, row in enumerate(section.rows):
            column, line = divmod(index, down)
            _draw_row(sheet, pen, left + column * column_px, below + line * row_px, row, thumbnails)
        for line, text in enumerate(section.text):
            _write(pen, (left, below + line * LINE_PX), text, TEXT_PX, FAINT, width - 2 * MARGIN_PX)
        top += height
    return sheet


def _draw_row(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    x: int,
    y: int,
    row: _Row,
    thumbnails: dict[str, Image.Image],
) -> None:
    for line, text in enumerate(row.lines):
        _write(pen, (x, y + line * LINE_PX), text, TEXT_PX, FAINT if line else INK, LABEL_PX - 2 * GAP_PX)
    for index, sample in enumerate(row.samples):
        image = thumbnails[sample.path]
        centred = (CELL_PX - image.width) // 2, (CELL_PX - image.height) // 2
        sheet.paste(image, (x + LABEL_PX + index * (CELL_PX + GAP_PX) + centred[0], y + centred[1]))


def _write(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, px: int, ink: str, width: int) -> None:
    """The text in the first font that has all of it, cut to the width."""
    text = one_line(text)
    font = next((font for font in fonts(px) if not missing(font, text)), None)
    if font is None:
        font = fonts(px)[0]
        gone = missing(font, text)
        text = "".join(c.encode("unicode_escape").decode() if c in gone else c for c in text)
    if font.getlength(text) > width:
        while text and font.getlength(f"{text}…") > width:
            text = text[:-1]
        text += "…"
    pen.text(at, text, font=font, fill=ink)


@cache
def fonts(px: int) -> list[ImageFont.FreeTypeFont]:
    """The fonts at hand, first choice first: the one that Matplotlib brings, Pillow's own, the system's."""
    paths = list(FONTS)
    if found := find_spec("matplotlib"):
        paths.insert(0, str(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"))
    loaded = []
    for path in paths:
        try:
            loaded.append(ImageFont.truetype(path, px))
        except OSError:
            continue
    loaded.insert(1 if find_spec("matplotlib") and loaded else 0, ImageFont.load_default(px))
    return loaded


def missing(font: ImageFont.FreeTypeFont, text: str) -> set[str]:
    """The characters of the text that the font has no shape for."""
    none = _shape(font, "\uffff")
    return {c for c in set(text) if not c.isspace() and _shape(font, c) == none}


def _shape(font: ImageFont.FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
