"""The process that converts: `python -m kd2mobile.tflite.worker`, a Job on standard input, messages on its output.

It has a process of its own because Keras takes one backend a process, and the student may have been trained on
another than TensorFlow. Each message is a line of JSON with a `kind`: `stage` and `done` for a progress bar, `result`
for a file that was written, `error` for a refusal, `disk` for a disk that is full. A bug ends it with a traceback on
stderr and status 1.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from kd2mobile import pixels
from kd2mobile.artifact import DISK_FAULTS
from kd2mobile.errors import ExportError, Kd2MobileError
from kd2mobile.tflite import contract, convert, metadata, parity
from kd2mobile.tflite.job import Job

BATCH = 32
"""Pictures the student sees at once in the parity check."""

Tell = Callable[..., None]


def main() -> None:
    """Does the job on standard input. Libraries that print do it on stderr; standard output is for messages."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def tell(kind: str, **content) -> None:
        print(json.dumps({"kind": kind, **content}), file=channel, flush=True)

    try:
        work(msgspec.json.decode(sys.stdin.buffer.read(), type=Job), tell)
    except Kd2MobileError as fault:
        got = None if fault.got is None else str(fault.got)
        told = {"where": fault.where, "must": fault.must, "got": got, "next_step": fault.next_step}
        tell("error", error=type(fault).__name__, **told)
    except OSError as fault:
        if fault.errno not in DISK_FAULTS:
            raise
        tell("disk", errno=fault.errno, strerror=fault.strerror, filename=str(fault.filename))


def work(job: Job, tell: Tell) -> None:
    """Converts, checks and writes every precision of the job, and raises the first refusal when the others are done.

    A file appears under its name only after it has passed, so a precision that fails costs the others nothing.
    """
    student, px = convert.load_student(Path(job.student), len(job.classes))
    converted, faults = {}, []
    tell("stage", label="export: converting", total=len(job.folders), unit="files")
    calibration = (_load(job, picture, px) for picture in job.calibration)
    with convert.Converter(student, px, calibration) as converter:
        for precision in job.folders:
            try:
                converted[precision] = _convert(job, precision, converter, px)
            except ExportError as fault:
                faults.append(fault)
            tell("done", count=1)
    if not converted:
        raise faults[0]
    tell("stage", label="export: comparing with the student", total=len(job.validation), unit="pictures")
    found = parity.compare(
        {precision: model for precision, (model, _) in converted.items()},
        convert.probabilities_of(student),
        _batches(job, px),
        lambda pictures: tell("done", count=pictures),
    )
    for precision, (model, result) in converted.items():
        try:
            parity.check_parity(found[precision], precision, job.file_name(precision))
        except ExportError as fault:
            faults.append(fault)
            continue
        _write(Path(job.folders[precision], job.file_name(precision)), model)
        n, _, largest = found[precision]
        compared = {"n": n, "agreement": found[precision].agreement, "largest_difference": largest}
        tell("result", result={**result, "parity": compared})
    if faults:
        raise faults[0]


def _convert(job: Job, precision: str, converter: convert.Converter, px: int) -> tuple[bytes, dict]:
    start = time.monotonic()
    name = job.file_name(precision)
    bare, bias_correction = converter.convert(precision, name)
    graph = contract.read_graph(bare, name)
    contract.check_graph(graph, precision, px, len(job.classes), name)
    model = metadata.attach(
        bare,
        classes=job.classes,
        resize=job.resize,
        input_px=px,
        model_name=job.model_name,
        precision=precision,
        student_fingerprint=job.student_fingerprint,
    )
    return model, {
        "precision": precision,
        "file": name,
        "size_bytes": len(model),
        "sha256": sha256(model).hexdigest(),
        "ops": graph.op_counts(),
        "input": contract.describe(graph.tensors[graph.input], contract.INPUT),
        "output": contract.describe(graph.tensors[graph.output], contract.OUTPUT),
        "calibration": [] if precision == "fp32" else job.calibration,
        "bias_correction": bias_correction,
        "converter": convert.CONVERTER,
        "seconds": round(time.monotonic() - start, 3),
    }


def _batches(job: Job, px: int) -> Iterator[np.ndarray]:
    for start in range(0, len(job.validation), BATCH):
        yield np.stack([_load(job, picture, px) for picture in job.validation[start : start + BATCH]])


def _load(job: Job, picture: str, px: int) -> np.ndarray:
    return pixels.load(job.root / picture, px, job.resize)


def _write(path: Path, model: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(model)
    os.replace(partial, path)


if __name__ == "__main__":
    main()
