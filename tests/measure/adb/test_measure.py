"""A phone measured from end to end against the stand-in, through the command line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.errors import DeviceError
from kd2mobile.files import sha256_of
from kd2mobile.measure.adb.phone import CPU, FREQUENCIES, SERVICES, ZONES
from kd2mobile.measure.browser import measure as browser
from kd2mobile.measure.files import Answered, FromDevice
from kd2mobile.measure.litert.worker import Profile
from tests.tiny_models import is_explained

from .conftest import (
    CORES,
    PROFILED_2020,
    PROFILED_2024,
    PROPERTIES,
    SERIAL,
    TIMED_2020,
    TIMED_2024,
    clock,
    devices,
    elf,
    on_phone,
    services,
    zones,
)

MODEL = Path(__file__).parents[3] / "models" / "mobilenet025-digits-int8" / "model.tflite"
FOLDER = f"/data/local/tmp/kd2mobile-{os.getpid()}"
OPTIONS = (
    "--graph=0.tflite --num_threads=1 --use_xnnpack=true --warmup_runs=10 --warmup_min_secs=0.25 --num_runs={} "
    "--min_secs={} --max_secs=3600"
)
TIMING = OPTIONS.format(300, 1)
PROFILING = f"{OPTIONS.format(30, 0)} --enable_op_profiling=true --report_peak_memory_footprint=true"


def measuring(*more, serial=SERIAL, binary=None):
    binary_flag = ["--benchmark-binary", str(binary)] if binary else []
    return ["benchmark", "--model", str(MODEL), "--device", f"adb:{serial}", *binary_flag, "--json", *more]


FOUND = [devices((SERIAL, "device")), on_phone("shell", "getprop", out=PROPERTIES)]


def queries(cores=CORES, present="0-8"):
    """The steps in which the phone says what it is: first of all, and again when it is to measure."""
    return [
        *FOUND,
        *FOUND,
        on_phone("shell", f"{FREQUENCIES}; true", out=f"{present}\n{cores}"),
    ]


def copied(binary):
    return [
        on_phone("shell", f"mkdir -p {FOLDER}"),
        on_phone("push", str(binary), f"{FOLDER}/benchmark_model"),
        on_phone("shell", f"chmod 755 {FOLDER}/benchmark_model"),
        on_phone("push", str(MODEL), f"{FOLDER}/0.tflite"),
    ]


REMOVED = on_phone("shell", f"rm -rf {FOLDER}")


def looked(core, khz, cap, zone, **service):
    """The steps in which its state is read. core: None where none was chosen."""
    paths = [f"{CPU}/cpu{core}/cpufreq/scaling_{what}" for what in ("governor", "cur_freq", "max_freq")]
    clocks = [] if core is None else [
        on_phone("shell", f"grep -H . {' '.join(paths)} 2>/dev/null; true", out=clock(core, "sched_pixel", khz, cap))
    ]  # fmt: skip
    return [
        *clocks,
        on_phone("shell", f"{ZONES}; true", out=zones(zone)),
        on_phone("shell", f"{SERVICES}; true", out=services(**service)),
    ]


def ran(options, pinned="taskset 100 ", **answer):
    return on_phone("shell", f"cd {FOLDER} && {pinned}./benchmark_model {options} 2>&1", **answer)


@pytest.fixture
def data(digit_folder):
    return ["--data", str(digit_folder)]


def record_of(capsys, arguments):
    assert main_status(arguments) == 0, capsys.readouterr().err
    (record,) = json.loads(capsys.readouterr().out)
    return record


def test_a_phone_with_the_newest_tool(adb, binary, data, capsys):
    adb(
        *queries(),
        *copied(binary),
        *looked(8, 500000, 2914000, 40, battery=310, status=0, degrees=41.5),
        ran(TIMING, out=TIMED_2024),
        *looked(8, 2914000, 2914000, 60, battery=325, status=0, degrees=55.0),
        ran(PROFILING, out=PROFILED_2024),
        REMOVED,
    )
    record = record_of(capsys, measuring(*data, binary=binary))
    assert record["device"] == "adb: Google Pixel 8, Tensor G3, 9 cores, Android 14 arm64-v8a"
    assert record["runtime"] == f"benchmark_model {sha256_of(binary)[:12]}, XNNPACK"
    assert record["latency_ms"] == {
        "p50": 0.265, "p90": None, "p95": 0.29, "p99": None, "mean": 0.270125, "n": 3700, "steps": 1,
        "rounds": [], "spread": None, "busy": False,
    }  # fmt: skip
    assert (record["init_ms"], record["first_run_ms"], record["peak_rss_mib"]) == (3.5, 0.7, 13.125)
    assert (record["threads"], record["xnnpack"], record["affinity"], record["rule"]) == (1, True, [8], "kd2mobile")
    before, after = record["conditions"]["before"], record["conditions"]["after"]
    assert (before["temperature_c"], after["temperature_c"], after["battery_c"]) == (41.5, 55.0, 32.5)
    assert after["governor"] == "sched_pixel" and record["conditions"]["throttled"] is False
    assert [op["kind"] for op in record["tool"]["ops"]][-1] == "SOFTMAX" and record["tool"]["std_ms"] == 0.009
    assert (record["n"], record["top1"], record["top5"], record["teacher_agreement"]) == (0, None, None, None)
    assert record["unknown"] == {
        **dict.fromkeys(
            ("decoder", "images", "top1", "top5", "logloss", "ece", "teacher_agreement"),
            "benchmark_model runs on random input and classifies no image",
        ),
        **dict.fromkeys(("latency_ms.p90", "latency_ms.p99"), "benchmark_model does not print it"),
        **dict.fromkeys(("conditions.load", "conditions.throttle_count"), "not read from a phone"),
        **dict.fromkeys(("clock_step_ms", "isolated"), "only for a browser"),
        "latency_ms.spread": "not timed in five rounds or more",
        "val": "its validation images are unknown",
        "recommended": "there was no choice",
        **dict.fromkeys(("leaked", "top1_without_leaked"), "its training images are unknown"),
    }
    assert is_explained(record)
    assert record["sha256"] == sha256_of(MODEL) and record["size_bytes"] == MODEL.stat().st_size
    assert SERIAL not in json.dumps(record) and str(binary.parent) not in json.dumps(record)


def test_a_phone_that_tells_little_with_an_older_tool_in_two_settings(adb, binary, data, capsys):
    steps = []
    for threads in (1, 2):
        timing, profiling = (text.replace("num_threads=1", f"num_threads={threads}") for text in (TIMING, PROFILING))
        steps += [
            *looked(None, 0, 0, 40, battery=310),
            ran(timing, pinned="", out=TIMED_2020),
            *looked(None, 0, 0, 60, battery=325),
            ran(profiling, pinned="", out=PROFILED_2020),
        ]
    adb(*queries(cores="", present="0-3"), *copied(binary), *steps, REMOVED)
    assert main_status(measuring(*data, "--threads", "1,2", binary=binary)) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert one["device"].endswith("4 cores, Android 14 arm64-v8a") and (one["threads"], two["threads"]) == (1, 2)
    assert one["latency_ms"]["p50"] is None and one["latency_ms"]["mean"] == 2.04025
    assert one["affinity"] is None and one["peak_rss_mib"] is None
    assert one["tool"]["growth_mib"] == 6.25 and one["tool"]["ops"][0] == {
        "kind": "CONV_2D",
        "count": 14,
        "mean_ms": 1.5,
    }
    assert {"latency_ms.p50", "peak_rss_mib", "affinity", "conditions.governor"} <= one["unknown"].keys()
    assert one["conditions"]["after"]["temperature_c"] == 60.0 and one["conditions"]["throttled"] is None


def test_requested_cores_and_the_mlperf_rule(adb, binary, data, capsys):
    timing = OPTIONS.format(1024, 60)
    adb(
        *queries(),
        *copied(binary),
        *looked(4, 2367000, 2367000, 40, battery=310),
        ran(timing, pinned="taskset 10 ", out=TIMED_2024),
        *looked(4, 2367000, 2367000, 40, battery=310),
        ran(PROFILING, pinned="taskset 10 ", out=PROFILED_2024),
        REMOVED,
    )
    record = record_of(capsys, measuring(*data, "--cores", "4", "--rule", "mlperf", binary=binary))
    assert record["affinity"] == [4] and record["rule"] == "mlperf"


def test_the_table_on_the_terminal_lists_what_is_not_measured(adb, binary, data, capsys):
    adb(
        *queries(),
        *copied(binary),
        *looked(8, 500000, 2914000, 40, battery=310),
        ran(TIMING, out=TIMED_2024),
        *looked(8, 2914000, 2914000, 60, battery=325),
        ran(PROFILING, out=PROFILED_2024),
        REMOVED,
    )
    arguments = [word for word in measuring(*data, binary=binary) if word != "--json"]
    assert main_status(arguments) == 0
    assert "mobilenet025 int8 in 314 KB, 0.27 ms per image." in " ".join(capsys.readouterr().out.split())


def refused(capsys, arguments):
    assert main_status(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return err.splitlines()[-1]


URL = "http://127.0.0.1:8123/token/"
OPENED = [
    on_phone("reverse", "tcp:8123", "tcp:8123"),
    on_phone("shell", f"am start -a android.intent.action.VIEW -d {URL} 2>&1", out="Starting: Intent { }\n"),
]
FORGOTTEN = on_phone("reverse", "--remove", "tcp:8123")


def test_without_the_program_the_phones_browser_measures(adb, data, capsys, monkeypatch):
    def served(address, options, opened, images, protocol, *, skip_unreadable, show):
        assert not options.open and skip_unreadable
        show(URL, None)
        answers = np.tile(np.float32([0.91] + [0.01] * 9), (len(images), 1))
        return FromDevice("browser: Chrome 141", [Answered([Profile()], answers)], np.arange(len(images)), [])

    monkeypatch.setattr(browser, "measure", served)
    monkeypatch.setattr(browser, "check", lambda address, options, protocol: None)
    adb(*queries(), *OPENED, FORGOTTEN)
    record = record_of(capsys, measuring(*data))
    assert record["device"] == "adb: Google Pixel 8, Tensor G3, 9 cores, Android 14 arm64-v8a, Chrome 141"
    assert (record["n"], record["top1"]) == (20, 0.5), "the first of two classes is always named"


def test_a_phone_that_is_unplugged_from_its_browser(adb, data, capsys, monkeypatch):
    def served(*calls, show, **how):
        show(URL, None)
        raise DeviceError("--device browser", "must stay open", "a page that went silent", "Open it again.")

    monkeypatch.setattr(browser, "measure", served)
    monkeypatch.setattr(browser, "check", lambda address, options, protocol: None)
    gone = {"err": f"error: device '{SERIAL}' not found\n", "status": 1}
    adb(*queries(), *OPENED, (FORGOTTEN[0], gone))
    assert "--device browser: must stay open, got a page that went silent." in refused(capsys, measuring(*data))


def test_no_phone_through_the_command_line(adb, binary, data, capsys):
    adb(devices())
    assert refused(capsys, measuring(*data, serial="", binary=binary)).startswith(
        "--device adb: must find a phone, got"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [(elf(62) + bytes(9), "got one for x86_64"), (None, "No such file or directory. Check the path.")],
)
def test_a_program_that_cannot_run_there_is_refused_before_anything_is_copied(
    adb, tmp_path, data, content, message, capsys
):
    binary = tmp_path / "other"
    if content:
        binary.write_bytes(content)
    adb(*FOUND)
    assert message in refused(capsys, measuring(*data, binary=binary))


@pytest.mark.parametrize(
    ("printed", "message"),
    [
        (
            "/system/bin/sh: ./benchmark_model: not executable: 64-bit ELF file\n",
            "not executable: 64-bit ELF file. It is built for another kind of phone",
        ),
        (
            "INFO: STARTING!\nERROR: Failed to load model at 0.tflite\n",
            "got ERROR: Failed to load model at 0.tflite. Use",
        ),
        ("", "got nothing, with status 139. Use a build"),
    ],
)
def test_output_without_timings_is_reported_and_the_phone_is_cleaned(adb, binary, data, capsys, printed, message):
    before = looked(8, 500000, 2914000, 40, battery=310)
    adb(*queries(), *copied(binary), *before, ran(TIMING, out=printed, status=139), REMOVED)
    line = refused(capsys, measuring(*data, binary=binary))
    assert line.startswith("benchmark_model: must print its timings on the phone, got ") and message in line


def test_a_phone_that_is_unplugged_midway(adb, binary, data, capsys):
    gone = {"err": f"error: device '{SERIAL}' not found\n", "status": 1}
    before = looked(8, 500000, 2914000, 40, battery=310)
    adb(*queries(), *copied(binary), *before, ran(TIMING, **gone), (REMOVED[0], gone))
    assert main_status(measuring(*data, binary=binary)) == 2
    err = capsys.readouterr().err
    assert f"{FOLDER} could not be removed from the phone: --device adb: must stay connected" in err
    assert err.splitlines()[-1].startswith("--device adb: must stay connected, got error: device 'R5CT1234' not found.")


def test_a_phone_without_room(adb, binary, data, capsys):
    full = {"err": "adb: error: failed to copy: remote couldn't create file: No space left on device\n", "status": 1}
    made, pushed = copied(binary)[:2]
    adb(*queries(), made, (pushed[0], full), REMOVED)
    assert "must support `adb push`, got adb: error: failed to copy" in refused(capsys, measuring(*data, binary=binary))


def test_cores_that_the_phone_does_not_have(adb, binary, data, capsys):
    adb(*queries())
    message = refused(capsys, measuring(*data, "--cores", "12", binary=binary))
    assert "benchmark.cores: must be among the phone's cores: 0, 1, 2, 3, 4, 5, 6, 7, 8, got 12." in message


@pytest.mark.parametrize("device", ["host", "ssh:pi@board"])
def test_the_program_is_for_a_phone(device, data, capsys):
    arguments = ["benchmark", "--model", str(MODEL), *data, "--device", device, "--benchmark-binary", "b"]
    assert f"--benchmark-binary must be given with --device adb:SERIAL, got --device {device}." in refused(
        capsys, arguments
    )


def test_a_file_that_is_none_is_refused_before_anything_is_copied(adb, tmp_path, binary, data, capsys):
    adb(*FOUND)
    (tmp_path / "x.tflite").write_bytes(MODEL.read_bytes()[:5000])
    arguments = ["benchmark", "--model", str(tmp_path / "x.tflite"), *data, "--device", f"adb:{SERIAL}"]
    arguments += ["--benchmark-binary", str(binary)]
    assert "x.tflite: must be a complete TensorFlow Lite model" in refused(capsys, arguments)
