"""How long one picture takes: single stream, one run after another."""

import gc
import time
from collections.abc import Callable

import numpy as np

from kd2mobile.measure.record import Latency

FEWEST_RUNS = 100
WARMUP_RUNS = 10
WARMUP_SECONDS = 0.25
TIMED_SECONDS = 1.0
MOST_RUNS = 20_000


def measure_latency(
    run: Callable[[], None],
    runs: int = FEWEST_RUNS,
    warmup: int = WARMUP_RUNS,
    *,
    seconds: float = TIMED_SECONDS,
    most: int | None = MOST_RUNS,
    watch: Callable[[], None] | None = None,
) -> Latency:
    """Times `run` at least `runs` times, after at least `warmup` untimed ones, with the garbage collector off.

    Warm-up goes on for a quarter of a second, timing for `seconds`, so that a net of a few microseconds is not judged
    by a few milliseconds of the machine's life; `most` runs end either. Percentiles are interpolated linearly between
    the runs. watch: called before the first timed run and after the last.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        _times_ns(run, warmup, min(WARMUP_SECONDS, seconds), MOST_RUNS)
        if watch:
            watch()
        times_ms = np.array(_times_ns(run, runs, seconds, most), np.float64) / 1e6
        if watch:
            watch()
    finally:
        if collecting:
            gc.enable()
    return latency_of(times_ms)


def latency_of(times_ms: np.ndarray, steps: int = 1) -> Latency:
    """The percentiles of timed values in milliseconds. steps: how many runs each value is the mean of."""
    p50, p90, p95, p99 = np.percentile(times_ms, (50, 90, 95, 99)).tolist()
    return Latency(p50, p90, p99, float(np.mean(times_ms)), len(times_ms), p95, steps)


def _times_ns(run: Callable[[], None], runs: int, seconds: float, most: int | None) -> list[int]:
    clock, times = time.perf_counter_ns, []
    end = clock() + int(seconds * 1e9)
    while len(times) < runs or (clock() < end and (most is None or len(times) < most)):
        start = clock()
        run()
        times.append(clock() - start)
    return times
