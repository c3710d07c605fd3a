"""Opens, times and asks files, each in a process of its own: `python -m kd2mobile.measure.litert.worker`.

A process reads JSON from standard input, one message per line: a request, then turns, pictures or `null`. It answers
each on standard output: what the open file is, the median of the turn, the outputs, a Profile; or the parts of the
error that it met. So init_ms, first_run_ms and peak_rss_mib are this file's alone, and a file that ends the runtime
(LiteRT can die of a damaged one) ends nothing else. The processes of several files live beside each other and take
turns: while one works the others wait for their next line, and take no processor time. One whose parent dies reads the
end of its input, and ends.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec
import numpy as np

from kd2mobile.backend.children import with_parent
from kd2mobile.errors import DeviceError, Kd2MobileError, ModelFileError, raised_elsewhere
from kd2mobile.inspection.metadata import FileMetadata
from kd2mobile.measure.conditions import NOT_TOLD, Conditions, State, conditions_of, read_state
from kd2mobile.measure.latency import Span, latency_of, times_ms, warmup_of
from kd2mobile.measure.litert.runtime import Classifier, Tensor
from kd2mobile.measure.protocol import Protocol, Setting
from kd2mobile.measure.record import Cores, Latency, Mebibytes, Milliseconds, Threads, ToolReport
from kd2mobile.measure.rounds import WIDE, Rounds, spreads, take_turns
from kd2mobile.pixels import decoder_words

NOISE_SEED = 0
DEFAULT = Protocol()
ONE_ROUND = Rounds(1, 1)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file costs with one setting; the fields of its record, a None one with its reason in unknown."""

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
    """mean, std: its network gets (pixel - mean) / std, one value or three."""

    path: Path
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None


class Facts(msgspec.Struct):
    """The attributes of a `Classifier` that hold for every picture."""

    input_px: int
    classes: int
    input: Tensor
    output: Tensor
    metadata: FileMetadata
    mean: list[float] | None
    std: list[float] | None
    last_op: str | None
    notes: list[str]


class Refusal(msgspec.Struct, frozen=True):
    """An error that another process met. error: its class."""

    error: str
    where: str
    must: str
    got: str | None
    next_step: str

    @classmethod
    def of(cls, fault: Kd2MobileError) -> "Refusal":
        """That of an error."""
        got = None if fault.got is None else str(fault.got)
        return cls(type(fault).__name__, fault.where, fault.must, got, fault.next_step)

    def error_here(self) -> Kd2MobileError:
        """The error, to be raised in this process."""
        return raised_elsewhere(*msgspec.structs.astuple(self))


class _Request(msgspec.Struct):
    path: str
    setting: Setting
    cores: tuple[int, ...]
    mean: list[float] | None
    std: list[float] | None


class _Turn(msgspec.Struct, tag="turn"):
    span: Span
    warmup: Span


class Picture(msgspec.Struct, tag="picture"):
    """pixels: uint8 [px, px, 3]."""

    pixels: bytes


class _Answer(msgspec.Struct, omit_defaults=True):
    """outputs: float32 [classes], of a picture."""

    facts: Facts | None = None
    median_ms: float | None = None
    outputs: bytes | None = None
    profile: Profile | None = None
    refusal: Refusal | None = None


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

    span: of each file in the fewest rounds together; no runs leave latency out. cores: to pin the processes to. done:
    is told how many more turns were taken; repeats: as `take_turns` takes it. Raises ModelFileError if a file cannot be
    measured, or if its process dies of it; DeviceError for cores that this system does not have or cannot pin to.
    """
    check_cores(cores)
    with ExitStack() as stack:
        processes = [stack.enter_context(FileProcess(file, setting, cores)) for file in files]
        medians = (
            take_turns([_turns(one, span, rounds, done) for one in processes], rounds, repeats) if span.runs else []
        )
        profiles = [one.ask(None).profile for one in processes]
    return _in_rounds(profiles, medians) if medians else profiles


def _turns(process: "FileProcess", span: Span, rounds: Rounds, done: Callable[[int], None]) -> Callable[[], float]:
    """A function that has the process take its next turn and returns the median, milliseconds."""
    turn = _Turn(*(whole.over(rounds.fewest) for whole in (span, warmup_of(span))))
    expected = iter(range(rounds.fewest))

    def take() -> float:
        median = process.ask(turn).median_ms
        if next(expected, None) is not None:
            done(1)
        return median

    return take


def _in_rounds(profiles: list[Profile], medians: list[list[float]]) -> list[Profile]:
    """The profiles with what the rounds say of their latencies; what one file of a round met, all of them met."""
    if len(medians[0]) == 1:
        return profiles
    agreed = spreads(medians)
    busy = any(spread is not None and spread > WIDE for spread in agreed)
    busy = busy or any(profile.latency_ms.busy for profile in profiles)
    told = [dict(rounds=own, spread=spread, busy=busy) for own, spread in zip(medians, agreed, strict=True)]
    latencies = [msgspec.structs.replace(p.latency_ms, **own) for p, own in zip(profiles, told, strict=True)]
    return [msgspec.structs.replace(p, latency_ms=own) for p, own in zip(profiles, latencies, strict=True)]


class FileProcess:
    """This end of a process that has opened a file, as a context. facts: what the file is, once it is entered."""

    facts: Facts

    def __init__(self, file: FileToTime, setting: Setting, cores: tuple[int, ...] = ()):
        """Entering it raises what `ask` does."""
        self._file, self._setting, self._cores = file, setting, cores

    def __enter__(self) -> "FileProcess":
        package_home = str(Path(__file__).parents[3])
        python_path = os.pathsep.join(filter(None, (package_home, os.environ.get("PYTHONPATH"))))
        self._said = tempfile.TemporaryFile()
        self._child = subprocess.Popen(
            with_parent([sys.executable, "-P", "-m", "kd2mobile.measure.litert.worker"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=os.environ | {"PYTHONPATH": python_path},
        )
        try:
            path, mean, std = self._file
            listed = [None if value is None else np.atleast_1d(value).astype(float).tolist() for value in (mean, std)]
            self.facts = self.ask(_Request(str(path), self._setting, self._cores, *listed)).facts
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def ask(self, message: _Request | _Turn | Picture | None) -> _Answer:
        """Raises what the process refused with; ModelFileError for one that died, RuntimeError for a bug in it."""
        try:
            self._child.stdin.write(msgspec.json.encode(message) + b"\n")
            self._child.stdin.flush()
            answer = msgspec.json.decode(self._child.stdout.readline(), type=_Answer)
        except (BrokenPipeError, msgspec.DecodeError):
            raise self._died() from None
        if answer.refusal:
            raise answer.refusal.error_here()
        return answer

    def _died(self) -> Exception:
        status = self._child.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip()
        if (begin := said.rfind("Traceback (most recent call last)")) >= 0:
            return RuntimeError(f"the process of {self._file.path} ended with status {status}:\n{said[begin:]}")
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        got = f"a process that {how}" + (f": {said.splitlines()[-1]}" if said else "")
        again = "The file may be damaged or need more memory."
        return ModelFileError(self._file.path, "must run in LiteRT", got, again)

    def _end(self) -> None:
        """It has nothing to keep, whatever it is at."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout, self._said):
            with suppress(BrokenPipeError):
                pipe.close()


