"""The plots of the page: what accuracy costs, how the students learned, how far confidence is from accuracy."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kd2mobile.errors import one_line
from kd2mobile.report import words
from kd2mobile.report.svg import COLOURS, drawing, inline
from kd2mobile.report.view import Calibration

ACCURACY_PX = (400, 310)
CURVE_PX = (360, 280)
CALIBRATION_PX = (320, 300)
LAYERS_PX = (860, 340)
MARKERS = {"student": "o", "baseline": "s", "teacher": "D", "external": "^"}
LINES = (("student", "-"), ("baseline", (0, (5, 2))), ("external", (0, (1, 1.5))), ("teacher", (0, (6, 2, 1, 2))))
LABEL_PX = 10
HUNDRED_IS_A_STEP = (1, 2, 2.5, 5, 10)
"""Between the ticks of top-1, as a power of ten: above 100 % there is none, however far the axis goes."""
RUN_SHAPES = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Cost:
    """An x axis of the plot of accuracy: how a record's cost is read and written."""

    name: str
    title: str
    axis: str
    of: Callable[[dict[str, Any]], float | None]
    form: Callable[[float], str]


COSTS = (
    Cost(
        "latency",
        "Accuracy against latency",
        "median latency, ms",
        lambda r: words.latency(r, "p50"),
        words.milliseconds,
    ),
    Cost(
        "size",
        "Accuracy against size",
        "file size, KB",
        lambda r: r["size_bytes"] and r["size_bytes"] / 1000,
        lambda kb: f"{kb:,.0f}" if kb >= 10 else f"{kb:,.1f}",
    ),
)

ON_DEVICES = Cost(
    "devices", "Accuracy against latency, by device", "median latency, ms", words.typical_latency, words.milliseconds
)


@dataclass(frozen=True)
class Mark:
    """How a record is drawn. colour: a name of COLOURS; label: beside its point, None for none; name: when spoken."""

    colour: str
    shape: str
    hollow: bool
    label: str | None
    name: str


def accuracy_plots(records: list[dict[str, Any]]) -> list[str]:
    """One SVG for each cost that at least one record has: top-1 against median latency, and against file size.

    records: plain dicts, as from `words.tables`. A teacher without that cost is a dashed line; the thin bars are 95 %
    Wilson intervals of the test pictures.
    """
    return _accuracy_plots(list(zip(records, _marks(records), strict=True)))


