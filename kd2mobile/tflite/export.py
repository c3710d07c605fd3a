"""Student to .tflite, in a process of its own on the TensorFlow backend, whatever backend trained the student."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import IO

import msgspec

from kd2mobile import errors
from kd2mobile.data.places import Root, absolute
from kd2mobile.errors import ExportError, Kd2MobileError, MissingExtraError
from kd2mobile.progress import bar
from kd2mobile.tflite.job import Job

_COMMAND = [sys.executable, "-P", "-m", "kd2mobile.tflite.worker"]
_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def export_student(
    student: Path,
    folders: dict[str, Path],
    *,
    classes: list[str],
    resize: str,
    model_name: str,
    student_fingerprint: str,
    pictures: Root,
    calibration: Sequence[str],
    validation: Sequence[str],
    done: Callable[[dict], None] = lambda result: None,
) -> list[dict]:
    """Writes `<model_name>-<precision>.tflite` into each precision's folder and says how each came to be.

    student: a .keras file, float32 [batch, px, px, 3] RGB in [-1, 1] to logits [batch, classes].
    folders: which precisions (fp32, fp16, int8_dynamic, int8) and the folder of each; made if missing.
    classes: names in the order of the logits. resize: how a picture becomes pixels, stored in the file.
    pictures: where the ids (relative paths) in calibration and validation are. calibration: training
    pictures for all but fp32, see choose_calibration. validation: those on which each file must agree with the student.
    done: called with a result as soon as its file is written; useful because a later refusal raises.

    Returns one result a precision: precision, file, size_bytes, sha256, ops {name: count}, input and output {name,
    dtype, shape, scale, zero_point}, calibration (ids; empty for fp32), bias_correction {layers, corrected} (None for
    fp32), parity {n, agreement, largest_difference}, converter, seconds (of the conversion).
    Raises ExportError for a student that does not convert, a file that breaks the contract or disagrees with the
    student; files that passed stay. PictureError for a picture that cannot be read, MissingExtraError without
    TensorFlow, OSError for a full disk, RuntimeError with the process's traceback for a bug in it.
    """
    for package in ("tensorflow", "keras"):
        if find_spec(package) is None:
            raise MissingExtraError("export", package, "train")
    for folder in folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    job = Job(
        student=os.path.abspath(student),
        folders={precision: os.path.abspath(folder) for precision, folder in folders.items()},
        classes=list(classes),
        resize=resize,
        model_name=model_name,
        student_fingerprint=student_fingerprint,
        pictures=absolute(pictures),
        calibration=list(calibration),
        validation=list(validation),
    )
    results, refusal = [], None
    with closing(_messages(job, _COMMAND)) as messages, ExitStack() as bars:
        advance = None
        for message in messages:
            match message["kind"]:
                case "stage":
                    bars.close()
                    advance = bars.enter_context(bar(message["label"], message["total"], message["unit"]))
                case "done":
                    advance(message["count"])
                case "result":
                    results.append(message["result"])
                    done(message["result"])
                case "error":
                    refusal = _as_raised(message)
                case "disk":
                    refusal = OSError(message["errno"], message["strerror"], message["filename"])
    if refusal:
        raise refusal
    return results


def _messages(job: Job, command: list[str]) -> Iterator[dict]:
    """What the converting process says, message by message, until it ends well. Kills it when not wanted any more."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
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
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            raise _ended_badly(process.returncode, log)


def _hand_over(job: Job, stdin: IO[bytes]) -> None:
    try:
        with stdin:
            stdin.write(msgspec.json.encode(job))
    except BrokenPipeError:
        pass  # it ended before it read: its status and its log say why


def _ended_badly(status: int, log: IO[bytes]) -> Exception:
    log.seek(0)
    said = log.read().decode("utf-8", "replace").strip()
    if status > 0:
        traceback = said[max(0, said.rfind("Traceback (most recent call last)")) :]
        return RuntimeError(f"the converting process ended with status {status}:\n{traceback}")
    name = signal.Signals(-status).name
    last = said.splitlines()[-1] if said else "no message"
    next_step = "If it was SIGKILL, memory ran out: close other programs and run the command again."
    return ExportError("export", "must not be killed while it converts", f"{name} ({last})", next_step)


def _as_raised(message: dict) -> Kd2MobileError:
    """The error that the converting process met, as it was raised there."""
    kind = getattr(errors, message["error"])
    fault = kind.__new__(kind)
    Kd2MobileError.__init__(fault, message["where"], message["must"], message["got"], message["next_step"])
    return fault
