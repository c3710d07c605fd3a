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
    run: Callable[[], None], runs: int = FEWEST_RUNS, warmup: int = WARMUP_RUNS, *, seconds: float = TIMED_SECONDS
) -> Latency:
    """Times `run` at least `runs` times, after at least `warmup` untimed ones, with the garbage collector off.

    Warm-up goes on for a quarter of `seconds`, timing for `seconds`, so that a net of a few microseconds is not
    judged by a few milliseconds of the machine's life; MOST_RUNS ends either. Percentiles are interpolated linearly
    between the runs.
    """
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        _times_ns(run, warmup, seconds * WARMUP_SECONDS / TIMED_SECONDS)
        times_ms = np.array(_times_ns(run, runs, seconds), np.float64) / 1e6
    finally:
        if collecting:
            gc.enable()
    p50, p90, p99 = np.percentile(times_ms, (50, 90, 99)).tolist()
    return Latency(p50, p90, p99, float(times_ms.mean()), len(times_ms))


def _times_ns(run: Callable[[], None], runs: int, seconds: float) -> list[int]:
    clock, times = time.perf_counter_ns, []
    end = clock() + int(seconds * 1e9)
    while len(times) < runs or (clock() < end and len(times) < MOST_RUNS):
        start = clock()
        run()
        times.append(clock() - start)
    return times
