"""Child processes: one protocol for every Python process of ours that works for this one.

A request goes to the child's standard input, what it tells comes back on its standard output, each a frame: eight
bytes of length, then MessagePack, with types of msgspec on both ends, so that pixels travel as they are. A request is
answered by progress (`Say`, `Stage`, `Done`) and results, in any number, then by an end, or by an error that the child
met: `Refusal`, or `SystemFault` for what the operating system said. The next request may follow. A bug ends the child,
with a traceback on its standard error, which is read when it has died.

The child's input stays open as long as it is wanted. Where it closes, the parent is gone, and the child ends at once,
whatever it is doing; on Linux the kernel sees to it besides (`with_parent.py`).

The program on a board (`measure/ssh/board_program.py`) is the one exception: it runs in whatever Python is there,
without msgspec and this package, and its connection may be cut and opened again. It speaks lines of JSON of its own
types; what is measured there is shown by the same progress messages, and refused by the same `Refusal`.
"""

import os
import queue
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import msgspec

from kd2mobile import progress
from kd2mobile.backend.with_parent import with_parent
from kd2mobile.errors import Kd2MobileError, raised_elsewhere
from kd2mobile.files import is_out_of_memory, memory_error
from kd2mobile.progress import Done, Say, Stage

T = TypeVar("T")
Give = Callable[[Any], None]
"""Takes a result of a request."""
_LENGTH = struct.Struct("<Q")
_LONGEST = 2**36
"""Bytes of a frame; a longer one is no frame."""
_APART = {"creationflags": 0x200} if sys.platform == "win32" else {"process_group": 0}
"""A process group of its own (CREATE_NEW_PROCESS_GROUP): Ctrl-C reaches the parent alone, which ends its children."""
_LAST_WORDS_S = 5
"""How long a child that has closed its output may take to end."""
_PACKAGE_HOME = str(Path(__file__).parents[2])


class Refusal(msgspec.Struct, frozen=True, tag_field="kind", tag="error"):
    """A Kd2MobileError that another process met. error: its class."""

    error: str
    where: str
    must: str
    got: str | None
    next_step: str

    @classmethod
    def of(cls, fault: Kd2MobileError) -> "Refusal":
        """That of an error."""
        got = None if fault.got is None else _utf8(str(fault.got))
        return cls(type(fault).__name__, _utf8(fault.where), _utf8(fault.must), got, _utf8(fault.next_step))

    def error_here(self) -> Kd2MobileError:
        """The error, to be raised in this process."""
        return raised_elsewhere(*msgspec.structs.astuple(self))


class SystemFault(msgspec.Struct, frozen=True, tag_field="kind", tag="system"):
    """An OSError that another process met."""

    errno: int
    strerror: str | None
    filename: str | None

    @classmethod
    def of(cls, fault: OSError) -> "SystemFault":
        """That of an error."""
        name = None if fault.filename is None else _utf8(os.fsdecode(fault.filename))
        return cls(fault.errno, fault.strerror, name)

    def error_here(self) -> OSError:
        """The error, to be raised in this process."""
        return OSError(self.errno, self.strerror, self.filename)


class _Result(msgspec.Struct, frozen=True, tag_field="kind", tag="result"):
    value: msgspec.Raw


class _End(msgspec.Struct, frozen=True, tag_field="kind", tag="end"):
    pass


_TOLD = msgspec.msgpack.Decoder(Say | Stage | Done | _Result | Refusal | SystemFault | _End)


class Death(NamedTuple):
    """How a child ended that was not told to. status: as subprocess gives it; output: what it wrote on standard error;
    late: whether it was ended because it took longer than it may."""

    status: int
    output: str
    late: bool = False

    @property
    def how(self) -> str:
        """`was ended by SIGKILL`, `ended with status 3`."""
        if self.status >= 0:
            return f"ended with status {self.status}"
        return f"was ended by {signal.Signals(-self.status).name}"

    @property
    def last(self) -> str:
        """The last line that it wrote, or nothing."""
        return (self.output.splitlines() or [""])[-1].strip()

    @property
    def traceback(self) -> str | None:
        """That of a bug, from its first line."""
        begin = self.output.rfind("Traceback (most recent call last)")
        return self.output[begin:] if begin >= 0 else None


