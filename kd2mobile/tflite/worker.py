"""The process that converts: `python -m kd2mobile.tflite.worker`, see tensorflow_process."""

import os
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
from keras import Model

from kd2mobile import pixels
from kd2mobile.errors import ExportError
from kd2mobile.tensorflow_process import Tell, serve
from kd2mobile.tflite import contract, convert, metadata, parity
from kd2mobile.tflite.job import Job

BATCH = 32
"""Pictures the student sees at once in the parity check."""


def work(job: Job, tell: Tell) -> None:
    """Converts, checks and writes every precision of the job, and raises the first refusal when the others are done.

    A file appears under its name only after it has passed, so a precision that fails costs the others nothing.
    """
    student, px = convert.load_student(Path(job.student), len(job.classes))
    converted, faults = {}, []
    tell("stage", label="export: converting", total=len(job.folders), unit="files")
    calibration = (_load(job, picture, px) for picture in job.calibration)
    with convert.Converter(student, px, calibration, job.fake_quantized) as converter:
        for precision in job.folders:
            try:
                converted[precision] = _convert(job, precision, converter, px)
            except ExportError as fault:
                faults.append(fault)
            tell("done", count=1)
    if not converted:
        raise faults[0]
    found = _compared(job, student, px, {precision: model for precision, (model, _) in converted.items()}, tell)
    for precision, (model, result) in converted.items():
        try:
            faithful = precision == "int8" and job.fake_quantized is not None
            parity.check_parity(found[precision], precision, job.file_name(precision), faithful)
        except ExportError as fault:
            faults.append(fault)
            continue
        _write(Path(job.folders[precision], job.file_name(precision)), model)
        n, _, largest = found[precision]
        compared = {"n": n, "agreement": found[precision].agreement, "largest_difference": largest}
        tell("result", result={**result, "parity": compared})
    if faults:
        raise faults[0]


def _compared(job: Job, student: Model, px: int, models: dict[str, bytes], tell: Tell) -> dict[str, parity.Parity]:
    """Each file beside what it was made from."""
    found = {}
    quantized = {"int8": models["int8"]} if job.fake_quantized and "int8" in models else {}
    others = {precision: model for precision, model in models.items() if precision not in quantized}
    for some, reference in ((others, convert.probabilities_of(student)), (quantized, None)):
        if some:
            answers = reference or convert.probabilities_of_graph(job.fake_quantized)
            label = "export: comparing with the " + ("student" if reference else "fake-quantized student")
            tell("stage", label=label, total=len(job.validation), unit="pictures")
            found |= parity.compare(some, answers, _batches(job, px), lambda pictures: tell("done", count=pictures))
    return found


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
        compression=job.compression,
    )
    return model, {
        "precision": precision,
        "compression": job.compression,
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
    serve(work, Job)
