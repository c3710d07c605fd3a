"""A process of its own on the TensorFlow backend, and what it says: both ends.

Keras takes one backend a process, and the student may have been trained on another than TensorFlow. Starting TensorFlow
takes seconds, so one process does several jobs, one after another. A job goes to its standard input as a line of JSON;
each message on its output is a line of JSON with a `kind`: `stage` and `done` for a progress bar, `say` for a line,
`result` for something finished, `error` for a refusal, `system` for what the operating system says, `ready` for the end
of the job. A bug ends the process with a traceback on stderr and status 1. The input stays open until the last job is
done: where it closes, the parent is gone or has no more jobs, and the process ends.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from typing import IO, Any, TypeVar

import msgspec

from kd2mobile.backend.children import with_parent
from kd2mobile.backend.keras_backend import check_environment, set_precision
from kd2mobile.errors import ExportError, Kd2MobileError, MissingExtraError, raised_elsewhere
from kd2mobile.files import is_out_of_memory, memory_error
from kd2mobile.progress import retold

_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_NNX_ENABLED": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}

Tell = Callable[..., None]
Job = TypeVar("Job", bound=msgspec.Struct)


def need_packages(what: str, packages: tuple[str, ...], extra: str) -> None:
    """Raises MissingExtraError for the first package that is not installed. what: wants it; extra: brings it."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(what, package, extra)


class TensorFlowProcess:
    """`python -m <module>`, started with its first job, kept for the next ones and ended with the `with` block.

    purpose: a word for the message of a process that was killed.
    """

    def __init__(self, module: str, purpose: str):
        self._module, self._purpose = module, purpose
        self._process: subprocess.Popen | None = None
        self._log: IO[bytes] | None = None

    def __enter__(self) -> "TensorFlowProcess":
        return self

    def __exit__(self, *exc: object) -> None:
        self._end()

    def run(self, job: msgspec.Struct, done: Callable[[dict], None] = lambda result: None) -> list[dict]:
        """Does one job, shows its progress and returns its results. After a refusal the next job can follow.

        done: called with a result as soon as it is there; useful because a later refusal raises. Raises what the
        process refused with, InstallationError as `check_environment`, OSError for what the operating system told it,
        RuntimeError with its traceback for a bug in it.
        """
        results, refusal = [], None
        with closing(self._messages(job)) as messages, retold() as show:
            for message in messages:
                show(message)
                match message["kind"]:
                    case "result":
                        results.append(message["result"])
                        done(message["result"])
                    case "error":
                        parts = (message[part] for part in ("error", "where", "must", "got", "next_step"))
                        refusal = raised_elsewhere(*parts)
                    case "system":
                        refusal = OSError(message["errno"], message["strerror"], message["filename"])
        if refusal:
            raise refusal
        return results

    def _messages(self, job: msgspec.Struct) -> Iterator[dict]:
        """What the process says of the job, message by message. Kills it when not wanted any more."""
        process = self._started()
        try:
            _hand_over(job, process.stdin)
            for line in process.stdout:
                message = json.loads(line)
                if message["kind"] == "ready":
                    return
                yield message
            process.wait()  # its input is open until then
        except BaseException:
            process.kill()
            self._end()
            raise
        try:
            raise _ended_badly(process.returncode, self._log, self._purpose)
        finally:
            self._end()

    def _started(self) -> subprocess.Popen:
        if self._process is None:
            check_environment()
            path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _end
            self._process = subprocess.Popen(
                with_parent(_command(self._module)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
            )
        return self._process

    def _end(self) -> None:
        """Closes its input, upon which it ends, and waits for that."""
        if self._process is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._log.close()
            self._process = self._log = None


def run_in_tensorflow(
    module: str, job: msgspec.Struct, purpose: str, done: Callable[[dict], None] = lambda result: None
) -> list[dict]:
    """One job in a process of its own: `TensorFlowProcess.run`."""
    with TensorFlowProcess(module, purpose) as process:
        return process.run(job, done)


def serve(work: Callable[[Job, Tell], None], job_type: type[Job]) -> None:
    """The process's own end: does the jobs on standard input. Libraries that print do it on stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(kind: str, **content: Any) -> None:
        print(json.dumps({"kind": kind, **content}), file=channel, flush=True)

    set_precision()
    for line in _lines_of_parent():
        _do(work, msgspec.json.decode(line, type=job_type), tell)
        tell("ready")


def _lines_of_parent() -> Iterator[bytes]:
    """The lines of standard input. Where it closes, this process ends at once, whatever it is doing."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in os.fdopen(os.dup(0), "rb"):  # not sys.stdin, which Python locks while it ends
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def _do(work: Callable[[Job, Tell], None], job: Job, tell: Tell) -> None:
    """One job. What it refuses is told; a bug is raised, and ends the process."""

    def refuse(fault: Kd2MobileError) -> None:
        got = None if fault.got is None else str(fault.got)
        told = {"where": fault.where, "must": fault.must, "got": got, "next_step": fault.next_step}
        tell("error", error=type(fault).__name__, **told)

    try:
        work(job, tell)
    except Kd2MobileError as fault:
        refuse(fault)
    except OSError as fault:
        if fault.errno is None:
            raise
        tell("system", errno=fault.errno, strerror=fault.strerror, filename=_name(fault.filename))
    except Exception as fault:
        if not is_out_of_memory(fault):
            raise
        refuse(memory_error(fault))


def _name(path: object) -> str | None:
    """A path as JSON can hold it."""
    return None if path is None else os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


def _command(module: str) -> list[str]:
    return [sys.executable, "-P", "-m", module]


def _hand_over(job: msgspec.Struct, stdin: IO[bytes]) -> None:
    try:
        stdin.write(msgspec.json.encode(job) + b"\n")
        stdin.flush()
    except BrokenPipeError:  # it ended before it read: its status and its log say why
        with suppress(BrokenPipeError):
            stdin.close()


def _ended_badly(status: int, log: IO[bytes], purpose: str) -> Exception:
    log.seek(0)
    said = log.read().decode("utf-8", "replace").strip()
    if status >= 0:
        traceback = said[max(0, said.rfind("Traceback (most recent call last)")) :]
        if is_out_of_memory(ended := RuntimeError(traceback)):  # while it loaded its libraries
            return memory_error(ended)
        return RuntimeError(f"the {purpose} process ended with status {status}:\n{traceback}")
    name = signal.Signals(-status).name
    last = said.splitlines()[-1] if said else "no message"
    next_step = "If the signal was SIGKILL, memory ran out: close other programs and run the command again."
    return ExportError(purpose, "must run to its end", f"{name} ({last})", next_step)
