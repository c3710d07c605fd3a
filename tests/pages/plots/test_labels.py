"""Labels of a plot: however dense the points, none stands on another."""

import re
from itertools import combinations

import numpy as np
import pytest

from kd2mobile.pages.plots.accuracy import ACCURACY_PX, accuracy_plots
from kd2mobile.pages.plots.labels import place_labels, place_line_labels
from kd2mobile.pages.words import tables

FRAME = (40.0, 30.0, 390.0, 280.0)
FILES = [(c, p) for c in ("none", "qat", "prune", "cluster") for p in ("fp32", "fp16", "int8_dynamic", "int8")][:14]


def share(box, other):
    return min(box[2], other[2]) > max(box[0], other[0]) and min(box[3], other[3]) > max(box[1], other[1])


def runs_through(line, box):
    (x, y), (to_x, to_y) = line
    along = np.linspace(0, 1, 400)
    xs, ys = x + along * (to_x - x), y + along * (to_y - y)
    return bool(((xs > box[0] + 0.5) & (xs < box[2] - 0.5) & (ys > box[1] + 0.5) & (ys < box[3] - 0.5)).any())


@pytest.mark.parametrize("spread", [0, 3, 15, 60, 200])
@pytest.mark.parametrize("seed", range(4))
def test_no_two_labels_overlap_and_all_lie_inside(seed, spread):
    rng = np.random.default_rng(seed)
    points = [tuple(point) for point in rng.uniform(-0.5, 0.5, (14, 2)) * spread + (215, 150)]
    sizes = [(float(width), 11.0) for width in rng.integers(25, 120, 14)]
    found = place_labels(points, sizes, FRAME)
    placed = [place for place in found if place]
    assert len(placed) >= (8 if spread < 10 else 11), "there is room for most, on one spot too"
    assert not any(share(one.box, other.box) for one, other in combinations(placed, 2))
    for point, place in zip(points, found, strict=True):
        if place:
            left, lower, right, upper = place.box
            assert left >= FRAME[0] and lower >= FRAME[1] and right <= FRAME[2] and upper <= FRAME[3]
            lines = [(point, place.leader)] if place.leader else []
            assert not any(runs_through(line, other.box) for line in lines for other in placed)
    assert found == place_labels(points, sizes, FRAME), "the same points give the same places"


def test_a_point_by_itself_has_its_label_beside_it_and_one_without_has_none():
    places = place_labels([(100.0, 100.0), (300.0, 200.0)], [(30.0, 11.0), None], FRAME)
    assert places[0].leader is None and places[0].at == (108.0, 100.0) and places[1] is None
    (at_the_edge,) = place_labels([(380.0, 100.0)], [(60.0, 11.0)], FRAME)
    assert at_the_edge.align == "right"
    assert place_labels([(100.0, 100.0)], [(400.0, 11.0)], FRAME) == [None], "wider than the plot"


def test_labels_of_lines_close_together_stand_apart():
    heights = [200.0, 203.0, 206.0]
    places = [place for place in place_line_labels(heights, [(150.0, 11.0)] * 3, FRAME) if place]
    assert len(places) == 3 and not any(share(a.box, b.box) for a, b in combinations(places, 2))


def test_fourteen_files_close_together_are_named_legibly(make_record):
    """As the plot is written: the boxes of the texts by where each stands, half an em a letter and its height."""
    records = [
        make_record(compression=c, precision=p, top1=0.83 + 0.001 * (i % 5), p50=0.25 + 0.004 * i, size_bytes=340_000)
        for i, (c, p) in enumerate(FILES)
    ]
    names = {", ".join(w for w in (p, c) if w != "none") for c, p in FILES}
    for plot in accuracy_plots(tables([*records, make_record("teacher", p50=None, size_bytes=None)])):
        boxes = {}
        written = re.findall(r'<text style="([^"]*)" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]+)</text>', plot)
        for style, x, y, text in written:
            if text in names:
                width, align = 5.0 * len(text), (re.findall(r"text-anchor: (\w+)", style) or ["start"])[0]
                left = float(x) - {"start": 0.0, "middle": 0.5, "end": 1.0}[align] * width
                boxes[text] = (left, float(y) - 8, left + width, float(y) + 2)
        assert len(boxes) >= 10 and all(box[0] >= 0 and box[2] <= ACCURACY_PX[0] for box in boxes.values())
        assert [pair for pair in combinations(boxes, 2) if share(*map(boxes.get, pair))] == []
