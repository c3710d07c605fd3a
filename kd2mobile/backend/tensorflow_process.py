"""A process of its own on the TensorFlow backend, and what it says: both ends.

Keras takes one backend a process, and the student may have been trained on another than TensorFlow. The job goes to
the process's standard input as JSON; each message on its output is a line of JSON with a `kind`: `stage` and `done`
for a progress bar, `say` for a line, `result` for something finished, `error` for a refusal, `system` for what the
operating system says. A bug ends it with a traceback on stderr and status 1. The input stays open until the process has
ended: where it closes, the parent is gone, and the process ends too.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from typing import IO, Any, TypeVar

import msgspec

from kd2mobile.backend.children import end_with_input, with_parent
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


def run_in_tensorflow(
    module: str, job: msgspec.Struct, verb: str, done: Callable[[dict], None] = lambda result: None
) -> list[dict]:
    """Runs `python -m <module>` on the job, shows its progress and returns its results.

    done: called with a result as soon as it is there; useful because a later refusal raises. verb: for the message of
    a process that was killed. Raises what the process refused with, InstallationError as `check_environment`, OSError
    for what the operating system told it, RuntimeError with its traceback for a bug in it.
    """
    check_environment()
    results, refusal = [], None
    with closing(_messages(_command(module), job, verb)) as messages, retold() as show:
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


def serve(work: Callable[[Job, Tell], None], job_type: type[Job]) -> None:
    """The process's own end: does the job on standard input. Libraries that print do it on stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(kind: str, **content: Any) -> None:
        print(json.dumps({"kind": kind, **content}), file=channel, flush=True)

    def refuse(fault: Kd2MobileError) -> None:
        got = None if fault.got is None else str(fault.got)
        told = {"where": fault.where, "must": fault.must, "got": got, "next_step": fault.next_step}
        tell("error", error=type(fault).__name__, **told)

    set_precision()
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=job_type)
    end_with_input(sys.stdin.fileno())
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


def _messages(command: list[str], job: msgspec.Struct, verb: str) -> Iterator[dict]:
    """What the process says, message by message, until it ends well. Kills it when not wanted any more."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            with_parent(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": path},
        )
        with process:
            try:
                _hand_over(job, process.stdin)
                for line in process.stdout:
                    yield json.loads(line)
                process.wait()  # its input is open until then
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise _ended_badly(process.returncode, log, verb)


def _hand_over(job: msgspec.Struct, stdin: IO[bytes]) -> None:
    try:
        stdin.write(msgspec.json.encode(job) + b"\n")
        stdin.flush()
    except BrokenPipeError:  # it ended before it read: its status and its log say why
        with suppress(BrokenPipeError):
            stdin.close()


def _ended_badly(status: int, log: IO[bytes], verb: str) -> Exception:
    log.seek(0)
    said = log.read().decode("utf-8", "replace").strip()
    if status > 0:
        traceback = said[max(0, said.rfind("Traceback (most recent call last)")) :]
        if is_out_of_memory(ended := RuntimeError(traceback)):  # while it loaded its libraries
            return memory_error(ended)
        return RuntimeError(f"the {verb} process ended with status {status}:\n{traceback}")
    name = signal.Signals(-status).name
    last = said.splitlines()[-1] if said else "no message"
    next_step = "If it was SIGKILL, memory ran out: close other programs and run the command again."
    return ExportError(verb, "must not be killed while it works", f"{name} ({last})", next_step)
