"""The plots of what accuracy costs: of one run, of several, of several devices."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from kd2mobile.measure.roles import STUDENT, TEACHER, trained_roles
from kd2mobile.metrics import wilson_interval
from kd2mobile.pages import words
from kd2mobile.pages.plots.labels import Size, place_labels, place_line_labels
from kd2mobile.pages.plots.looks import RUN_SHAPES
from kd2mobile.pages.plots.svg import COLOURS, colour_of, drawing, drawn_as, inline, short
from kd2mobile.text import one_line

ACCURACY_PX = (400, 310)
LABEL_PX = 10
LONGEST_LABEL, LONGEST_LINE_LABEL = 30, 44
HUNDRED_IS_A_STEP = (1, 2, 2.5, 5, 10)
"""Between the ticks of top-1, as a power of ten: above 100 % there is none, however far the axis goes."""


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
    Wilson intervals of the test images.
    """
    return _accuracy_plots(list(zip(records, _marks(records), strict=True)))


def comparison_plots(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The plots of `accuracy_plots` with the files of several runs. runs: a run's letter to its records.

    A run has a colour and a shape, of which there are six. The file that it recommends has its name beside it, and
    baselines are hollow.
    """
    drawn, teachers = [], set()
    for index, (key, records) in enumerate(runs.items()):
        look, best = index % len(RUN_SHAPES), words.best_student(records)
        for r in records:
            if r["role"] == TEACHER.name and (r["model"], r["top1"]) in teachers:
                continue
            teachers |= {(r["model"], r["top1"])} if r["role"] == TEACHER.name else set()
            hollow = drawn_as(r["role"]).hollow
            label = f"{key} {words.precision(r)}" if r is best else None
            if r["role"] == TEACHER.name:
                drawn.append((r, _mark_of_teacher(r)))
            else:
                name = f"{key}, {r['role']} {words.name(r)}"
                drawn.append((r, Mark(f"run-{look + 1}", RUN_SHAPES[look].marker, hollow, label, name)))
    return _accuracy_plots(drawn)


def device_plots(
    devices: dict[str, list[dict[str, Any]]], chosen: list[dict[str, Any]], teachers: list[dict[str, Any]]
) -> list[str]:
    """Top-1 against latency with a series a device, as `comparison_plots` looks; a plot for each set of test images
    on which anything was evaluated that has a latency.

    devices: a device's letter to its records, with evaluated_top1, evaluated_n and evaluated_images beside what was
    measured there. chosen: those of them whose name stands beside the point.
    """
    labels = _device_labels(devices, chosen)
    drawn: dict[tuple, list[tuple[dict[str, Any], Mark]]] = {}
    for index, (key, records) in enumerate(devices.items()):
        look = index % len(RUN_SHAPES)
        for r in records:
            name = ", ".join([words.name(r), *words.runtime_setting(r)])
            hollow, label = drawn_as(r["role"]).hollow, labels.get(id(r))
            mark = Mark(f"run-{look + 1}", RUN_SHAPES[look].marker, hollow, label, f"{key}, {name}")
            if r["evaluated_top1"] is not None:
                evaluated = r | {"top1": r["evaluated_top1"], "n": r["evaluated_n"]}
                drawn.setdefault((r["evaluated_n"], r["evaluated_images"]), []).append((evaluated, mark))
    for r in teachers:
        drawn.get((r["n"], r["images"]), []).append((r, _mark_of_teacher(r)))
    timed = {of: marks for of, marks in drawn.items() if any(ON_DEVICES.of(r) for r, _ in marks)}
    if len(timed) == 1:
        return [_accuracy(marks, ON_DEVICES) for marks in timed.values()]
    return [
        _accuracy(marks, replace(ON_DEVICES, name=f"devices-{number}", title=words.test_images(*of)))
        for number, (of, marks) in enumerate(timed.items(), 1)
    ]


def _mark_of_teacher(record: dict[str, Any]) -> Mark:
    look, name = drawn_as(TEACHER.name), words.name(record)
    return Mark(look.colour, look.marker, look.hollow, name, f"{TEACHER.name} {name}")


def _device_labels(devices: dict[str, list[dict[str, Any]]], chosen: list[dict[str, Any]]) -> dict[int, str]:
    """What stands beside the chosen records, by their id(): device and precision, of several models the name too."""
    alone = len({r["model"] for records in devices.values() for r in records}) == 1
    ours = [(key, r) for key, records in devices.items() for r in records if any(r is one for one in chosen)]
    return {id(r): f"{key} {words.precision(r) if alone else words.name(r)}" for key, r in ours}


def _accuracy_plots(drawn: list[tuple[dict[str, Any], Mark]]) -> list[str]:
    evaluated = [(r, mark) for r, mark in drawn if r["top1"] is not None]
    return [_accuracy(evaluated, cost) for cost in COSTS if any(cost.of(r) for r, _ in evaluated)]


def _marks(records: list[dict[str, Any]]) -> list[Mark]:
    """How the records of one run are drawn. Beside the points of its own student the precision is name enough.

    A file of the baseline has its student's name if that is there, and needs none.
    """
    trained = {role.name for role in trained_roles()}
    students = [words.name(r) for r in records if r["role"] == STUDENT.name]
    alone = len({r["model"] for r in records if r["role"] in trained}) == 1
    marks = []
    for r in records:
        own = alone and r["role"] in trained and r["precision"]
        label = words.precision(r) if own else words.name(r)
        look = drawn_as(r["role"])
        needless = r["role"] in trained - {STUDENT.name} and words.name(r) in students
        name = f"{r['role']} {words.name(r)}"
        marks.append(Mark(look.colour, look.marker, look.hollow, None if needless else label, name))
    return marks


def _accuracy(drawn: list[tuple[dict[str, Any], Mark]], cost: Cost) -> str:
    placed = [(r, mark) for r, mark in drawn if cost.of(r)]
    lines = [(r, mark) for r, mark in drawn if not cost.of(r) and r["role"] == TEACHER.name]
    with drawing(*ACCURACY_PX) as figure:
        axes = figure.add_subplot()
        axes.set_title(cost.title)
        axes.set_xlabel(cost.axis)
        axes.set_ylabel("top-1, %")
        for r, mark in placed:
            x, y, colour = cost.of(r), 100 * r["top1"], colour_of(mark.colour)
            if r.get("n"):
                low, high = wilson_interval(r["top1"], r["n"])
                axes.plot([x, x], [100 * low, 100 * high], color=colour, linewidth=1, alpha=0.45, solid_capstyle="butt")
            fill = COLOURS["paper"] if mark.hollow else colour
            axes.plot([x], [y], mark.shape, markersize=7, color=colour, markerfacecolor=fill, markeredgewidth=1.6)
        for r, _ in lines:
            axes.axhline(100 * r["top1"], color=colour_of(TEACHER.name), linestyle=(0, (5, 3)), linewidth=1.3)
        _log_if_wide(axes, [cost.of(r) for r, _ in placed], cost.form)
        low, high = axes.get_ylim()
        axes.set_ylim(low, min(high + 0.06 * (high - low), 101.5))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=HUNDRED_IS_A_STEP))
        figure.draw_without_rendering()
        if lines:
            _make_room_above(axes, max(100 * r["top1"] for r, _ in lines))
            figure.draw_without_rendering()
        _label(axes, placed, lines, cost)
        values = [f"{mark.name}: {words.percent(r['top1'])} %" for r, mark in [*placed, *lines]]
        descriptions = [f"{value} at {cost.form(cost.of(r))}" for value, (r, _) in zip(values, placed, strict=False)]
        descriptions += [f"{value}, a dashed line" for value in values[len(placed) :]]
        described = f"Top-1 in percent over {cost.axis}. " + "; ".join(descriptions) + "."
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
    """Each point's label beside it, or with a thin line to it, and each line's on it; none lies on another.

    There is none where there is no room for one: the table and the description name all.
    """
    scale = axes.figure.dpi / 72
    frame = tuple(float(end) / scale for end in axes.get_window_extent().extents)
    ends = [(cost.of(r), 100 * r["top1"]) for r, _ in placed]
    points = [tuple(float(c) / scale for c in axes.transData.transform(end)) for end in ends]
    line_texts = [
        short(f"{r['role']} {words.name(r)}, {words.percent(r['top1'])} %", LONGEST_LINE_LABEL) for r, _ in lines
    ]
    heights = [float(axes.transData.transform((1, 100 * r["top1"]))[1]) / scale for r, _ in lines]
    on_lines = place_line_labels(heights, [_size(text) for text in line_texts], frame)
    for text, (r, _), height, position in zip(line_texts, lines, heights, on_lines, strict=True):
        if position:
            fraction, edge = (0.0, frame[0]) if position.align == "left" else (1.0, frame[2])
            from_end = (position.at[0] - edge, position.at[1] - height)
            _write(axes, text, (fraction, 100 * r["top1"]), from_end, position.align, ("axes fraction", "data"))
    texts = [mark.label and short(mark.label, LONGEST_LABEL) for _, mark in placed]
    taken = [position.box for position in on_lines if position]
    positions = place_labels(points, [_size(text) if text else None for text in texts], frame, taken)
    for text, end, point, position in zip(texts, ends, points, positions, strict=True):
        if position is None:
            continue
        _write(axes, text, end, (position.at[0] - point[0], position.at[1] - point[1]), position.align)
        if position.leader:
            to_text = (position.leader[0] - point[0], position.leader[1] - point[1])
            line = {"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4}
            axes.annotate("", end, xytext=to_text, textcoords="offset points", arrowprops=line)


def _write(axes: Axes, text: str, end: tuple, from_end: tuple, align: str, coordinates: Any = "data") -> None:
    axes.annotate(
        text, end, xycoords=coordinates, xytext=from_end, textcoords="offset points", ha=align, va="center",
        fontsize=LABEL_PX,
    )  # fmt: skip


def _size(text: str) -> Size:
    """How much room a label takes in whatever font the browser has: rather too much."""
    return len(text) * 0.62 * LABEL_PX, 1.1 * LABEL_PX
