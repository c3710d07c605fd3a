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

from kd2mobile.errors import ModelFileError
from kd2mobile.measure.latency import measure_latency
from kd2mobile.measure.record import Latency
from kd2mobile.measure.runtime import Classifier

NOISE_SEED = 0


class Profile(msgspec.Struct, frozen=True):
    """What a file costs. Milliseconds; peak_rss_mib: of the whole process, None where it is not known."""

    runtime: str
    init_ms: float
    first_run_ms: float
    latency_ms: Latency | None
    peak_rss_mib: float | None


class _Request(msgspec.Struct):
    path: str
    threads: int
    runs: int
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
    *,
    threads: int = 1,
    runs: int = 100,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Profile:
    """Opens and times the file in a new process. runs: fewest timed runs; 0 leaves latency out.

    Raises ModelFileError if the file cannot be measured, or if the process dies of it.
    """
    listed = [None if value is None else np.atleast_1d(value).astype(float).tolist() for value in (mean, std)]
    request = msgspec.json.encode(_Request(str(path), threads, runs, *listed))
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
    classifier = Classifier(request.path, request.threads, mean=request.mean, std=request.std)
    noise = np.random.default_rng(NOISE_SEED)
    classifier.set_pixels(noise.integers(0, 256, (classifier.input_px, classifier.input_px, 3), np.uint8))
    latency = measure_latency(classifier.run, request.runs) if request.runs else None
    return Profile(classifier.runtime, classifier.init_ms, classifier.first_run_ms, latency, peak_rss_mib())


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
