"""The dark knowledge of one image, as text and as bars beside the image. Pillow alone draws."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

import msgspec

from kd2mobile.measure.roles import ROLES, STUDENT, TEACHER
from kd2mobile.text import one_line

LIVE, STORED = "teacher.keras", "transfer set"
WIDTH_PX, MARGIN, GAP = 1200, 36, 28
IMAGE_PX, NAMES_PX, NARROWEST_PANEL_PX = 256, 190, 136
HEAD_PX, COLUMN_HEAD_PX, ROW_PX, FOOT_PX, BAR_PX, NUMBER_PX = 100, 62, 46, 62, 24, 68
PAPER, INK, MUTED, TRACK, RULE, TRUE = "#ffffff", "#1b1f24", "#57606a", "#eef0f3", "#d0d5db", "#1a7f37"
COLOURS = ("#0a62c4", "#b04a00", "#1f7a4d", "#7a3fc4", "#a8780a", "#c2337a", "#157a8c", "#6b4f2a")
OTHERS_COLOUR = "#a4afbb"


class ClassAnswers(msgspec.Struct, frozen=True):
    """One class. teacher, student: its probability at each of the temperatures, 0..1."""

    name: str
    teacher: list[float]
    student: list[float]


class DarkKnowledge(msgspec.Struct, frozen=True, kw_only=True):
    """What teacher and student say about one image.

    image: as it was given; sample, split, view, true_class: None where the image is none of the run's, or the whole
    of it was shown. teacher, student: their names. teacher_from: `teacher.keras`, or `transfer set` for stored logits
    (float16). temperatures: in the order of each class's probabilities; 1 is among them. classes: the likeliest of the
    teacher first, then the student's likeliest and the true one if they are others. others: all that are not listed,
    together; None if all are. png: the file that shows it.
    """

    image: str
    sample: str | None
    split: str | None
    view: int | None
    true_class: str | None
    teacher: str
    teacher_from: str
    student: str
    temperatures: list[float]
    classes: list[ClassAnswers]
    others: ClassAnswers | None
    png: str

    def text(self) -> str:
        """A table: a line a class, the teacher's probabilities beside the student's. No newline at the end."""
        rows = [*self.classes, *([self.others] if self.others else [])]
        names = [
            one_line(row.name) + ("  (true)" if row is not self.others and self._true(row) else "") for row in rows
        ]
        heads = [f"T = {temperature:g}" for temperature in self.temperatures]
        cells = [[percent(value) for value in (*row.teacher, *row.student)] for row in rows]
        width = max(len(text) for line in [heads, *cells] for text in line) + 2
        first, side = max(map(len, names)), width * len(heads)
        lines = [" " * first + TEACHER.name.rjust(side) + " |" + STUDENT.name.rjust(side)]
        for name, line in [("", heads * 2), *zip(names, cells, strict=True)]:
            half = len(line) // 2
            left, right = ("".join(text.rjust(width) for text in part) for part in (line[:half], line[half:]))
            lines.append(f"{name:<{first}}{left} |{right}")
        return "\n".join([self.title(), self.subtitle(), "", *lines])

    def title(self) -> str:
        """The image's name: its id, or its file's without the folders."""
        return one_line(self.sample or PurePath(self.image).name)

    def subtitle(self) -> str:
        """Which image it is, and who answers."""
        kind = "not an image of the run" if self.split is None else f"{self.split} image"
        view = "" if self.view is None else f", view {self.view}"
        true = "" if self.true_class is None else f", true class {one_line(self.true_class)}"
        source = "" if self.teacher_from == LIVE else " (its stored logits)"
        return f"{kind}{view}{true}; teacher {one_line(self.teacher)}{source}, student {self.student}"

    def _true(self, row: ClassAnswers) -> bool:
        return row.name == self.true_class


def percent(probability: float) -> str:
    """A probability as percent; small ones keep two digits, for they are what a temperature brings out.

    >>> [percent(p) for p in (1.0, 0.99999, 0.9931, 0.01, 0.000213, 2e-9)]
    ['100.0 %', '> 99.9 %', '99.3 %', '1.0 %', '0.021 %', '< 0.001 %']
    """
    value = 100 * probability
    if 99.95 <= value < 100:
        return "> 99.9 %"
    if value >= 0.995:
        return f"{value:.1f} %"
    if value < 0.000995:
        return "< 0.001 %"
    digits = next(d for d in (2, 3, 4) if d == 4 or value >= 0.995 * 10 ** (1 - d))
    return f"{value:.{digits}f} %"


def draw(shown: DarkKnowledge, image: Any) -> Any:
    """A PIL image: what was shown, then bars: the teacher at each temperature, then the student at each.

    image: the PIL image that was evaluated. 1,200 px wide, more where there are many temperatures; a line a class,
    the same classes in the same order and colours in each column; every bar's track is 100 %.
    """
    from PIL import Image, ImageDraw

    rows = [*shown.classes, *([shown.others] if shown.others else [])]
    columns = [(TEACHER.name, t, [row.teacher[i] for row in rows]) for i, t in enumerate(shown.temperatures)]
    columns += [(STUDENT.name, t, [row.student[i] for row in rows]) for i, t in enumerate(shown.temperatures)]
    names = [one_line(row.name) for row in rows]
    longest = min(NAMES_PX, max(round(_readable(name, 17)[0].getlength(name)) + 1 for name in [*names, "true class"]))
    start = MARGIN + IMAGE_PX + GAP + longest + 16
    panel = max((WIDTH_PX - MARGIN - start) // len(columns), NARROWEST_PANEL_PX)
    body = HEAD_PX + max(COLUMN_HEAD_PX + ROW_PX * len(rows), IMAGE_PX)
    width = max(WIDTH_PX, start + panel * len(columns) + MARGIN)
    canvas = Image.new("RGB", (width, body + FOOT_PX), PAPER)
    pen = ImageDraw.Draw(canvas)
    _write(pen, (MARGIN, 28), shown.title(), 24, INK, width - 2 * MARGIN)
    _write(pen, (MARGIN, 62), shown.subtitle(), 16, MUTED, width - 2 * MARGIN)
    _paste(canvas, image)
    top = HEAD_PX + COLUMN_HEAD_PX
    for index, row in enumerate(rows):
        y = top + ROW_PX * index
        true = row is not shown.others and row.name == shown.true_class
        _write(pen, (start - 16, y + (4 if true else 11)), names[index], 17, INK, longest, right=True)
        if true:
            _write(pen, (start - 16, y + 25), "true class", 13, TRUE, longest, right=True)
    for number, (role, temperature, values) in enumerate(columns):
        x = start + panel * number
        if number == len(shown.temperatures):
            pen.line([(x - 10, HEAD_PX + 4), (x - 10, top + ROW_PX * len(rows))], RULE, 1)
        _write(pen, (x, HEAD_PX + 2), role, 18, ROLES[role].look.light, panel)
        _write(pen, (x, HEAD_PX + 26), f"T = {temperature:g}", 16, MUTED, panel)
        for index, value in enumerate(values):
            colour = OTHERS_COLOUR if rows[index] is shown.others else COLOURS[index % len(COLOURS)]
            _bar(pen, x, top + ROW_PX * index + (ROW_PX - BAR_PX) // 2, panel - NUMBER_PX - 14, value, colour)
    note = "T divides the logits before the softmax. Each column sums to 100 %."
    _write(pen, (MARGIN, body + 24), note, 14, MUTED, width - 2 * MARGIN)
    return canvas


def _bar(pen: Any, x: int, y: int, longest: int, value: float, colour: str) -> None:
    pen.rectangle([x, y, x + longest - 1, y + BAR_PX - 1], TRACK)
    length = round(longest * value)
    if length:
        pen.rectangle([x, y, x + length - 1, y + BAR_PX - 1], colour)
    _write(pen, (x + longest + 6, y + 3), percent(value), 15, INK, NUMBER_PX + 8)


def _paste(canvas: Any, image: Any) -> None:
    """The image into its place at the left; a very small one with its pixels as squares."""
    from PIL import Image, ImageOps

    small = max(image.size) <= IMAGE_PX // 3
    kind = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    fitted = ImageOps.contain(image, (IMAGE_PX, IMAGE_PX), kind)
    canvas.paste(ImageOps.expand(fitted, 1, RULE), (MARGIN, HEAD_PX + 6))


def _write(
    pen: Any, position: tuple[int, int], text: str, size: int, colour: str, longest: int, right: bool = False
) -> None:
    """One line, cut with an ellipsis where it is longer than that many pixels. right: the position is its right end."""
    font, text = _readable(text, size)
    if font.getlength(text) > longest:
        while text and font.getlength(text + "…") > longest:
            text = text[:-1]
        text = text.rstrip() + "…"
    pen.text((position[0] - font.getlength(text) if right else position[0], position[1]), text, colour, font)


def _readable(text: str, size: int) -> tuple[Any, str]:
    """The font that lacks fewest of the characters, Pillow's own before matplotlib's; what it lacks is escaped."""
    font = min(_fonts(size), key=lambda font: len(_lacking(font, text)))
    lacking = _lacking(font, text)
    return font, "".join(c.encode("unicode_escape").decode() if c in lacking else c for c in text)


@cache
def _fonts(size: int) -> tuple[Any, ...]:
    from PIL import ImageFont

    fonts = [ImageFont.load_default(size)]
    found = find_spec("matplotlib")
    if found and found.submodule_search_locations:
        file = Path(found.submodule_search_locations[0]) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            fonts.append(ImageFont.truetype(str(file), size))
    return tuple(fonts)


def _lacking(font: Any, text: str) -> set[str]:
    missing = bytes(font.getmask("\uffff"))
    return {character for character in text if not character.isspace() and bytes(font.getmask(character)) == missing}
