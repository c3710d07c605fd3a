"""How a page is filled: the templates with their filters, one style, one script, and the file in the end."""

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from kd2mobile.errors import MissingExtraError
from kd2mobile.files import os_error, write_text
from kd2mobile.pages import words
from kd2mobile.pages.plots import looks
from kd2mobile.text import count_of, one_line

SECTIONS = {
    "models": "Models",
    "devices": "Devices",
    "choice": "Recommended files",
    "paired": "Same images",
    "cost": "Cost",
    "learning": "Learning",
    "mistakes": "Mistakes",
    "calibration": "Calibration",
    "classes": "Classes",
    "images": "Test images",
    "parity": "Exported files",
    "quantized": "Quantized files",
    "layers": "Layers",
    "data": "Data",
    "made": "How it was made",
    "recipes": "Recipes",
}
"""The parts of a page that its top links to, where the page has them."""


def fill(template: str, **values: Any) -> str:
    """The page that the template makes of the values. All of them are data: escaped on their way in.

    The page may load nothing, and run the one script of this package: its hash is in the page's policy. Raises
    MissingExtraError where jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as fault:
        raise MissingExtraError("report", fault.name or "jinja2", "train") from fault

    def clean(value: Any) -> Any:
        if value is None:
            return words.DASH
        return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_packaged),
    )
    environment.filters |= {
        "seconds": _seconds,
        "value": _value,
        "measure": _measure,
        "count": words.count,
        "count_of": count_of,
        "percent": words.percent,
        "decimals": words.decimals,
        "signed": words.signed,
        "p_words": words.p_words,
    }
    environment.globals["looks"] = looks
    script = _packaged("sort.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    fixed = {
        "sections": SECTIONS,
        "css": Markup(_packaged("report.css") + looks.css()),
        "script": Markup(script),
        "script_hash": f"sha256-{digest}",
    }
    return environment.get_template(template).render(**fixed, **values) + "\n"


def write_page(out: Path, page: str) -> None:
    """The page at `out`, in UTF-8; one that is there is whole at any moment. Raises ArtifactError."""
    try:
        write_text(out, page)
    except OSError as fault:
        raise os_error(OSError(fault.errno, fault.strerror), out) from fault  # not of its temporary


def _packaged(name: str) -> str:
    return (resources.files("kd2mobile.pages") / name).read_text("utf-8")


def _seconds(value: float | None) -> str:
    if value is None:
        return words.DASH
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _value(value: Any) -> str:
    """A recipe's value as TOML would have it, text without its quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value) or words.DASH
    return words.DASH if value is None else str(value)


def _measure(value: Any, field: str) -> str:
    """One entry of a parity table: agreement as percent, other numbers with four digits."""
    if value is None:
        return words.DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{100 * value:.2f} %" if "agree" in field and 0 <= value <= 1 else f"{value:.4g}"
    return words.count(value) if isinstance(value, int) else _value(value)
