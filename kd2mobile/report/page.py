"""One self-contained HTML page about a run. It opens without a network and says nothing that the data does not."""

import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

from kd2mobile.errors import ArtifactError, MissingExtraError, one_line
from kd2mobile.report import columns, words
from kd2mobile.report.view import ReportData

PARITY_HEADINGS = {
    "n": "Pictures",
    "agreement": "Same top-1",
    "largest_difference": "Largest difference of a probability",
}


def write_report(out: Path, view: ReportData) -> None:
    """The page at `out`, a file in UTF-8. The same data makes the same bytes.

    It is written beside itself and renamed, so a page that is there is whole. Raises ArtifactError if it cannot be
    written, MissingExtraError where jinja2 or matplotlib is not installed.
    """
    page = render(view)
    out = Path(out)
    half = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        half.write_text(page, "utf-8", newline="\n")
        os.replace(half, out)
    except OSError as fault:
        half.unlink(missing_ok=True)
        raise ArtifactError(
            out, "must be writable", fault.strerror, "Make room or choose another folder, then run `kd2mobile report`."
        ) from fault


def render(view: ReportData) -> str:
    """The page as text. Everything in `view` is data: escaped on its way in, in HTML and in the plots."""
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup

        from kd2mobile.report import pictures, plots
    except ModuleNotFoundError as fault:
        raise MissingExtraError("report", fault.name or "jinja2", "train") from fault

    def clean(value: Any) -> Any:
        if value is None:
            return words.DASH
        return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=clean, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "heading": _heading,
        "seconds": _seconds,
        "value": _value,
        "measure": _measure,
        "count": words.count,
    }
    records = words.tables(view.records)
    rows = columns.rows(records)
    settings = list(dict.fromkeys(row.setting for row in rows if row.setting and row.role != "teacher"))
    seconds = [stage.seconds for stage in view.stages if stage.seconds is not None]
    return (
        environment.from_string(_packaged("report.html.j2")).render(
            css=Markup(_packaged("report.css")),
            view=view,
            headline=Markup.escape(_unbroken(words.headline(records, view.paired))),
            verdicts=[Markup.escape(_unbroken(words.verdict(pair))) for pair in view.paired],
            columns=columns.COLUMNS,
            records=records,
            rows=rows,
            settings=settings or [row.setting for row in rows[:1] if row.setting],
            teacher_settings=_teachers(rows, settings),
            whys=_whys(rows),
            accuracy=[Markup(plot) for plot in plots.accuracy_plots(records)],
            roles=[role for role in words.ROLES if any(r["role"] == role and r["top1"] is not None for r in records)],
            teacher_line=any(r["role"] == "teacher" and words.latency(r, "p50") is None for r in records),
            curves=[Markup(plot) for plot in plots.curve_plots(view.histories)],
            kept=plots.kept_epochs(view.histories),
            lines=[role for role, _ in plots.LINES],
            cards=[pictures.card(picture) for picture in view.pictures],
            parity_fields=list(dict.fromkeys(field for e in view.exports for field in e.get("parity") or {})),
            export_roles=all("role" in export for export in view.exports),
            total_seconds=sum(seconds) if seconds else None,
            close_points=f"{100 * words.CLOSE_ENOUGH:g}",
        )
        + "\n"
    )


def _packaged(name: str) -> str:
    return (resources.files("kd2mobile.report") / name).read_text("utf-8")


def _whys(rows: list[columns.Row]) -> list[str]:
    """Why there are dashes in the table, a clause a reason: `teacher (Size, p50): it runs in Keras`."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for column, cell in zip(columns.COLUMNS, row.cells, strict=True):
            if cell.why:
                found.setdefault((row.role, cell.why), [])
                if column.heading not in found[row.role, cell.why]:
                    found[row.role, cell.why].append(column.heading)
    return [f"{role} ({', '.join(headings)}): {why}" for (role, why), headings in found.items()]


def _teachers(rows: list[columns.Row], settings: list[str]) -> list[str]:
    """Where the teacher was measured, without the pictures if everything else was judged on the same."""
    pictures = settings[0].partition("; ")[0] + "; " if settings else ""
    teachers = [row.setting for row in rows if row.role == "teacher" and row.setting not in ("", *settings)]
    return list(dict.fromkeys(setting.removeprefix(pictures) for setting in teachers)) if settings else []


def _unbroken(text: str) -> str:
    """The text with spaces that do not break between a number and its unit, or inside `p = 0.004`."""
    space = r"(?<=\d) (?=%|KB|MB|ms|points)|(?<=\bp) (?=[=<] \d)|(?<=\bp [=<]) (?=\d)"
    return re.sub(space, "\xa0", one_line(text))


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


def _heading(field: str) -> str:
    """The heading of a column of the parity table."""
    return PARITY_HEADINGS.get(field, field.replace("_", " "))


def _measure(value: Any, field: str) -> str:
    """One entry of a parity table: agreement as percent, other numbers with four digits."""
    if value is None:
        return words.DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{100 * value:.2f} %" if "agree" in field and 0 <= value <= 1 else f"{value:.4g}"
    return words.count(value) if isinstance(value, int) else _value(value)
