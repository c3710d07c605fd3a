"""How benchmark_model is called, and its output in the forms that it has had."""

import random

import msgspec
import pytest

from kd2mobile.errors import DeviceError
from kd2mobile.measure.adb.benchmark_model import arguments, check_binary, profiling, read_output
from kd2mobile.measure.protocol import Protocol, Setting
from kd2mobile.measure.record import Latency, OpTime

from .conftest import PROFILED_2020, PROFILED_2024, TIMED_2020, TIMED_2024, elf


def test_its_options_are_the_protocol():
    assert arguments("0.tflite", Setting(2, False), Protocol(runs=300).span) == [
        "--graph=0.tflite",
        "--num_threads=2",
        "--use_xnnpack=false",
        "--warmup_runs=10",
        "--warmup_min_secs=0.25",
        "--num_runs=300",
        "--min_secs=1",
        "--max_secs=3600",
    ]
    mlperf = arguments("0.tflite", Setting(1, True), Protocol(rule="mlperf").span)
    assert "--num_runs=1024" in mlperf and "--min_secs=60" in mlperf and "--use_xnnpack=true" in mlperf
    assert not [option for option in mlperf if "profil" in option], "the profiler costs time"
    assert profiling("0.tflite", Setting(1, True))[-2:] == [
        "--enable_op_profiling=true",
        "--report_peak_memory_footprint=true",
    ]


def test_what_it_printed_before_it_had_percentiles():
    printed = read_output(TIMED_2020)
    assert (printed.init_ms, printed.first_run_ms) == (1.25, 4.1)
    assert printed.latency == Latency(p50=None, p90=None, p99=None, mean=2.04025, n=500, p95=None)
    report = printed.report
    assert (report.warmup_ms, report.min_ms, report.max_ms, report.std_ms) == (2.1005, 1.98, 2.4, 0.031)
    assert (report.init_growth_mib, report.growth_mib) == (1.5, 6.25)
    assert report.ops == [] and printed.peak_mib is None and not printed.xnnpack


def test_what_it_prints_with_percentiles():
    printed = read_output(TIMED_2024)
    assert printed.latency == Latency(p50=0.265, p90=None, p99=None, mean=0.270125, n=3700, p95=0.29, busy=False)
    assert (printed.init_ms, printed.first_run_ms, printed.report.warmup_ms) == (3.5, 0.7, 0.2805)
    assert (printed.report.init_growth_mib, printed.report.growth_mib) == (2.5, 4.75)
    assert printed.xnnpack


def test_its_operators_are_those_of_the_regular_runs():
    assert read_output(PROFILED_2020).report.ops == [
        OpTime("CONV_2D", 14, 1.5),
        OpTime("DEPTHWISE_CONV_2D", 13, 0.45),
        OpTime("SOFTMAX", 1, 0.05),
    ]


def test_what_xnnpack_did_stands_for_its_one_node():
    printed = read_output(PROFILED_2024)
    assert [(op.kind, op.mean_ms) for op in printed.report.ops] == [
        ("Delegate/Convolution (NHWC, QS8) IGEMM", 0.18),
        ("Delegate/DWConv", 0.06),
        ("SOFTMAX", 0.01),
    ]
    assert printed.peak_mib == 13.125 and printed.latency.n == 3700


def test_runs_that_all_took_as_long_and_large_numbers():
    same = TIMED_2020.replace(
        "count=500 first=2050 curr=2020 min=1980 max=2400 avg=2040.25 std=31", "count=50 curr=2020(all same)"
    )
    printed = read_output(same)
    assert (printed.latency.n, printed.report.min_ms, printed.report.std_ms) == (50, 2.02, 0.0)
    slow = TIMED_2020.replace("Inference (avg): 2040.25", "Inference (avg): 2.95034e+06")
    assert read_output(slow).latency.mean == 2950.34


@pytest.mark.parametrize(
    "text", ["", "Killed\n", TIMED_2024.partition("INFO: Inference timings")[0], "INFO: count=3\n"]
)
def test_anything_else_is_no_output(text):
    with pytest.raises(ValueError, match="no timings"):
        read_output(text)


@pytest.mark.parametrize(("machine", "bits", "abis"), [(183, 2, ["arm64-v8a"]), (40, 1, ["arm64-v8a", "armeabi-v7a"])])
def test_a_program_of_the_phones_kind(tmp_path, machine, bits, abis):
    (tmp_path / "b").write_bytes(elf(machine, bits))
    check_binary(tmp_path / "b", abis)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (elf(62), "got one for x86_64. Take the benchmark_model built for arm64-v8a."),
        (elf(40, 1), "got one for armeabi-v7a. Take"),
        (elf(8), "got one for machine 8. Take"),
        (b"#!/bin/sh\necho not a program of any kind\n", "which is no ELF program. Take"),
        (b"\x7fELF", "which is no ELF program. Take"),
        (None, "No such file or directory. Check the path."),
    ],
)
def test_a_program_of_another_kind(tmp_path, content, message):
    if content is not None:
        (tmp_path / "b").write_bytes(content)
    with pytest.raises(DeviceError) as fault:
        check_binary(tmp_path / "b", ["arm64-v8a"])
    assert str(fault.value).startswith("--benchmark-binary: must be the benchmark_model program for the phone, got ")
    assert message in str(fault.value)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("Init: 3500", "Init: 1e999"),
        ("First inference: 700", "First inference: 7e300"),
        ("count=3700", "count=99999999999999999999"),
        ("min=255 max=900", "min=1e999 max=900"),
        ("median=265", "median=1e300"),
    ],
)
def test_numbers_that_cannot_be_are_no_output(right, wrong):
    assert right in TIMED_2024
    with pytest.raises(ValueError):
        read_output(TIMED_2024.replace(right, wrong))


def test_any_change_of_what_it_prints_is_an_output_or_none():
    draw, read = random.Random(13), 0
    for _ in range(2000):
        bad = list(TIMED_2024)
        for _ in range(draw.choice((1, 2, 6))):
            index = draw.randrange(len(bad))
            bad[index : index + draw.randrange(4)] = draw.choice(
                ("", "9", "e", ".", "+", "\t", "\n", "1e999", "nan", "=")
            )
        try:
            printed = read_output("".join(bad))
        except ValueError:
            continue
        read += 1
        again = msgspec.json.decode(msgspec.json.encode(printed), type=type(printed))
        assert again == printed and printed.latency.mean < 1e9
    assert 0 < read < 2000
