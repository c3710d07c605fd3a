"""A stand-in for adb, and what phones and benchmark_model print: their documented forms, with made-up numbers."""

import json
import os
import sys
from pathlib import Path

import pytest

STAND_IN = Path(__file__).with_name("stand_in.py")
SERIAL = "R5CT1234"

TIMED_2020 = """STARTING!
Min num runs: [300]
Num threads: [1]
Min warmup runs: [10]
Graph: [0.tflite]
Enable op profiling: [0]
Loaded model 0.tflite
Initialized session in 1.25ms.
Running benchmark for at least 10 iterations and at least 0.25 seconds but terminate if exceeding 3600 seconds.
count=120 first=4100 curr=2010 min=1990 max=4100 avg=2100.5 std=150

Running benchmark for at least 300 iterations and at least 1 seconds but terminate if exceeding 3600 seconds.
count=500 first=2050 curr=2020 min=1980 max=2400 avg=2040.25 std=31

Inference timings in us: Init: 1250, First inference: 4100, Warmup (avg): 2100.5, Inference (avg): 2040.25
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual one.
Peak memory footprint (MB): init=1.5 overall=6.25
"""
TIMED_2024 = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [300]
INFO: Num threads: [1]
INFO: Use xnnpack: [1]
INFO: Loaded model 0.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: The input model file size (MB): 0.314
INFO: Initialized session in 3.5ms.
INFO: Running benchmark for at least 10 iterations and at least 0.25 seconds but terminate if exceeding 3600 seconds.
INFO: count=900 first=700 curr=270 min=260 max=700 avg=280.5 std=12 p5=262 median=275 p95=310

INFO: Running benchmark for at least 300 iterations and at least 1 seconds but terminate if exceeding 3600 seconds.
INFO: count=3700 first=268 curr=266 min=255 max=900 avg=270.125 std=9 p5=258 median=265 p95=290

INFO: Inference timings in us: Init: 3500, First inference: 700, Warmup (avg): 280.5, Inference (avg): 270.125
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual one.
INFO: Memory footprint delta from the start of the tool (MB): init=2.5 overall=4.75
"""
_COLUMNS = "\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]\n"
_RULE = "=" * 30


def summary(*rows):
    """The table by node type, as the profiler lays it out. rows: (kind, count, avg ms, %)."""
    lines = [f"\t{k:>24}\t{n:>9}\t{ms:>10.3f}\t{p:>10.3f}%\t{p:>10.3f}%\t{0:>10.3f}\t{n:>9}\n" for k, n, ms, p in rows]
    return (
        f"{_RULE} Summary by node type {_RULE}\n{_COLUMNS}{''.join(lines)}\nTimings (microseconds): count=30 curr=9\n"
    )


_RUN_ORDER = (
    f"{_RULE} Run Order {_RULE}\n\t[node type]\t[start]\t[first]\t[avg ms]"
    "\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]\n"
    "\tCONV_2D\t0.0\t0.2\t0.2\t70.0%\t70.0%\t0.000\t1\t[a/Relu6]:0\n\nNumber of nodes executed: 1\n"
)
_AT_START = f"Profiling Info for Benchmark Initialization:\n{_RUN_ORDER}{summary(('AllocateTensors', 1, 1.5, 100.0))}"
_REGULAR = "Operator-wise Profiling Info for Regular Benchmark Runs:\n"
PROFILED_2020 = (
    TIMED_2020
    + _AT_START
    + _REGULAR
    + _RUN_ORDER
    + summary(("CONV_2D", 14, 1.5, 75.0), ("DEPTHWISE_CONV_2D", 13, 0.45, 22.5), ("SOFTMAX", 1, 0.05, 2.5))
)
PROFILED_2024 = (
    TIMED_2024
    + "INFO: Overall peak memory footprint (MB) via periodic monitoring: 13.125\n"
    + _AT_START
    + _REGULAR
    + _RUN_ORDER
    + summary(("TfLiteXNNPackDelegate", 1, 0.25, 96.0), ("SOFTMAX", 1, 0.01, 4.0))
    + "Delegate internal: \n"
    + _RUN_ORDER
    + summary(("Delegate/Convolution (NHWC, QS8) IGEMM", 14, 0.18, 75.0), ("Delegate/DWConv", 13, 0.06, 25.0))
)
PROPERTIES = """[ro.build.version.release]: [14]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8]
[ro.serialno]: [R5CT1234]
[ro.soc.model]: [Tensor G3]
"""
CORES = "".join(
    f"/sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq:{khz}\n"
    for core, khz in enumerate([1704000] * 4 + [2367000] * 4 + [2914000])
)


def clock(core, governor, khz, cap):
    """What `look` reads of one core."""
    folder = f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_"
    return f"{folder}governor:{governor}\n{folder}cur_freq:{khz}\n{folder}max_freq:{cap}\n"


def zones(degrees):
    return (
        "/sys/class/thermal/thermal_zone0/type:battery\n/sys/class/thermal/thermal_zone3/type:cpu-1-0\n"
        f"/sys/class/thermal/thermal_zone0/temp:31000\n/sys/class/thermal/thermal_zone3/temp:{degrees}000\n"
    )


def services(battery, status=None, degrees=None):
    """`dumpsys battery` and, from Android 10 on, `dumpsys thermalservice`."""
    text = f"Current Battery Service state:\n  AC powered: false\n  level: 80\n  temperature: {battery}\n"
    if status is not None:
        text += f"IsStatusOverride: false\nThermal Status: {status}\nCurrent temperatures from HAL:\n"
        text += f"\tTemperature{{mValue={degrees}, mType=0, mName=BIG, mStatus=0}}\n"
        text += "\tTemperature{mValue=77.0, mType=3, mName=skin, mStatus=0}\n"
    return text


def elf(machine=183, bits=2):
    """The head of an ELF program."""
    return b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9) + (2).to_bytes(2, "little") + machine.to_bytes(2, "little")


@pytest.fixture
def adb(tmp_path, monkeypatch):
    """A function that makes the stand-in expect these steps and no other; what was not called, too, fails the test."""
    home = tmp_path / "stand-in"
    home.mkdir()
    program = home / "adb"
    program.write_text(f"#!{sys.executable}\n{STAND_IN.read_text('utf-8')}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(home), prepend=os.pathsep)
    monkeypatch.setenv("KD2MOBILE_TEST_ADB", str(home / "script.json"))

    def expect(*steps):
        (home / "script.json").write_text(json.dumps([{"args": args, **more} for args, more in steps]))

    expect()
    yield expect
    steps = json.loads((home / "script.json").read_text())
    wrong, done = home / "wrong", home / "done"
    assert not wrong.exists(), wrong.read_text()
    assert int(done.read_text() if done.exists() else 0) == len(steps), "not every step was called"


def devices(*states):
    """The step `adb devices`."""
    listed = "".join(f"{serial}\t{state}\n" for serial, state in states)
    return ["devices"], {"out": f"List of devices attached\n{listed}\n"}


def on_phone(*words, **answer):
    """A step on the one phone."""
    return ["-s", SERIAL, *words], answer


@pytest.fixture
def binary(tmp_path):
    """A file that looks like benchmark_model for arm64."""
    (tmp_path / "benchmark_model").write_bytes(elf() + bytes(100))
    return tmp_path / "benchmark_model"
