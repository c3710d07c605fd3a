"""A process of its own on the TensorFlow backend.

Keras takes one backend per process, and the student may have been trained on another than TensorFlow. Starting
TensorFlow takes seconds, so one process does several jobs, one after another. `child.py` says how both ends speak.
"""

from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from typing import Any, TypeVar

import msgspec

from kd2mobile import progress
from kd2mobile.backend import child
from kd2mobile.backend.child import Child, Death
from kd2mobile.backend.keras_backend import check_environment, set_precision
from kd2mobile.errors import ExportError, MissingExtraError
from kd2mobile.files import is_out_of_memory, memory_error

_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "KERAS_NNX_ENABLED": "false",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}
_PROGRESS = {"say": progress.Say, "stage": progress.Stage, "done": progress.Done}

Tell = Callable[..., None]
"""tell("result", result=...), or a message of progress: tell("done", count=1)."""
Job = TypeVar("Job", bound=msgspec.Struct)
T = TypeVar("T")


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
        self._child = Child(
            _command(module), f"the {purpose} process", lambda death: _killed(death, purpose), _ENVIRONMENT
        )

    def __enter__(self) -> "TensorFlowProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._child.end()

    def run(self, job: msgspec.Struct, result: type[T], done: Callable[[T], None] = lambda result: None) -> list[T]:
        """Does one job, shows its progress and returns its results. After a refusal the next job can follow.

        result: the type of each. done: called with one as soon as it is there; useful because a later refusal raises.
        Raises what the process refused with, InstallationError as `check_environment`, OSError for what the operating
        system told it, RuntimeError with its traceback for a bug in it.
        """
        if self._child.pid is None:
            check_environment()
        all_of_them = []
        with closing(self._child.results(job, result)) as results:
            for one in results:
                all_of_them.append(one)
                done(one)
        return all_of_them


def run_in_tensorflow(
    module: str, job: msgspec.Struct, purpose: str, result: type[T], done: Callable[[T], None] = lambda result: None
) -> list[T]:
    """One job in a process of its own: `TensorFlowProcess.run`."""
    with TensorFlowProcess(module, purpose) as process:
        return process.run(job, result, done)


def serve(work: Callable[[Job, Tell], None], job_type: type[Job]) -> None:
    """The process's own end: does the jobs."""

    def answer(job: Job, give: child.Give) -> None:
        def tell(kind: str, **content: Any) -> None:
            if kind == "result":
                give(content["result"])
            else:
                progress.tell(_PROGRESS[kind](**content))

        set_precision()
        work(job, tell)

    child.serve(answer, job_type)


def _command(module: str) -> list[str]:
    return ["-m", module]


def _killed(death: Death, purpose: str) -> Exception:
    if death.status >= 0:
        fault = RuntimeError(f"the {purpose} process {death.how}:\n{death.output}")
        return memory_error(fault) if is_out_of_memory(fault) else fault  # while it loaded its libraries
    got = f"{death.how.removeprefix('was ended by ')} ({death.last or 'no message'})"
    next_step = "If the signal was SIGKILL, memory ran out: close other programs and run the command again."
    return ExportError(purpose, "must run to its end", got, next_step)
