"""How timing counts and what it leaves as it was; how long anything takes is never asserted."""

import gc
import sys
from pathlib import Path
from subprocess import Popen

import numpy as np
import pytest

from kd2mobile.backend import child
from kd2mobile.errors import ModelFileError
from kd2mobile.measure import latency
from kd2mobile.measure.host.machine import device_words
from kd2mobile.measure.latency import measure_latency
from kd2mobile.measure.litert import worker
from kd2mobile.measure.litert.worker import FileToTime, peak_rss_mib, profile_file, profile_files
from kd2mobile.measure.protocol import Setting, Span
from kd2mobile.measure.rounds import Rounds


def test_every_run_is_counted_after_the_warm_up():
    calls = []
    measured = measure_latency(lambda: calls.append(gc.isenabled()), runs=100, warmup=7, seconds=0)
    assert measured.n == 100 and len(calls) == 107
    assert not any(calls) and gc.isenabled()


def test_percentiles_are_those_of_the_runs(monkeypatch):
    durations = [10_000_000] * 5 + list(range(1_000_000, 102_000_000, 1_000_000))  # 5 of warm-up, then 1 to 101 ms
    now, left = [0], iter(durations)
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: now[0])

    def run():
        now[0] += next(left)

    measured = measure_latency(run, runs=101, warmup=5, seconds=0)
    assert (measured.p50, measured.p90, measured.p99, measured.mean, measured.n) == (51, 91, 100, 51, 101)


def test_a_fast_run_is_repeated_until_its_time_is_up(monkeypatch):
    now = [0]
    monkeypatch.setattr(latency.time, "perf_counter_ns", lambda: now[0])

    def run():
        now[0] += 1_000_000

    assert measure_latency(run, runs=100, warmup=10, seconds=0.4).n == 400
    assert measure_latency(run, runs=100, warmup=10, seconds=0.4, most=150).n == 150


def test_the_collector_comes_back_after_a_fault():
    with pytest.raises(RuntimeError):
        measure_latency(lambda: (_ for _ in ()).throw(RuntimeError("broken")).__next__(), runs=1)
    assert gc.isenabled()


def test_a_file_is_profiled_in_its_own_process(models):
    ballast = np.ones(400 * 2**20, np.uint8)  # what this process holds must not count
    profile = profile_file(models / "full_uint8.tflite", Setting(1, True))
    assert profile.runtime.startswith("ai-edge-litert ")
    assert profile.init_ms > 0 and profile.first_run_ms > 0
    assert profile.latency_ms.n >= 100
    assert 0 < profile.latency_ms.p50 <= profile.latency_ms.p90 <= profile.latency_ms.p99
    if sys.platform == "linux":
        assert peak_rss_mib() > 400 > profile.peak_rss_mib > 10
    del ballast


def test_files_take_turns_in_processes_that_stay(models):
    """MLPerf's one round has no rounds to compare; five of two runs each are ten runs."""
    files = [FileToTime(models / "uint8.tflite"), FileToTime(models / "full_uint8.tflite")]
    turns = []
    both = profile_files(files, Setting(1, True), span=Span(10, 0.0, None), rounds=Rounds(5, 5), done=turns.append)
    assert turns == [1] * 10
    for profile in both:
        latency = profile.latency_ms
        assert latency.n == 10 and len(latency.rounds) == 5 and latency.spread >= 0 and latency.busy in (True, False)
        assert min(latency.rounds) <= latency.p50 <= max(latency.rounds)
        assert profile.conditions.before.load is not None and profile.peak_rss_mib > 10
    (alone,) = profile_files(files[:1], Setting(1, True), span=Span(10, 0.0, None), rounds=Rounds(1, 1))
    assert (alone.latency_ms.n, alone.latency_ms.rounds, alone.latency_ms.spread) == (10, [], None)


def test_the_file_whose_process_dies_is_reported(models, monkeypatch):
    files = [FileToTime(models / "uint8.tflite"), FileToTime(models / "full_uint8.tflite")]
    children = []
    monkeypatch.setattr(
        child.subprocess, "Popen", lambda *args, **how: children.append(Popen(*args, **how)) or children[-1]
    )

    def turns_of_the_dead(turns, *_):
        children[1].kill()
        return [[turn()] for turn in turns]

    monkeypatch.setattr(worker, "take_turns", turns_of_the_dead)
    with pytest.raises(
        ModelFileError, match="full_uint8.tflite: must run in LiteRT, got a process that was ended by SIGKILL"
    ):
        profile_files(files, Setting(1, True), span=Span(10, 0.0, None), rounds=Rounds(1, 1))
    assert all(one.poll() is not None for one in children), "none is left"


def test_what_one_file_met_all_of_its_rounds_met(models, monkeypatch):
    def unsteady(turns, *_):
        for turn in turns:
            turn()
        return [[1.0] * 5, [1.0, 1.0, 1.0, 1.0, 2.0]]

    monkeypatch.setattr(worker, "take_turns", unsteady)
    files = [FileToTime(models / "uint8.tflite"), FileToTime(models / "full_uint8.tflite")]
    both = profile_files(files, Setting(1, True), span=Span(10, 0.0, None), rounds=Rounds(1, 1))
    assert [(p.latency_ms.busy, len(p.latency_ms.rounds)) for p in both] == [(True, 5)] * 2


def test_p90_of_twice_the_median_is_a_busy_host():
    quiet, busy = np.full(100, 1.0), np.array([1.0] * 80 + [10.0] * 20)
    assert latency.latency_of(quiet).busy is False and latency.latency_of(busy).busy is True
    assert latency.latency_of(np.array([1.0] * 80 + [2.0] * 20)).busy is False


def test_latency_can_be_left_out_and_mean_and_std_reach_the_child(models):
    profile = profile_file(models / "float.tflite", span=Span(0, 0, None), mean=127.5, std=(127.5, 127.5, 127.5))
    assert profile.latency_ms is None and profile.first_run_ms > 0


def test_a_refusal_comes_back_as_it_is(models):
    with pytest.raises(ModelFileError) as refused:
        profile_file(models / "two_inputs.tflite")
    assert refused.value.must == "must take one image" and refused.value.got == "2 inputs"


def test_a_process_that_dies_is_a_message(models, monkeypatch, tmp_path):
    dying = tmp_path / "dying"
    dying.write_text("#!/bin/sh\necho last words >&2\nexit 9\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    with pytest.raises(ModelFileError, match="must run in LiteRT, got a process that ended with status 9: last words"):
        profile_file(models / "uint8.tflite")


def test_the_device_is_described_without_its_host_name():
    import platform

    words = device_words()
    assert words.startswith("host: ") and words.endswith(f"{platform.system()} {platform.machine()}")
    assert " core" in words and platform.node() not in words
    assert str(Path.home()) not in words
