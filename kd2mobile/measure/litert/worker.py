"""Opens, times and evaluates files, each in a separate process: `python -m kd2mobile.measure.litert.worker`.

So init_ms, first_run_ms and peak_rss_mib are those of one file alone, and a damaged file that crashes LiteRT ends no
other process. `backend/child.py` describes the protocol. The processes of several files take turns: while one works,
the others wait for their next request and take no processor time.
"""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec
import numpy as np

from kd2mobile.backend.child import Child, Death, Give, serve
from kd2mobile.errors import DeviceError, ModelFileError
from kd2mobile.inspection.metadata import FileMetadata
from kd2mobile.measure.conditions import NOT_REPORTED, Conditions, State, conditions_of, read_state
from kd2mobile.measure.latency import latency_of, times_ms
from kd2mobile.measure.litert.runtime import Classifier, Tensor
from kd2mobile.measure.protocol import Protocol, Setting, Span, warmup_of
from kd2mobile.measure.record import Cores, Latency, Mebibytes, Milliseconds, Threads, ToolReport
from kd2mobile.measure.rounds import WIDE, Rounds, spreads, take_turns
from kd2mobile.pixels import decoder_words

NOISE_SEED = 0
DEFAULT = Protocol()
ONE_ROUND = Rounds(1, 1)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a file in one setting, as fields of its record; `unknown` has the reason for each None."""

    runtime: str | None = None
    decoder: str | None = None
    threads: Threads | None = None
    xnnpack: bool | None = None
    init_ms: Milliseconds | None = None
    first_run_ms: Milliseconds | None = None
    latency_ms: Latency | None = None
    peak_rss_mib: Mebibytes | None = None
    affinity: Cores | None = None
    conditions: Conditions | None = None
    clock_step_ms: Milliseconds | None = None
    isolated: bool | None = None
    tool: ToolReport | None = None
    unknown: dict[str, str] = {}


class FileToTime(NamedTuple):
    """mean, std: the network gets (pixel - mean) / std; one value or three."""

    path: Path
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None


class Facts(msgspec.Struct):
    """The attributes of a `Classifier` that hold for every image."""

    input_px: int
    classes: int
    input: Tensor
    output: Tensor
    metadata: FileMetadata
    mean: list[float] | None
    std: list[float] | None
    last_op: str | None
    notes: list[str]


class Open(msgspec.Struct, tag="open"):
    """The first request: opens the file. Its result are the Facts."""

    path: bytes
    setting: Setting
    cores: tuple[int, ...]
    mean: list[float] | None
    std: list[float] | None


class Turn(msgspec.Struct, tag="turn"):
    """Times the file for a turn. Its result is the median in milliseconds."""

    span: Span
    warmup: Span


class Image(msgspec.Struct, tag="image"):
    """pixels: uint8 [px, px, 3]. Its result are the outputs, float32 [classes], as bytes."""

    pixels: bytes


class Finish(msgspec.Struct, tag="finish"):
    """Its result is the Profile of all turns."""


def profile_file(
    path: Path,
    setting: Setting = DEFAULT.settings[0],
    *,
    span: Span = DEFAULT.span,
    cores: tuple[int, ...] = (),
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
) -> Profile:
    """`profile_files` of one file, in one go."""
    (profile,) = profile_files([FileToTime(path, mean, std)], setting, span=span, rounds=ONE_ROUND, cores=cores)
    return profile


def profile_files(
    files: Sequence[FileToTime],
    setting: Setting,
    *,
    span: Span,
    rounds: Rounds,
    cores: tuple[int, ...] = (),
    done: Callable[[int], None] = lambda turns: None,
    repeats: Callable[[float], None] = lambda spread: None,
) -> list[Profile]:
    """Opens each file in a new process, then times them in turn.

    span: of each file over the least number of rounds; without runs, latency is left out. cores: to which the processes
    are pinned. done: called with the number of turns taken since the last call; repeats: as for `take_turns`. Raises
    ModelFileError if a file cannot be measured or crashes its process; DeviceError for cores that this system does not
    have or cannot pin to.
    """
    check_cores(cores)
    with ExitStack() as stack:
        processes = [stack.enter_context(FileProcess(file, setting, cores)) for file in files]
        medians = (
            take_turns([_turns(one, span, rounds, done) for one in processes], rounds, repeats) if span.runs else []
        )
        profiles = [one.profile() for one in processes]
    return _in_rounds(profiles, medians) if medians else profiles


def _turns(process: "FileProcess", span: Span, rounds: Rounds, done: Callable[[int], None]) -> Callable[[], float]:
    """A function that lets the process take its next turn and returns the median in milliseconds."""
    turn = Turn(*(whole.over(rounds.fewest) for whole in (span, warmup_of(span))))
    expected = iter(range(rounds.fewest))

    def take() -> float:
        median = process.take(turn)
        if next(expected, None) is not None:
            done(1)
        return median

    return take


def _in_rounds(profiles: list[Profile], medians: list[list[float]]) -> list[Profile]:
    """The profiles with the rounds, spread and `busy` of their latencies. If one file met other work on the device, all
    did: they took turns."""
    if len(medians[0]) == 1:
        return profiles
    agreed = spreads(medians)
    busy = any(spread is not None and spread > WIDE for spread in agreed)
    busy = busy or any(profile.latency_ms.busy for profile in profiles)
    agreements = [dict(rounds=own, spread=spread, busy=busy) for own, spread in zip(medians, agreed, strict=True)]
    latencies = [msgspec.structs.replace(p.latency_ms, **own) for p, own in zip(profiles, agreements, strict=True)]
    return [msgspec.structs.replace(p, latency_ms=own) for p, own in zip(profiles, latencies, strict=True)]


class FileProcess:
    """The parent's side of a process that has opened a file, as a context. facts: of the file, once it is entered.

    Every request raises the error of the process; ModelFileError if the process crashed, RuntimeError for a bug in it.
    """

    facts: Facts

    def __init__(self, file: FileToTime, setting: Setting, cores: tuple[int, ...] = ()):
        self._file, self._setting, self._cores = file, setting, cores
        module = "kd2mobile.measure.litert.worker"
        self._child = Child(["-m", module], f"the process of {file.path}", self._died)

    def __enter__(self) -> "FileProcess":
        path, mean, std = self._file
        listed = [None if value is None else np.atleast_1d(value).astype(float).tolist() for value in (mean, std)]
        try:
            self.facts = self._child.ask(Open(os.fsencode(path), self._setting, self._cores, *listed), Facts)
        except BaseException:
            self._child.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._child.end()

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._child.pid

    def take(self, turn: Turn) -> float:
        """Times the file for a turn, and returns the median in milliseconds."""
        return self._child.ask(turn, float)

    def outputs(self, pixels: np.ndarray) -> np.ndarray:
        """The outputs for the image uint8 [px, px, 3], dequantized: float32 [classes]."""
        answer = self._child.ask(Image(np.ascontiguousarray(pixels, np.uint8).tobytes()), bytes)
        return np.frombuffer(answer, "<f4").astype(np.float32)

    def profile(self) -> Profile:
        """The profile of the file over all turns."""
        return self._child.ask(Finish(), Profile)

    def _died(self, death: Death) -> ModelFileError:
        got = f"a process that {death.how}" + (f": {death.last}" if death.last else "")
        again = "The file may be damaged or need more memory."
        return ModelFileError(self._file.path, "must run in LiteRT", got, again)


def main() -> None:
    """The child's side of a `FileProcess`."""
    work: _Work | None = None
    path = ""

    def answer(request: Open | Turn | Image | Finish, give: Give) -> None:
        nonlocal work, path
        try:
            if isinstance(request, Open):
                path = os.fsdecode(request.path)
                work = _Work(request)
                give(work.facts)
            else:
                give(work.answer(request))
        except MemoryError as fault:
            must, less = "must fit into memory", "Close other programs, or measure it on a machine with more memory."
            raise ModelFileError(path, must, "a file that needs more than is free", less) from fault

    serve(answer, Open | Turn | Image | Finish)