class Child:
    """A Python process, started with its first request, kept for the next ones and ended with the `with` block.

    Requests come from one thread at a time.
    """

    def __init__(
        self,
        command: list[str],
        name: str,
        died: Callable[[Death], Exception],
        environment: Mapping[str, str] | None = None,
    ):
        """command: the options of Python: `-m`, a module that calls `serve`, and its arguments. name: `the process of
        a.tflite`, for a bug's message. died: the error for a death without a traceback. environment: variables, besides
        this process's own."""
        self._command, self._name, self._error_of_death = command, name, died
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int | None:
        """Its process's number, None while there is none."""
        return self._process.pid if self._process else None

    def start(self) -> "Child":
        """Starts it if it does not run. It ends with the thread that starts it."""
        if self._process is None:
            path = [_PACKAGE_HOME, os.environ.get("PYTHONPATH", ""), *map(os.path.abspath, sys.path)]
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
            self._process = subprocess.Popen(
                with_parent([sys.executable, "-P", *self._command]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, **self._environment, "PYTHONPATH": os.pathsep.join(filter(None, path))},
                **_APART,
            )
        return self

    def end(self) -> None:
        """Ends it, whatever it is doing: it keeps nothing."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, self._log):
                with suppress(OSError):
                    pipe.close()

    def ask(self, request: Any, result: type[T], most_seconds: float | None = None) -> T:
        """The one result of a request. most_seconds: after which the child is ended. Raises as `results`."""
        (only,) = self.results(request, result, most_seconds)
        return only

    def results(self, request: Any, result: type[T], most_seconds: float | None = None) -> Iterator[T]:
        """The results of a request as they come, its progress shown.

        result: the type of each. Raises the Kd2MobileError or the OSError that the child met, after which the next
        request may follow; RuntimeError with its traceback for a bug in it, OutOfMemoryError if that is the bug, and
        what `died` gives for any other death. Whoever leaves it before its end ends the child.
        """
        process, fault = self.start()._process, None
        try:
            with _limited(process, most_seconds) as late, progress.retold() as show:
                with suppress(OSError):  # it has ended: reading says so
                    _write(process.stdin, request)
                for message in self._messages(process, late):
                    if isinstance(message, _Result):
                        yield msgspec.msgpack.decode(message.value, type=result)
                    elif isinstance(message, Refusal | SystemFault):
                        fault = message.error_here()
                    else:
                        show(message)
        except BaseException:
            self.end()
            raise
        if fault:
            raise fault

    def _messages(self, process: subprocess.Popen, late: threading.Event) -> Iterator[msgspec.Struct]:
        """What it tells of a request, up to its end. Raises the error of a child that dies before."""
        while True:
            data = _read(process.stdout)
            if data is None:
                raise self._died(process, late)
            message = _TOLD.decode(data)
            if not isinstance(message, _End):
                yield message
            if isinstance(message, _End | Refusal | SystemFault):
                return

    def _died(self, process: subprocess.Popen, late: threading.Event) -> Exception:
        try:
            status = process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        self._log.seek(0)
        death = Death(status, self._log.read().decode("utf-8", "replace").strip(), late.is_set())
        if not death.traceback:
            return self._error_of_death(death)
        bug = RuntimeError(f"{self._name} {death.how}:\n{death.traceback}")
        return memory_error(bug) if is_out_of_memory(bug) else bug


def serve(answer: Callable[[Any, Give], None], request: type) -> None:
    """The child's own end: answers requests until the parent wants no more. Libraries that print do it on stderr.

    answer: called with a request and a function that takes each of its results; what it shows by `progress` is shown by
    the parent, what it raises on purpose is raised there. request: their type.
    """
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(message: msgspec.Struct) -> None:
        try:
            _write(channel, message)
        except BrokenPipeError:
            os._exit(1)  # nobody is there any more

    def give(result: Any) -> None:
        tell(_Result(msgspec.Raw(msgspec.msgpack.encode(result))))

    progress.tell_to(tell)
    requests = msgspec.msgpack.Decoder(request)
    for data in _from_parent():
        try:
            answer(requests.decode(data), give)
            ending = _End()
        except Kd2MobileError as fault:
            ending = Refusal.of(fault)
        except OSError as fault:
            if fault.errno is None:
                raise
            ending = SystemFault.of(fault)
        except Exception as fault:
            if not is_out_of_memory(fault):
                raise
            ending = Refusal.of(memory_error(fault))
        tell(ending)


def _from_parent() -> Iterator[bytes]:
    """The frames of standard input. Where it closes, this process ends at once, whatever it is doing."""
    frames: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        stdin = os.fdopen(os.dup(0), "rb")  # not sys.stdin, which Python locks while it ends
        while (data := _read(stdin)) is not None:
            frames.put(data)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield frames.get()


@contextmanager
def _limited(process: subprocess.Popen, most_seconds: float | None) -> Iterator[threading.Event]:
    """Ends the process if the block takes longer; the event says that it was so."""
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(most_seconds, end) if most_seconds else None
    if timer:
        timer.start()
    try:
        yield late
    finally:
        if timer:
            timer.cancel()


def _write(pipe: IO[bytes], message: Any) -> None:
    data = msgspec.msgpack.encode(message)
    pipe.write(_LENGTH.pack(len(data)))
    pipe.write(data)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    """The next frame, None where the other side has closed, within a frame too, or wrote something else."""
    head = pipe.read(_LENGTH.size)
    size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else _LONGEST + 1
    if size > _LONGEST:
        return None
    data = pipe.read(size)
    return data if len(data) == size else None


def _utf8(text: str) -> str:
    """The text with what is not UTF-8 in a file's name escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