def comparison_plots(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The plots of `accuracy_plots` with the files of several runs. runs: a run's letter to its records.

    A run has a colour and a shape, of which there are six. The file that it recommends has its name beside it, and
    baselines are hollow.
    """
    drawn, teachers = [], set()
    for place, (key, records) in enumerate(runs.items()):
        look, best = place % len(RUN_SHAPES), words.best_student(records)
        for r in records:
            if r["role"] == "teacher" and (r["model"], r["top1"]) in teachers:
                continue
            teachers |= {(r["model"], r["top1"])} if r["role"] == "teacher" else set()
            hollow = r["role"] == "baseline"
            label = f"{key} {words.precision(r)}" if r is best else None
            if r["role"] == "teacher":
                drawn.append((r, Mark("teacher", MARKERS["teacher"], False, words.name(r), f"teacher {words.name(r)}")))
            else:
                name = f"{key}, {r['role']} {words.name(r)}"
                drawn.append((r, Mark(f"run-{look + 1}", RUN_SHAPES[look], hollow, label, name)))
    return _accuracy_plots(drawn)


def device_plot(
    devices: dict[str, list[dict[str, Any]]], chosen: list[dict[str, Any]], teachers: list[dict[str, Any]]
) -> str | None:
    """Top-1 against latency with a series a device, as `comparison_plots` looks; None if nothing has both.

    devices: a device's letter to its records, with judged_top1 and judged_n beside what was measured there. chosen:
    those of them whose name stands beside the point.
    """
    drawn = []
    for place, (key, records) in enumerate(devices.items()):
        look = place % len(RUN_SHAPES)
        for r in records:
            name = ", ".join([words.name(r), *words.runtime_setting(r)])
            label = f"{key} {words.precision(r)}" if any(r is one for one in chosen) else None
            mark = Mark(f"run-{look + 1}", RUN_SHAPES[look], r["role"] == "baseline", label, f"{key}, {name}")
            drawn.append((r | {"top1": r["judged_top1"], "n": r["judged_n"]}, mark))
    for r in teachers:
        drawn.append((r, Mark("teacher", MARKERS["teacher"], False, words.name(r), f"teacher {words.name(r)}")))
    judged = [(r, mark) for r, mark in drawn if r["top1"] is not None]
    return _accuracy(judged, ON_DEVICES) if any(ON_DEVICES.of(r) for r, _ in judged) else None


def _accuracy_plots(drawn: list[tuple[dict[str, Any], Mark]]) -> list[str]:
    judged = [(r, mark) for r, mark in drawn if r["top1"] is not None]
    return [_accuracy(judged, cost) for cost in COSTS if any(cost.of(r) for r, _ in judged)]


def _marks(records: list[dict[str, Any]]) -> list[Mark]:
    """How the records of one run are drawn. Beside the points of its own student the precision is name enough.

    A file of the baseline has its student's name if that is there, and needs none.
    """
    students = [words.name(r) for r in records if r["role"] == "student"]
    alone = len({r["model"] for r in records if r["role"] in ("student", "baseline")}) == 1
    marks = []
    for r in records:
        own = alone and r["role"] in ("student", "baseline") and r["precision"]
        label = words.precision(r) if own else words.name(r)
        colour = r["role"] if r["role"] in MARKERS else "external"
        needless = r["role"] == "baseline" and words.name(r) in students
        name = f"{r['role']} {words.name(r)}"
        marks.append(Mark(colour, MARKERS[colour], r["role"] == "baseline", None if needless else label, name))
    return marks


def _accuracy(drawn: list[tuple[dict[str, Any], Mark]], cost: Cost) -> str:
    placed = [(r, mark) for r, mark in drawn if cost.of(r)]
    lines = [(r, mark) for r, mark in drawn if not cost.of(r) and r["role"] == "teacher"]
    with drawing(*ACCURACY_PX) as figure:
        axes = figure.add_subplot()
        axes.set_title(cost.title)
        axes.set_xlabel(cost.axis)
        axes.set_ylabel("top-1, %")
        for r, mark in placed:
            x, y, colour = cost.of(r), 100 * r["top1"], COLOURS[mark.colour]
            if r.get("n"):
                low, high = words.interval(r["top1"], r["n"])
                axes.plot([x, x], [100 * low, 100 * high], color=colour, linewidth=1, alpha=0.45, solid_capstyle="butt")
            fill = COLOURS["paper"] if mark.hollow else colour
            axes.plot([x], [y], mark.shape, markersize=7, color=colour, markerfacecolor=fill, markeredgewidth=1.6)
        for r, _ in lines:
            axes.axhline(100 * r["top1"], color=COLOURS["teacher"], linestyle=(0, (5, 3)), linewidth=1.3)
        _log_if_wide(axes, [cost.of(r) for r, _ in placed], cost.form)
        low, high = axes.get_ylim()
        axes.set_ylim(low, min(high + 0.06 * (high - low), 101.5))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=HUNDRED_IS_A_STEP))
        figure.draw_without_rendering()
        if lines:
            _make_room_above(axes, max(100 * r["top1"] for r, _ in lines))
            figure.draw_without_rendering()
        _label(axes, placed, lines, cost)
        told = [f"{mark.name}: {words.percent(r['top1'])} %" for r, mark in [*placed, *lines]]
        spoken = [f"{t} at {cost.form(cost.of(r))}" for t, (r, _) in zip(told, placed, strict=False)]
        spoken += [f"{t}, a dashed line" for t in told[len(placed) :]]
        described = f"Top-1 in percent over {cost.axis}. " + "; ".join(spoken) + "."
        return inline(figure, f"plot-{cost.name}", cost.title, one_line(described))


def _make_room_above(axes: Axes, line: float) -> None:
    """Raises the upper limit until a label above the line, at that height, stays below the title."""
    low, high = axes.get_ylim()
    needed = 1.7 * LABEL_PX * axes.figure.dpi / 72 / axes.get_window_extent().height
    axes.set_ylim(low, max(high, (line - needed * low) / (1 - needed)))


def _log_if_wide(axes: Axes, values: list[float], form: Callable[[float], str]) -> None:
    """A logarithmic x axis with plain numbers where the values span more than a factor of three."""
    if max(values) > 3 * min(values):
        axes.set_xscale("log")
        wide = max(values) > 30 * min(values)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(min(values) / 1.5, max(values) * 1.8)
    else:
        margin = 0.25 * (max(values) - min(values) or max(values))
        axes.set_xlim(min(values) - margin, max(values) + margin)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: form(value)))


def _label(axes: Axes, placed: list[tuple[dict, Mark]], lines: list[tuple[dict, Mark]], cost: Cost) -> None:
    """Its label beside each point, on the side where it covers the least of what is there already.

    A point has none where there is no room for one: the table and the description name all.
    """
    frame = axes.get_window_extent()
    at = [axes.transData.transform((cost.of(r), 100 * r["top1"])) for r, _ in placed]
    scale = axes.figure.dpi / 72
    taken = [(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in at]
    for r, _ in lines:
        text = _short(f"{r['role']} {words.name(r)}, {words.percent(r['top1'])} %", 44)
        axes.annotate(
            text, (0.0, 100 * r["top1"]), xycoords=("axes fraction", "data"), xytext=(4, 4), textcoords="offset points",
            fontsize=LABEL_PX,
        )  # fmt: skip
        y = axes.transData.transform((1, 100 * r["top1"]))[1]
        taken.append((frame.x0, y - 2 * scale, frame.x0 + len(text) * 0.6 * LABEL_PX * scale, y + 14 * scale))
    for (r, mark), (x, y) in zip(placed, at, strict=True):
        if mark.label is None:
            continue
        text = _short(mark.label, 24)
        width, height = len(text) * 0.62 * LABEL_PX * scale, LABEL_PX * 1.1 * scale
        gap, best = 8 * scale, None
        for dx, dy, align in ((1, 0, "left"), (-1, 0, "right"), (0, 1, "center"), (0, -1, "center"),
                              (0.7, 1, "left"), (0.7, -1, "left"), (-0.7, 1, "right"), (-0.7, -1, "right"),
                              (0, 2.4, "center"), (0, -2.4, "center")):  # fmt: skip
            left = x + dx * gap - {"left": 0, "center": width / 2, "right": width}[align]
            lower = y + dy * gap - height / 2
            box = (left, lower, left + width, lower + height)
            outside = width * height - _overlap(box, frame.extents)
            covered = sum(_overlap(box, other) for other in taken) + 3 * outside
            if best is None or covered < best[0] - 1e-6:
                best = (covered, dx, dy, align, box)
        covered, dx, dy, align, box = best
        if covered > 0.3 * width * height:
            continue
        taken.append(box)
        axes.annotate(
            text, (cost.of(r), 100 * r["top1"]), xytext=(8 * dx, 8 * dy), textcoords="offset points", ha=align,
            va="center", fontsize=LABEL_PX,
        )  # fmt: skip


def _overlap(box: tuple, other: tuple) -> float:
    across = min(box[2], other[2]) - max(box[0], other[0])
    down = min(box[3], other[3]) - max(box[1], other[1])
    return across * down if across > 0 and down > 0 else 0.0


def _short(text: str, longest: int) -> str:
    text = one_line(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


CURVES = (
    ("val_top1", "Validation top-1", "%", 100.0),
    ("val_logloss", "Validation logloss", "nats", 1.0),
    ("loss", "Training loss", "loss", 1.0),
)


def curve_plots(histories: dict[str, list[dict[str, Any]]]) -> list[str]:
    """One SVG for each of validation top-1, validation logloss and training loss that the histories hold.

    A value that is missing or not a number is a gap. Dots are at the epochs whose weights were kept.
    """
    return [
        _curves(field, title, unit, scale, histories)
        for field, title, unit, scale in CURVES
        if any(_known(row, field) for rows in histories.values() for row in rows)
    ]


def kept_epoch(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The row whose weights training kept: the best val_top1, among equals the best val_logloss, then the first."""
    judged = [row for row in rows if _known(row, "val_top1")]

    def rank(row: dict[str, Any]) -> tuple[float, float]:
        return row["val_top1"], -row["val_logloss"] if _known(row, "val_logloss") else -math.inf

    return max(judged, key=rank, default=None)


def kept_epochs(histories: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """What the kept epoch of each history reached, in words, where it has one."""
    kept = {name: (kept_epoch(rows), len(rows)) for name, rows in histories.items()}
    return {
        name: f"{words.percent(row['val_top1'])} % validation top-1 at epoch {row['epoch']:g} of {epochs}"
        for name, (row, epochs) in kept.items()
        if row
    }


def _known(row: dict[str, Any], field: str) -> bool:
    return row.get(field) is not None and math.isfinite(row[field])


def _curves(field: str, title: str, unit: str, scale: float, histories: dict[str, list[dict[str, Any]]]) -> str:
    spoken = []
    with drawing(*CURVE_PX) as figure:
        axes = figure.add_subplot()
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel(unit)
        axes.margins(x=0.03, y=0.12)
        for place, (name, rows) in enumerate(histories.items()):
            known = [row for row in rows if _known(row, field)]
            if not known:
                continue
            role, dashes = LINES[place % len(LINES)]
            values = [scale * row[field] if _known(row, field) else math.nan for row in rows]
            dot = "o" if len(known) == 1 else None
            epochs = [row["epoch"] for row in rows]
            axes.plot(epochs, values, color=COLOURS[role], linestyle=dashes, linewidth=1.8, marker=dot, markersize=5)
            kept, told = kept_epoch(rows), [("last", known[-1])]
            if kept and _known(kept, field):
                axes.plot(kept["epoch"], scale * kept[field], "o", color=COLOURS[role], markersize=6)
                told.insert(0, ("kept", kept))
            ends = [f"{word} {scale * row[field]:.4g} at epoch {row['epoch']:g}" for word, row in told]
            spoken.append(f"{name}: {', '.join(ends)}")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        described = f"{title} over epochs. " + "; ".join(spoken) + "."
        return inline(figure, f"curve-{field.replace('_', '-')}", title, one_line(described))


def calibration_plot(shown: Calibration) -> str:
    """The reliability diagram of one model: accuracy over confidence, a point a bin, its area as its pictures are many.

    The thin lines to the diagonal are the gaps whose mean, weighted by pictures, is the calibration error.
    """
    title = f"{shown.role}, ECE {words.percent(shown.ece)} %"
    most = max(one.n for one in shown.bins)
    with drawing(*CALIBRATION_PX) as figure:
        axes = figure.add_subplot()
        axes.set_title(title)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("accuracy, %")
        axes.plot([0, 100], [0, 100], color=COLOURS["muted"], linestyle=(0, (4, 3)), linewidth=1.1)
        colour = COLOURS.get(shown.role, COLOURS["external"])
        for one in shown.bins:
            x, y = 100 * one.confidence, 100 * one.accuracy
            axes.plot([x, x], [x, y], color=colour, linewidth=1.3, alpha=0.6)
            size = max(3.0, 15 * math.sqrt(one.n / most))
            fill = COLOURS["paper"] if shown.role == "baseline" else colour
            marker = MARKERS.get(shown.role, "^")
            axes.plot([x], [y], marker, markersize=size, color=colour, markerfacecolor=fill, markeredgewidth=1.4)
        axes.set_xlim(-4, 104)
        axes.set_ylim(-4, 104)
        axes.set_xticks([0, 25, 50, 75, 100])
        axes.set_yticks([0, 25, 50, 75, 100])
        sure = sum(one.confidence > one.accuracy for one in shown.bins)
        described = (
            f"Accuracy over confidence of the {shown.role} {shown.name}: too sure in {sure} of {len(shown.bins)} bins. "
            "The table below has the numbers."
        )
        return inline(figure, f"calibration-{shown.role}", title, one_line(described))


def layer_plot(place: int, name: str, layers: list[dict[str, Any]]) -> str:
    """A bar a layer in the order of the graph: the error at its output, and as a mark the part that is its own.

    place: of the file among those of the page. layers: of a file's record, `layer`, `error` and `own_error`
    (fractions, or None).
    """
    known = [layer for layer in layers if layer["error"] is not None]
    with drawing(*LAYERS_PX) as figure:
        axes = figure.add_subplot()
        axes.set_title("Error at each layer, and its own part of it")
        axes.set_ylabel("error, %")
        places = list(range(len(known)))
        axes.bar(places, [100 * layer["error"] for layer in known], width=0.62, color=COLOURS["student"])
        for at, layer in enumerate(known):
            y = 100 * layer["own_error"]
            axes.plot([at - 0.42, at + 0.42], [y, y], color=COLOURS["baseline"], linewidth=2.5)
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.01)
        axes.set_xticks(places, [_short(layer["layer"], 24) for layer in known], rotation=90, fontsize=9)
        worst = sorted(known, key=lambda layer: -layer["own_error"])[:3]
        told = ", ".join(f"{layer['layer']} {words.percent(layer['own_error'], 2)} %" for layer in worst)
        described = f"Quantization error of {len(known)} layers in the order of the graph; the largest own: {told}."
        return inline(figure, f"layers-{place}", f"Error of each layer, {name}", one_line(described))