class _Work:
    """The open file and the times of its turns."""

    def __init__(self, request: Open):
        if request.cores:
            os.sched_setaffinity(0, request.cores)
        self._request = request
        threads, xnnpack = request.setting
        self._classifier = Classifier(
            os.fsdecode(request.path), threads, mean=request.mean, std=request.std, xnnpack=xnnpack
        )
        self._side, noise = self._classifier.input_px, np.random.default_rng(NOISE_SEED)
        self._classifier.set_pixels(noise.integers(0, 256, (self._side, self._side, 3), np.uint8))
        self._times: list[np.ndarray] = []
        self._states: list[State] = []
        self._peak_rss_mib: float | None = None

    @property
    def facts(self) -> Facts:
        """The facts of the open file."""
        one = self._classifier
        mean, std = (None if value is None else value.tolist() for value in (one.mean, one.std))
        return Facts(one.input_px, one.classes, one.input, one.output, one.metadata, mean, std, one.last_op, one.notes)

    def answer(self, request: Turn | Image | Finish) -> float | bytes | Profile:
        """The result of a request."""
        if isinstance(request, Finish):
            return self.profile()
        if isinstance(request, Turn):
            return self.take(request)
        pixels = np.frombuffer(request.pixels, np.uint8).reshape(self._side, self._side, 3)
        return self._classifier.outputs(pixels).astype("<f4").tobytes()

    def take(self, turn: Turn) -> float:
        """Times it for a turn, and returns the median in milliseconds."""
        self._times.append(times_ms(self._classifier.run, turn.span, turn.warmup, self._watch))
        return float(np.median(self._times[-1]))

    def _watch(self) -> None:
        """Notes the peak memory before the first timed run, because the list of times takes memory too, and the state
        of the device before the first and after the last run."""
        if not self._states:
            self._peak_rss_mib = peak_rss_mib()
        self._states = [*self._states[:1], read_state(self._request.cores)]

    def profile(self) -> Profile:
        """The profile over all turns; without a turn, that of a file that was opened and run once."""
        latency = latency_of(np.concatenate(self._times)) if self._times else None
        conditions = conditions_of(*self._states) if self._times else None
        affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        peak = self._peak_rss_mib if self._times else peak_rss_mib()
        unknown = {} if latency else dict.fromkeys(("latency_ms", "conditions"), "not requested")
        measured = {"peak_rss_mib": peak, "affinity": affinity}
        unknown |= {field: NOT_REPORTED for field, value in measured.items() if value is None}
        threads, xnnpack = self._request.setting
        return Profile(
            runtime=self._classifier.runtime,
            decoder=decoder_words(),
            threads=threads,
            xnnpack=xnnpack,
            init_ms=self._classifier.init_ms,
            first_run_ms=self._classifier.first_run_ms,
            latency_ms=latency,
            conditions=conditions,
            unknown=unknown | (conditions.unknown if conditions else {}),
            **measured,
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
    """The most memory this process has held in RAM, MiB; None where the system does not report it.

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
