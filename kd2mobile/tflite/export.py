"""Student to .tflite, in a process of its own on the TensorFlow backend, whatever backend trained the student."""

from collections.abc import Callable
from pathlib import Path

from kd2mobile.backend.tensorflow_process import TensorFlowProcess, need_packages
from kd2mobile.tflite.job import Job


def converting_process() -> TensorFlowProcess:
    """The process that converts: for several calls of `export_student`, as starting TensorFlow takes seconds."""
    return TensorFlowProcess("kd2mobile.tflite.worker", "export")


def export_student(
    job: Job, process: TensorFlowProcess, done: Callable[[dict], None] = lambda result: None
) -> list[dict]:
    """Writes `<model_name>-<precision>.tflite` (settings.file_name) into each precision's folder and says how each came
    to be.

    job: its folders are made if missing. process: see converting_process. done: called with a result as soon as its
    file is written; useful because a later refusal raises.

    Returns one result a precision: precision, file, size_bytes, compressed_bytes (deflated, as in a ZIP), sha256, ops
    {name: count}, op_types (provenance.op_types), per_tensor, keep_float, weights
    {layers, zeros, clusters, clusters_of_output} (inspection.weights.Weights), weight_scales {per_channel, per_tensor,
    float}, input and output {name, dtype, shape, scale, zero_point}, calibration (ids; empty for fp32), bias_correction
    {layers, corrected} (None for fp32), parity {n, agreement, largest_difference}, against_student (what top-1 it
    loses: provenance.against_student; None without labels), layer_errors (of int8 alone: {images, layers}, a layer as
    results.LayerError), converter, seconds (of the conversion).
    Raises ExportError for a student that does not convert, a file that breaks the contract or disagrees with the
    student; files that passed stay. ImageError for an image that cannot be read, MissingExtraError without
    TensorFlow, OSError for a full disk, RuntimeError with the process's traceback for a bug in it.
    """
    need_packages("export", ("tensorflow", "keras"), "train")
    for folder in job.folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    return process.run(job, done)
