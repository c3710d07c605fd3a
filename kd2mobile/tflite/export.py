"""Student to .tflite, in a process of its own on the TensorFlow backend, whatever backend trained the student."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kd2mobile.backend.tensorflow_process import TensorFlowProcess, need_packages
from kd2mobile.data.sources.roots import Root, absolute
from kd2mobile.tflite.job import Job


def converting_process() -> TensorFlowProcess:
    """The process that converts: for several calls of `export_student`, as starting TensorFlow takes seconds."""
    return TensorFlowProcess("kd2mobile.tflite.worker", "export")


def export_student(
    student: Path,
    folders: dict[str, Path],
    process: TensorFlowProcess,
    *,
    classes: list[str],
    resize: str,
    model_name: str,
    student_fingerprint: str,
    pictures: Root,
    calibration: Sequence[str],
    validation: Sequence[str],
    compression: str = "none",
    fake_quantized: Path | None = None,
    distilled: Path | None = None,
    validation_labels: Sequence[int] = (),
    per_tensor: bool = False,
    keep_float: Sequence[str] = (),
    version: str | None = None,
    author: str | None = None,
    licence: str | None = None,
    done: Callable[[dict], None] = lambda result: None,
) -> list[dict]:
    """Writes `<model_name>-<precision>.tflite` (settings.file_name) into each precision's folder and says how each came
    to be.

    student: a .keras file, float32 [batch, px, px, 3] RGB in [-1, 1] to logits [batch, classes].
    folders: which precisions (schema.PRECISIONS) and the folder of each; made if missing.
    process: see converting_process.
    classes: names in the order of the logits. resize: how an image becomes pixels, stored in the file.
    pictures: where the ids (relative paths) in calibration and validation are. calibration: training
    images for all but fp32, see choose_calibration. validation: those on which each file must agree with the student;
    validation_labels: their classes, to say what each file loses. per_tensor: one scale a weight tensor, not one a
    channel, in int8_dynamic and int8. keep_float: names of layers that stay float in int8.
    compression: what the student went through, for the file's name and description. fake_quantized: the SavedModel
    that int8 is made from, and must agree with, in the place of the student. distilled: the student before it was
    compressed, against which top-1 is compared; left out where that is the student.
    version, author, licence: for the file's metadata; the student's fingerprint is the version if none is given.
    done: called with a result as soon as its file is written; useful because a later refusal raises.

    Returns one result a precision: precision, file, size_bytes, compressed_bytes (deflated, as in a ZIP), sha256, ops
    {name: count}, op_types (provenance.op_types), per_tensor, keep_float, weights
    {layers, zeros, clusters, clusters_of_output} (inspection.weights.Weights), weight_scales {per_channel, per_tensor,
    float}, input and output {name, dtype, shape, scale, zero_point}, calibration (ids; empty for fp32), bias_correction
    {layers, corrected} (None for fp32), parity {n, agreement, largest_difference}, against_student (what top-1 it
    loses: provenance.against_student; None without labels), layer_errors (of int8 alone: {images, layers}, a layer as
    layer_errors.LayerError), converter, seconds (of the conversion).
    Raises ExportError for a student that does not convert, a file that breaks the contract or disagrees with the
    student; files that passed stay. PictureError for an image that cannot be read, MissingExtraError without
    TensorFlow, OSError for a full disk, RuntimeError with the process's traceback for a bug in it.
    """
    need_packages("export", ("tensorflow", "keras"), "train")
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
        compression=compression,
        fake_quantized=None if fake_quantized is None else os.path.abspath(fake_quantized),
        distilled=None if distilled is None else os.path.abspath(distilled),
        validation_labels=list(validation_labels),
        per_tensor=per_tensor,
        keep_float=list(keep_float),
        version=version,
        author=author,
        licence=licence,
    )
    return process.run(job, done)