def main() -> None:
    """The child's side of a `FileProcess`."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer

    def tell(answer: _Answer) -> None:
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()

    asked, work = sys.stdin.buffer, None
    for line in asked:
        try:
            if work is None:
                request = msgspec.json.decode(line, type=_Request)
                work = _Work(request)
                tell(_Answer(facts=work.facts))
            else:
                tell(work.answer(msgspec.json.decode(line, type=_Turn | Picture | None)))
        except Kd2MobileError as fault:
            tell(_Answer(refusal=Refusal.of(fault)))
        except MemoryError:
            must, less = "must fit into memory", "Close other programs, or measure it on a machine with more memory."
            fault = ModelFileError(request.path, must, "a file that needs more than is free", less)
            tell(_Answer(refusal=Refusal.of(fault)))


class _Work:
    """The open file, and what its turns have given."""

    def __init__(self, request: _Request):
        if request.cores:
            os.sched_setaffinity(0, request.cores)
        self._request = request
        threads, xnnpack = request.setting
        self._classifier = Classifier(request.path, threads, mean=request.mean, std=request.std, xnnpack=xnnpack)
        self._side, noise = self._classifier.input_px, np.random.default_rng(NOISE_SEED)
        self._classifier.set_pixels(noise.integers(0, 256, (self._side, self._side, 3), np.uint8))
        self._times: list[np.ndarray] = []
        self._states: list[State] = []
        self._peak_rss_mib: float | None = None

    @property
    def facts(self) -> Facts:
        """What the open file is."""
        one = self._classifier
        mean, std = (None if value is None else value.tolist() for value in (one.mean, one.std))
        return Facts(one.input_px, one.classes, one.input, one.output, one.metadata, mean, std, one.last_op, one.notes)

    def answer(self, message: _Turn | Picture | None) -> _Answer:
        """What is said to a message."""
        if message is None:
            return _Answer(profile=self.profile())
        if isinstance(message, _Turn):
            return _Answer(median_ms=self.take(message))
        pixels = np.frombuffer(message.pixels, np.uint8).reshape(self._side, self._side, 3)
        return _Answer(outputs=self._classifier.outputs(pixels).astype("<f4").tobytes())

    def take(self, turn: _Turn) -> float:
        """Times it for a turn, and returns the median in milliseconds."""
        self._times.append(times_ms(self._classifier.run, turn.span, turn.warmup, self._watch))
        return float(np.median(self._times[-1]))

    def _watch(self) -> None:
        """Memory before the first timed run, whose times take memory too; the state before it and after the last."""
        if not self._states:
            self._peak_rss_mib = peak_rss_mib()
        self._states = [*self._states[:1], read_state(self._request.cores)]

    def profile(self) -> Profile:
        """Of all turns together; without any, of a file that was opened and run once."""
        latency = latency_of(np.concatenate(self._times)) if self._times else None
        conditions = conditions_of(*self._states) if self._times else None
        affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        peak = self._peak_rss_mib if self._times else peak_rss_mib()
        unknown = {} if latency else dict.fromkeys(("latency_ms", "conditions"), "not requested")
        told = {"peak_rss_mib": peak, "affinity": affinity}
        unknown |= {field: NOT_TOLD for field, value in told.items() if value is None}
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
