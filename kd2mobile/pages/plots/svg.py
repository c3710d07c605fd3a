"""From a matplotlib figure to an SVG inside a page: themed by CSS, named for screen readers, without addresses."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from kd2mobile.measure.roles import ROLES
from kd2mobile.pages.plots.looks import known_role, look_of, shape_of
from kd2mobile.text import one_line

COLOURS = {
    "ink": "#a1b2c5",
    "muted": "#a1b2c6",
    "grid": "#a1b2c7",
    "accent": "#a1b2c3",
    "contrast": "#a1b2c4",
    "paper": "#a1b2c8",
    "run-1": "#a1b2d1",
    "run-2": "#a1b2d2",
    "run-3": "#a1b2d3",
    "run-4": "#a1b2d4",
    "run-5": "#a1b2d5",
    "run-6": "#a1b2d6",
}
"""Stand-ins that nobody sees: each becomes `var(--name)`, which the page's CSS sets for light and dark."""


class Drawn(NamedTuple):
    """How matplotlib draws a role: the name of its colour, the marker of its points, the style of its lines."""

    colour: str
    marker: str
    hollow: bool
    stroke: Any


def drawn_as(role: str) -> Drawn:
    """How a role is drawn; of a name that is none as someone else's."""
    look = look_of(role)
    return Drawn(known_role(role), shape_of(role).marker, look.hollow, (0, look.dashes) if look.dashes else "-")


def colour_of(name: str) -> str:
    """The stand-in for a colour of the page by its name, which may be a role's."""
    return (COLOURS | _role_colours())[name]


def _role_colours() -> dict[str, str]:
    return {role: f"#a1b2{0xE0 + number:02x}" for number, role in enumerate(ROLES)}


_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "kd2mobile",
    "text.parse_math": False,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["ink"],
    "axes.titlecolor": COLOURS["ink"],
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "text.color": COLOURS["ink"],
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.labelcolor": COLOURS["ink"],
}


@contextmanager
def drawing(width: int, height: int) -> Iterator[Figure]:
    """An empty figure of width x height CSS pixels, with the page's settings in force while it is drawn and inlined.

    Text is never read as math, whatever signs a name carries. A glyph that matplotlib's own font lacks is no matter:
    the browser draws the text.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def inline(figure: Figure, name: str, title: str, description: str) -> str:
    """The figure as an <svg> element for an HTML page. Call it inside `drawing`.

    name: makes the ids of this figure unique on the page. title, description: what a screen reader says.
    """
    into = io.BytesIO()
    figure.savefig(into, format="svg", transparent=True, metadata={"Date": None})
    drawn = ElementTree.fromstring(into.getvalue())
    ids: dict[str, str] = {}
    for element in list(drawn.iter()):
        element.tag = element.tag.rpartition("}")[2]
        for child in list(element):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):
                element.remove(child)
        if "id" in element.attrib:
            element.set("id", ids.setdefault(element.get("id"), f"{name}-{len(ids)}"))
    for element in drawn.iter():
        element.text, element.tail = (_without_blank(t) for t in (element.text, element.tail))
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            element.set(key.rpartition("}")[2], _attribute(key.rpartition("}")[2], value, ids))
    for size in ("width", "height", "version"):
        drawn.attrib.pop(size, None)
    drawn.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc", "class": "plot"}
    for index, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = text
        drawn.insert(index, element)
    return ElementTree.tostring(drawn, encoding="unicode")


def short(text: str, longest: int) -> str:
    """The text in one line, cut to so many characters."""
    text = one_line(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _attribute(key: str, value: str, ids: dict[str, str]) -> str:
    if key == "href":
        return "#" + ids[value[1:]]
    if key == "clip-path":
        return re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{ids[found[1]]})", value)
    if key == "d":
        return " ".join(value.split())
    if key == "style":
        value = re.sub(r"font-family: [^;]+;? ?", "", value)
        for name, colour in (COLOURS | _role_colours()).items():
            value = value.replace(colour, f"var(--{name})")
    return value


def _without_blank(text: str | None) -> str | None:
    return text if text and text.strip() else None
