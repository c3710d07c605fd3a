"""Files timed in turn, round by round, so that whatever else the device does meets all of them alike."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from kd2mobile.metrics import median_interval

WIDE = 0.05
"""A spread above it is too wide: two runs of one file in a row differ by less."""


class Rounds(NamedTuple):
    """How many rounds there are: `fewest` at a time, until no spread is too wide, `most` in all."""

    fewest: int
    most: int


def take_turns(
    turns: Sequence[Callable[[], float]], rounds: Rounds, repeats: Callable[[float], None] = lambda spread: None
) -> list[list[float]]:
    """Calls every turn once per round and returns what each gave, by turn. Round i begins with turn i, so that none is
    always the first or behind the same other one.

    turns: each times one file and returns its median, milliseconds. repeats: is told the widest spread before more
    rounds are added because of it.
    """
    medians: list[list[float]] = [[] for _ in turns]
    while True:
        for _ in range(rounds.fewest):
            first = len(medians[0]) % len(turns)
            for index in (*range(first, len(turns)), *range(first)):
                medians[index].append(turns[index]())
        widest = max((spread for spread in spreads(medians) if spread is not None), default=0.0)
        if widest <= WIDE or len(medians[0]) + rounds.fewest > rounds.most:
            return medians
        repeats(widest)


def spreads(medians: Sequence[Sequence[float]]) -> list[float | None]:
    """How well the rounds agree on each file: the width of its `median_interval` as a part of its median, None where
    the rounds are too few. Where there are several files each median is divided by the geometric mean of its round
    first, which takes out what slowed the whole round.

    medians: by file, one per round, milliseconds.

    >>> spreads([[1, 2, 1, 1, 4], [3, 6, 3, 3, 12]])
    [0.0, 0.0]
    >>> spreads([[1, 1, 1, 1.5, 1]]), spreads([[1]])
    ([0.5], [None])
    """
    means = [math.exp(sum(map(math.log, one)) / len(one)) for one in zip(*medians, strict=True)]
    if len(medians) == 1:
        means = [1.0] * len(means)
    shares = [[value / mean for value, mean in zip(of_file, means, strict=True)] for of_file in medians]
    return [_width(of_file) for of_file in shares]


def _width(values: Sequence[float]) -> float | None:
    interval = median_interval(values)
    return None if interval is None else round((interval[1] - interval[0]) / median(values), 12)


def ratio(medians: Sequence[float], other: Sequence[float]) -> tuple[float, float, float] | None:
    """What one file takes of another's time, round by round: the median of the ratios and its `median_interval`; None
    where the rounds are too few.

    medians, other: milliseconds by round, of the same rounds.

    >>> ratio([2, 4, 2, 2, 2], [1, 2, 1, 1, 1])
    (2.0, 2.0, 2.0)
    """
    ratios = [mine / theirs for mine, theirs in zip(medians, other, strict=True)]
    interval = median_interval(ratios)
    return interval and (median(ratios), *interval)
