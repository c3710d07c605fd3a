"""How long one image takes: single stream, one run after another."""

import gc
import time
from collections.abc import Callable

import numpy as np

from kd2mobile.measure.protocol import FEWEST_RUNS, MOST_RUNS, TIMED_SECONDS, WARMUP_RUNS, Span, warmup_of
from kd2mobile.measure.record import Latency

BUSY = 2.0
"""Where one run of ten takes this many times the median, the device did other work meanwhile: on a quiet one p90 is
at most a fifth above it."""


def measure_latency(
    run: Callable[[], None],
    runs: int = FEWEST_RUNS,
    warmup: int = WARMUP_RUNS,
    *,
    seconds: float = TIMED_SECONDS,
    most: int | None = MOST_RUNS,
) -> Latency:
    """Times `run` in one go: as `times_ms` does, after at least `warmup` untimed runs."""
    span = Span(runs, seconds, most)
    return latency_of(times_ms(run, span, warmup_of(span)._replace(runs=warmup)))


def times_ms(run: Callable[[], None], span: Span, warmup: Span, watch: Callable[[], None] = lambda: None) -> np.ndarray:
    """Times `run` over the span after the warm-up, with the garbage collector off: long enough that the
    latency of a network of a few microseconds does not depend on a few milliseconds of the machine's life.

    watch: called before the first timed run and after the last. Returns milliseconds, float64 [runs].
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        _times_ns(run, warmup)
        watch()
        times = np.array(_times_ns(run, span), np.float64) / 1e6
        watch()
    finally:
        if collecting:
            gc.enable()
    return times


def latency_of(times_ms: np.ndarray, steps: int = 1) -> Latency:
    """The percentiles of timed values in milliseconds, interpolated linearly between them, and whether the device was
    busy by them. steps: how many runs each value is the mean of."""
    p50, p90, p95, p99 = np.percentile(times_ms, (50, 90, 95, 99)).tolist()
    return Latency(p50, p90, p99, float(np.mean(times_ms)), len(times_ms), p95, steps, busy=p90 > BUSY * p50)


def _times_ns(run: Callable[[], None], span: Span) -> list[int]:
    runs, seconds, most = span
    clock, times = time.perf_counter_ns, []
    end = clock() + int(seconds * 1e9)
    while len(times) < runs or (clock() < end and (most is None or len(times) < most)):
        start = clock()
        run()
        times.append(clock() - start)
    return times
