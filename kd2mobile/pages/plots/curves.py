"""The plots of how the students learned, how far confidence is from accuracy, what quantization does to layers."""

import math
from typing import Any

from matplotlib.ticker import MaxNLocator

from kd2mobile.measure.roles import title_of
from kd2mobile.pages import words
from kd2mobile.pages.plots.svg import COLOURS, colour_of, drawing, drawn_as, inline, short
from kd2mobile.pages.view import Calibration
from kd2mobile.text import one_line
from kd2mobile.tflite.results import LayerError

CURVE_PX = (360, 280)
CALIBRATION_PX = (320, 300)
LAYERS_PX = (860, 340)
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
    evaluated = [row for row in rows if _known(row, "val_top1")]

    def rank(row: dict[str, Any]) -> tuple[float, float]:
        return row["val_top1"], -row["val_logloss"] if _known(row, "val_logloss") else -math.inf

    return max(evaluated, key=rank, default=None)


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
    descriptions = []
    with drawing(*CURVE_PX) as figure:
        axes = figure.add_subplot()
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.set_ylabel(unit)
        axes.margins(x=0.03, y=0.12)
        for role, rows in histories.items():
            known = [row for row in rows if _known(row, field)]
            if not known:
                continue
            look = drawn_as(role)
            colour = colour_of(look.colour)
            values = [scale * row[field] if _known(row, field) else math.nan for row in rows]
            dot = "o" if len(known) == 1 else None
            epochs = [row["epoch"] for row in rows]
            axes.plot(epochs, values, color=colour, linestyle=look.stroke, linewidth=1.8, marker=dot, markersize=5)
            kept, ends = kept_epoch(rows), [("last", known[-1])]
            if kept and _known(kept, field):
                axes.plot(kept["epoch"], scale * kept[field], "o", color=colour, markersize=6)
                ends.insert(0, ("kept", kept))
            values_at = [f"{word} {scale * row[field]:.4g} at epoch {row['epoch']:g}" for word, row in ends]
            descriptions.append(f"{title_of(role)}: {', '.join(values_at)}")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        described = f"{title} over epochs. " + "; ".join(descriptions) + "."
        return inline(figure, f"curve-{field.replace('_', '-')}", title, one_line(described))


def calibration_plot(shown: Calibration) -> str:
    """The reliability diagram of one model: accuracy over confidence, a point a bin, its area as its images are many.

    The thin lines to the diagonal are the gaps whose mean, weighted by images, is the calibration error.
    """
    title = f"{shown.role}, ECE {words.percent(shown.ece)} %"
    most = max(one.n for one in shown.bins)
    with drawing(*CALIBRATION_PX) as figure:
        axes = figure.add_subplot()
        axes.set_title(title)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("accuracy, %")
        axes.plot([0, 100], [0, 100], color=COLOURS["muted"], linestyle=(0, (4, 3)), linewidth=1.1)
        look = drawn_as(shown.role)
        colour = colour_of(look.colour)
        for one in shown.bins:
            x, y = 100 * one.confidence, 100 * one.accuracy
            axes.plot([x, x], [x, y], color=colour, linewidth=1.3, alpha=0.6)
            size = max(3.0, 15 * math.sqrt(one.n / most))
            fill = COLOURS["paper"] if look.hollow else colour
            axes.plot([x], [y], look.marker, markersize=size, color=colour, markerfacecolor=fill, markeredgewidth=1.4)
        axes.set_xlim(-4, 104)
        axes.set_ylim(-4, 104)
        axes.set_xticks([0, 25, 50, 75, 100])
        axes.set_yticks([0, 25, 50, 75, 100])
        sure = sum(one.confidence > one.accuracy for one in shown.bins)
        described = (
            f"Accuracy over confidence of the {shown.role} {shown.name}: overconfident in {sure} of "
            f"{len(shown.bins)} bins. "
            "The table below has the numbers."
        )
        return inline(figure, f"calibration-{shown.role}", title, one_line(described))


def layer_plot(index: int, name: str, layers: list[LayerError]) -> str:
    """A bar a layer in the order of the graph: the error at its output, and as a mark the part that is its own.

    index: of the file among those of the page. layers: of a file's record.
    """
    known = [layer for layer in layers if layer.error is not None]
    with drawing(*LAYERS_PX) as figure:
        axes = figure.add_subplot()
        axes.set_title("Error at each layer, and its own part of it")
        axes.set_ylabel("error, %")
        positions = list(range(len(known)))
        axes.bar(positions, [100 * layer.error for layer in known], width=0.62, color=COLOURS["accent"])
        for at, layer in enumerate(known):
            y = 100 * layer.own_error
            axes.plot([at - 0.42, at + 0.42], [y, y], color=COLOURS["contrast"], linewidth=2.5)
        axes.grid(visible=False, axis="x")
        axes.margins(x=0.01)
        axes.set_xticks(positions, [short(layer.layer, 24) for layer in known], rotation=90, fontsize=9)
        worst = sorted(known, key=lambda layer: -layer.own_error)[:3]
        largest = ", ".join(f"{layer.layer} {words.percent(layer.own_error, 2)} %" for layer in worst)
        described = f"Quantization error of {len(known)} layers in the order of the graph; the largest own: {largest}."
        return inline(figure, f"layers-{index}", f"Error of each layer, {name}", one_line(described))
