"""Opens and times one file in a process of its own: `python -m kd2mobile.measure.worker`.

A request comes as JSON on standard input, the answer goes as JSON to standard output: a Profile, or the four parts
of a ModelFileError. So init_ms, first_run_ms and peak_rss_mib are this file's alone.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from kd2mobile.errors import DeviceError, ModelFileError
from kd2mobile.measure.conditions import NOT_TOLD, Conditions, State, conditions_of, read_state
from kd2mobile.measure.latency import measure_latency
from kd2mobile.measure.protocol import Protocol, Setting, Span
from kd2mobile.measure.record import Latency, ToolReport
from kd2mobile.measure.runtime import Classifier
from kd2mobile.pixels import decoder_words

NOISE_SEED = 0
DEFAULT = Protocol()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file costs with one setting; the fields of its record, a None one with its reason in unknown."""

    runtime: str | None = None
    decoder: str | None = None
    threads: int | None = None
    xnnpack: bool | None = None
    init_ms: float | None = None
    first_run_ms: float | None = None
    latency_ms: Latency | None = None
    peak_rss_mib: float | None = None
    affinity: list[int] | None = None
    conditions: Conditions | None = None
    clock_step_ms: float | None = None
    isolated: bool | None = None
    tool: ToolReport | None = None
    unknown: dict[str, str] = {}


class _Request(msgspec.Struct):
    path: str
    setting: Setting
    span: Span
    cores: tuple[int, ...]
    mean: list[float] | None
    std: list[float] | None


class _Refusal(msgspec.Struct):
    where: str
    must: str
    got: str | None
    next_step: str


class _Answer(msgspec.Struct):
    profile: Profile | None = None
    refusal: _Refusal | None = None


def profile_file(
    path: Path,
    setting: Setting = DEFAULT.settings[0],
    *,
    span: Span = DEFAULT.span,
    cores: tuple[int, ...] = (),
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Profile:
    """Opens and times the file in a new process. span: no runs leave latency out. cores: to pin the process to.

    Raises ModelFileError if the file cannot be measured, or if the process dies of it; DeviceError for cores that this
    system does not have or cannot pin to.
    """
    check_cores(cores)
    listed = [None if value is None else np.atleast_1d(value).astype(float).tolist() for value in (mean, std)]
    request = msgspec.json.encode(_Request(str(path), setting, span, cores, *listed))
    package_home = str(Path(__file__).parents[2])
    python_path = os.pathsep.join(filter(None, (package_home, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "kd2mobile.measure.worker"],
        input=request,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": python_path},
        check=False,
    )
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except msgspec.DecodeError:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        got = f"a process that ended with status {done.returncode}" + (f": {said[-1]}" if said else "")
        again = "The file may be damaged, or the memory too small for it."
        raise ModelFileError(path, "must run in LiteRT", got, again) from None
    if answer.refusal:
        raise ModelFileError(*msgspec.structs.astuple(answer.refusal))
    return answer.profile


def main() -> None:
    """The child's side of `profile_file`."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    try:
        answer = _Answer(profile=_profile(request))
    except ModelFileError as fault:
        answer = _Answer(
            refusal=_Refusal(fault.where, fault.must, None if fault.got is None else str(fault.got), fault.next_step)
        )
    answers.write(msgspec.json.encode(answer))
    answers.close()


def _profile(request: _Request) -> Profile:
    if request.cores:
        os.sched_setaffinity(0, request.cores)
    threads, xnnpack = request.setting
    classifier = Classifier(request.path, threads, mean=request.mean, std=request.std, xnnpack=xnnpack)
    noise = np.random.default_rng(NOISE_SEED)
    classifier.set_pixels(noise.integers(0, 256, (classifier.input_px, classifier.input_px, 3), np.uint8))
    states: list[State] = []
    memory: list[float | None] = []

    def watch() -> None:
        memory.append(peak_rss_mib())
        states.append(read_state(request.cores))

    runs, seconds, most = request.span
    latency = conditions = None
    if runs:
        latency = measure_latency(classifier.run, runs, seconds=seconds, most=most, watch=watch)
        conditions = conditions_of(*states)
    else:
        watch()
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    unknown = {} if latency else dict.fromkeys(("latency_ms", "conditions"), "not asked for")
    told = {"peak_rss_mib": memory[0], "affinity": affinity}  # before the timed runs, whose times take memory too
    unknown |= {field: NOT_TOLD for field, value in told.items() if value is None}
    return Profile(
        runtime=classifier.runtime,
        decoder=decoder_words(),
        threads=threads,
        xnnpack=xnnpack,
        init_ms=classifier.init_ms,
        first_run_ms=classifier.first_run_ms,
        latency_ms=latency,
        conditions=conditions,
        unknown=unknown | (conditions.unknown if conditions else {}),
        **told,
    )


def check_cores(cores: tuple[int, ...]) -> None:
    """Raises DeviceError for cores that this process may not use."""
    if not cores:
        return
    may = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not set(cores) <= set(may):
        must = f"must be among the cores that this process may use: {', '.join(map(str, may)) or 'none can be chosen'}"
        raise DeviceError("benchmark.cores", must, ", ".join(map(str, cores)), "Leave --cores out for any.")


def peak_rss_mib() -> float | None:
    """The most memory this process has held in RAM, MiB; None where the system does not say.

    On Linux from /proc: getrusage's ru_maxrss starts with what the parent held when it forked.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:
        return None
    return getrusage(RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
