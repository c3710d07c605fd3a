"""How a file is timed on every device: in which settings, how often and how long."""

import math
from typing import Literal, NamedTuple

import msgspec

from kd2mobile.measure.rounds import Rounds
from kd2mobile.text import count_of

Rule = Literal["kd2mobile", "mlperf"]
FEWEST_RUNS = 100
WARMUP_RUNS = 10
WARMUP_SECONDS = 0.25
TIMED_SECONDS = 1.0
MOST_RUNS = 20_000
MLPERF_QUERIES = 1024
MLPERF_SECONDS = 60.0
ROUNDS = Rounds(5, 20)


class Span(NamedTuple):
    """How long timing goes on: for `runs` runs and `seconds`, whichever ends later, but at most `most` runs."""

    runs: int
    seconds: float
    most: int | None

    def over(self, rounds: int) -> "Span":
        """What of it one of so many rounds has, so that all of them together are no shorter.

        >>> Span(300, 1.0, 20_000).over(5)
        Span(runs=60, seconds=0.2, most=4000)
        """
        most = None if self.most is None else math.ceil(self.most / rounds)
        return Span(math.ceil(self.runs / rounds), self.seconds / rounds, most)


def warmup_of(span: Span) -> Span:
    """The untimed runs before it: a quarter of a second, less before a timing that has no time."""
    return Span(WARMUP_RUNS, min(WARMUP_SECONDS, span.seconds), MOST_RUNS)


class Setting(NamedTuple):
    """One way to run a file. threads: of the runtime; xnnpack: whether LiteRT's XNNPACK kernels may be used."""

    threads: int
    xnnpack: bool

    @property
    def words(self) -> str:
        """`1 thread, XNNPACK on`, as requested. A file whose ops have no XNNPACK kernel runs without it."""
        return f"{count_of(self.threads, 'thread')}, XNNPACK {'on' if self.xnnpack else 'off'}"


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """What is timed: every combination of threads and xnnpack. cores: those that the timing process may use, empty for
    any.

    runs: the least number of timed runs by the rule `kd2mobile`; 0 leaves latency out. The rule `mlperf` is MLPerf
    Mobile's single stream: at least 1,024 queries and 60 seconds, p90 counts. Source: MLPerf Mobile Inference Benchmark
    (Janapa Reddi et al. 2022), run rules.
    """

    threads: tuple[int, ...] = (1,)
    xnnpack: tuple[bool, ...] = (True,)
    cores: tuple[int, ...] = ()
    rule: Rule = "kd2mobile"
    runs: int = FEWEST_RUNS

    @property
    def settings(self) -> list[Setting]:
        """Each way to run a file; the first is the one that is evaluated."""
        return [Setting(threads, xnnpack) for xnnpack in self.xnnpack for threads in self.threads]

    @property
    def span(self) -> Span:
        """How long each setting is timed."""
        if self.rule == "mlperf":
            return Span(MLPERF_QUERIES, MLPERF_SECONDS, None)
        return Span(self.runs, TIMED_SECONDS, MOST_RUNS)

    @property
    def rounds(self) -> Rounds:
        """In how many rounds the files take turns. One for `mlperf`, whose single stream is not interrupted."""
        return Rounds(1, 1) if self.rule == "mlperf" else ROUNDS
