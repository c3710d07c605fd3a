"""TensorFlow Lite's own latency tool, `benchmark_model`: its options and its output.

Its options are those of its README (google-ai-edge/LiteRT, tflite/tools/benchmark). What it prints has changed: with
and without `INFO:`, percentiles since 2024, memory under two names. It times with noise and classifies nothing.
"""

import re
from pathlib import Path

import msgspec

from kd2mobile.errors import DeviceError
from kd2mobile.measure.latency import BUSY
from kd2mobile.measure.protocol import WARMUP_RUNS, WARMUP_SECONDS, Setting, Span
from kd2mobile.measure.record import Latency, Mebibytes, Milliseconds, OpTime, ToolReport

MOST_SECONDS = 3600.0
PROFILED_RUNS = 30
ABIS = {"arm64-v8a": (2, 183), "armeabi-v7a": (1, 40), "x86_64": (2, 62), "x86": (1, 3), "riscv64": (2, 243)}
"""Of each kind of phone: the class (1 is 32 bits, 2 is 64) and the machine in the head of its ELF files."""
_COUNTED = re.compile(r"\bcount=(\d+).*\bcurr=")
_TIMINGS = re.compile(
    r"Inference timings in us: Init: ([\d.e+]+), First inference: ([\d.e+]+), "
    r"Warmup \(avg\): ([\d.e+]+), Inference \(avg\): ([\d.e+]+)"
)
_GROWTH = re.compile(
    r"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): "
    r"init=([\d.]+) overall=([\d.]+)"
)
_PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: ([\d.]+)")
_HEADING = "Operator-wise Profiling Info for Regular Benchmark Runs:"
_SUMMARY = "Summary by node type"


class Printed(msgspec.Struct, frozen=True, kw_only=True):
    """What it printed. init_ms, first_run_ms: opening, and the first inference; peak_mib: the most memory it held, of
    a call that watched it; xnnpack: whether it says that XNNPACK took part."""

    init_ms: Milliseconds
    first_run_ms: Milliseconds
    latency: Latency
    report: ToolReport
    peak_mib: Mebibytes | None
    xnnpack: bool


def arguments(graph: str, setting: Setting, span: Span) -> list[str]:
    """The options with which it times a file on a phone by the same rule as this host. graph: the path on the phone."""
    return [
        f"--graph={graph}",
        f"--num_threads={setting.threads}",
        f"--use_xnnpack={str(setting.xnnpack).lower()}",
        f"--warmup_runs={WARMUP_RUNS}",
        f"--warmup_min_secs={WARMUP_SECONDS:g}",
        f"--num_runs={span.runs}",
        f"--min_secs={span.seconds:g}",
        f"--max_secs={MOST_SECONDS:g}",
    ]


def profiling(graph: str, setting: Setting) -> list[str]:
    """The options of a second, short call for operators and memory. Watching these would slow the first call down."""
    short = arguments(graph, setting, Span(PROFILED_RUNS, 0.0, None))
    return [*short, "--enable_op_profiling=true", "--report_peak_memory_footprint=true"]


def check_binary(binary: Path, abis: list[str]) -> None:
    """Raises DeviceError for a file that is not a program for this phone. abis: those that the phone runs, its own
    first."""
    where, next_step = "--benchmark-binary", f"Take the benchmark_model built for {' or '.join(abis)}."
    must = "must be the benchmark_model program for the phone"
    try:
        with open(binary, "rb") as file:
            head = file.read(20)
    except OSError as fault:
        raise DeviceError(where, must, f"{binary}: {fault.strerror}", "Check the path.") from fault
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        raise DeviceError(where, must, f"{binary}, which is no ELF program", next_step)
    kind = head[4], int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    if not any(ABIS.get(abi, kind) == kind for abi in abis):
        names = {numbers: abi for abi, numbers in ABIS.items()}
        raise DeviceError(where, must, f"one for {names.get(kind, f'machine {kind[1]}')}", next_step)


def read_output(text: str) -> Printed:
    """What it printed, in milliseconds and MiB. Raises ValueError if it is not what the tool prints at its end, or if a
    number there cannot be."""
    try:
        return msgspec.convert(msgspec.to_builtins(_read(text)), Printed)
    except (KeyError, OverflowError, msgspec.ValidationError) as fault:
        raise ValueError("numbers that cannot be") from fault


def _read(text: str) -> Printed:
    timings = _TIMINGS.search(text)
    lines = [line for line in text[: timings.start() if timings else 0].splitlines() if _COUNTED.search(line)]
    if not timings or not lines:
        raise ValueError("no timings")
    init, first, warmup, mean = (float(us) / 1000 for us in timings.groups())
    counted = {name: float(value) for name, value in re.findall(r"\b(\w+)=([\d.e+]+)", lines[-1])}
    n, all_same = int(counted["count"]), counted["curr"]
    growth, peak = _GROWTH.search(text), _PEAK.search(text)

    def ms(name: str, else_us: float | None = None) -> float | None:
        us = counted.get(name, else_us)
        return None if us is None else us / 1000

    p50, p95 = ms("median"), ms("p95")
    busy = None if p50 is None or p95 is None else p95 > BUSY * p50
    return Printed(
        init_ms=init,
        first_run_ms=first,
        latency=Latency(p50=p50, p90=None, p99=None, mean=mean, n=n, p95=p95, busy=busy),
        report=ToolReport(
            tool="benchmark_model",
            warmup_ms=warmup,
            min_ms=ms("min", all_same),
            max_ms=ms("max", all_same),
            std_ms=ms("std", 0.0 if "min" not in counted else None),
            init_growth_mib=float(growth[1]) if growth else None,
            growth_mib=float(growth[2]) if growth else None,
            ops=_ops(text),
        ),
        peak_mib=float(peak[1]) if peak else None,
        xnnpack=bool(re.search(r"XNNPACK delegate for CPU|applied XNNPACK delegate|TfLiteXNNPackDelegate", text)),
    )


def _ops(text: str) -> list[OpTime]:
    """The kinds of operators, the costliest first; the operators inside the one node of XNNPACK are listed
    separately."""
    regular = text.partition(_HEADING)[2]
    whole, _, inside = regular.partition("Delegate internal:")
    outside = [op for op in _summary(whole) if not inside or "XNNPackDelegate" not in op.kind]
    return sorted([*outside, *_summary(inside)], key=lambda op: -op.mean_ms)


def _summary(text: str) -> list[OpTime]:
    rows = text.partition(_SUMMARY)[2].splitlines()[2:]
    ops = []
    for row in rows:
        cells = [cell.strip() for cell in row.split("\t") if cell.strip()]
        if len(cells) != 7:
            break
        ops.append(OpTime(kind=cells[0], count=int(float(cells[1])), mean_ms=float(cells[2])))
    return ops
