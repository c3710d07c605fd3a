"""Where the labels of a plot stand: one after the other, each where it covers the least, none on another.

Everything is in one unit, pixels of the plot, y upwards. The same points give the same positions.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

Point = tuple[float, float]
Size = tuple[float, float]
Box = tuple[float, float, float, float]
"""Left, lower, right, upper."""

MARKER_PX = 10
"""Side of the square that a point covers."""
GAP_PX = 8
"""From a point to the label beside it."""
BESIDE = ((1, 0, "left"), (-1, 0, "right"), (0, 1, "center"), (0, -1, "center"), (0.7, 1, "left"), (0.7, -1, "left"),
          (-0.7, 1, "right"), (-0.7, -1, "right"))  # fmt: skip
FURTHER_PX = (22, 32, 44, 58, 74, 92, 112)
"""From a point to a label that a line leads to, the nearest first, in so many directions."""
DIRECTIONS = 24
MOST_COVERED = 0.3
"""The part of a label that may lie on points."""
LEADER_COST, CROSSING_COST, A_PIXEL_FURTHER = 10.0, 40.0, 0.4
"""What a line costs, each crossing of two and its length, in pixels of points that are covered."""


class Position(NamedTuple):
    """at: where the text is held, at the middle of its height; align: by which end of it, `left`, `center`, `right`.
    leader: the end of the line from the point, None for a label beside it."""

    at: Point
    align: str
    box: Box
    leader: Point | None = None


def place_labels(
    points: Sequence[Point], sizes: Sequence[Size | None], frame: Box, taken: Sequence[Box] = ()
) -> list[Position | None]:
    """A position inside the frame for the label of each point, None where there is no room, or no label.

    sizes: width and height of the labels, None without one. taken: where no label may be. One after the other, a label
    goes where it covers the least of points and lines; two never overlap, and no line runs through a label. Of several
    orders the one counts that leaves the fewest labels out, then the one that costs least; where none has room for all,
    they are tried with lines alone, which leave the middle of a crowd free.
    """
    named = [index for index, size in enumerate(sizes) if size]
    orders = [named, *(sorted(named, key=lambda i: (sign * points[i][axis], i)) for axis in (1, 0) for sign in (1, -1))]
    ways = [(order, beside) for beside in (BESIDE, ()) for order in orders]
    best: tuple[dict[int, Position], float] = ({}, math.inf)
    for order, beside in ways:
        if beside or len(best[0]) < len(named):
            way = _placed(points, sizes, order, frame, list(taken), beside)
            best = min(best, way, key=lambda one: (-len(one[0]), one[1]))
    return [best[0].get(index) for index in range(len(points))]


def _placed(
    points: Sequence[Point],
    sizes: Sequence[Size | None],
    order: list[int],
    frame: Box,
    boxes: list[Box],
    beside: Sequence[tuple[float, float, str]],
) -> tuple[dict[int, Position], float]:
    """The positions of the labels in that order, those without room left out, and what they cost together."""
    markers = [_around(point, MARKER_PX / 2) for point in points]
    leaders: list[tuple[Point, Point]] = []
    positions, costs = {}, 0.0
    for index in order:
        point, size = points[index], sizes[index]
        best, least = None, math.inf
        for position, cost in _candidates(point, size, beside):
            if cost < least and _is_free(position, point, frame, boxes, leaders):
                covered = sum(_overlap(position.box, marker) for marker in markers)
                crossed = [one for one in leaders if position.leader and _cross((point, position.leader), one)]
                cost += covered + CROSSING_COST * len(crossed)
                if cost < least and covered <= MOST_COVERED * size[0] * size[1]:
                    best, least = position, cost
        if best:
            positions[index], costs = best, costs + least
            boxes.append(best.box)
            leaders += [(point, best.leader)] if best.leader else []
    return positions, costs


def place_line_labels(heights: Sequence[float], sizes: Sequence[Size], frame: Box) -> list[Position | None]:
    """A position for the label of each level line: above or below it, at its left or right end, None without room."""
    boxes: list[Box] = []
    chosen = []
    for height, (width, tall) in zip(heights, sizes, strict=True):
        ends = ((frame[0] + 4, "left"), (frame[2] - 4, "right"))
        sides = (height + 4 + tall / 2, height - 4 - tall / 2)
        positions = [_position((x, y), align, (width, tall)) for y in sides for x, align in ends]
        position = next((p for p in positions if not any(_overlap(p.box, box) for box in boxes)), None)
        boxes += [position.box] if position else []
        chosen.append(position)
    return chosen


def _candidates(point: Point, size: Size, beside: Sequence[tuple[float, float, str]]) -> list[tuple[Position, float]]:
    """The positions for a label with what each costs by itself, the cheapest first."""
    positions = [
        (
            _position(
                (point[0] + GAP_PX * across, point[1] + GAP_PX * up * (1 + (align == "center") / 4)), align, size
            ),
            0.0,
        )
        for across, up, align in beside
    ]
    for away in FURTHER_PX:
        for turn in range(DIRECTIONS):
            across, up = math.cos(2 * math.pi * turn / DIRECTIONS), math.sin(2 * math.pi * turn / DIRECTIONS)
            at = (point[0] + away * across, point[1] + away * up)
            align = "left" if across > 0.3 else "right" if across < -0.3 else "center"
            to_text = away - (size[1] / 2 + 1 if align == "center" else 3)
            leader = (point[0] + to_text * across, point[1] + to_text * up)
            positions.append((_position(at, align, size, leader), LEADER_COST + A_PIXEL_FURTHER * away))
    return positions


def _position(at: Point, align: str, size: Size, leader: Point | None = None) -> Position:
    left = at[0] - {"left": 0.0, "center": 0.5, "right": 1.0}[align] * size[0]
    lower = at[1] - size[1] / 2
    return Position(at, align, (left, lower, left + size[0], lower + size[1]), leader)


def _is_free(
    position: Position, point: Point, frame: Box, boxes: list[Box], leaders: list[tuple[Point, Point]]
) -> bool:
    box = position.box
    inside = box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
    return (
        inside
        and not any(_overlap(box, other) for other in boxes)
        and not any(_runs_through(leader, box) for leader in leaders)
        and not (position.leader and any(_runs_through((point, position.leader), other) for other in boxes))
    )


def _around(point: Point, reach: float) -> Box:
    return (point[0] - reach, point[1] - reach, point[0] + reach, point[1] + reach)


def _overlap(box: Box, other: Box) -> float:
    """The area that two boxes share."""
    across = min(box[2], other[2]) - max(box[0], other[0])
    up = min(box[3], other[3]) - max(box[1], other[1])
    return across * up if across > 0 and up > 0 else 0.0


def _runs_through(line: tuple[Point, Point], box: Box) -> bool:
    """Whether any part of the line is inside the box. Source: Liang and Barsky 1984."""
    enters, leaves = 0.0, 1.0
    for axis in (0, 1):
        start, move = line[0][axis], line[1][axis] - line[0][axis]
        if move == 0:
            if not box[axis] < start < box[axis + 2]:
                return False
            continue
        near, far = sorted(((box[axis] - start) / move, (box[axis + 2] - start) / move))
        enters, leaves = max(enters, near), min(leaves, far)
    return enters < leaves


def _cross(line: tuple[Point, Point], other: tuple[Point, Point]) -> bool:
    """Whether two lines cross, their ends not counted."""

    def side(a: Point, b: Point, c: Point) -> float:
        return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

    return side(*line, other[0]) * side(*line, other[1]) < 0 and side(*other, line[0]) * side(*other, line[1]) < 0
