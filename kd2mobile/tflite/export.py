"""Exports a student to .tflite in a separate process on the TensorFlow backend, whichever backend trained it."""

from collections.abc import Callable
from pathlib import Path

from kd2mobile.backend.tensorflow_process import TensorFlowProcess, need_packages
from kd2mobile.tflite.job import Job
from kd2mobile.tflite.results import TfliteResults


def converting_process() -> TensorFlowProcess:
    """The process that converts, for several calls of `export_student`, because starting TensorFlow takes seconds."""
    return TensorFlowProcess("kd2mobile.tflite.worker", "export")


def export_student(
    job: Job, process: TensorFlowProcess, done: Callable[[TfliteResults], None] = lambda result: None
) -> list[TfliteResults]:
    """Writes `<model_name>-<precision>.tflite` (settings.file_name) into each precision's folder and says how each came
    to be.

    job: its folders are made if missing. process: see converting_process. done: called with a result as soon as its
    file is written; useful because a later refusal raises.

    Returns one result per precision, without what it was made from: the process does not know the recipe.
    Raises ExportError for a student that does not convert, a file that breaks the contract or disagrees with the
    student; files that passed stay. ImageError for an image that cannot be read, MissingExtraError without
    TensorFlow, OSError for a full disk, RuntimeError with the process's traceback for a bug in it.
    """
    need_packages("export", ("tensorflow", "keras"), "train")
    for folder in job.folders.values():
        Path(folder).mkdir(parents=True, exist_ok=True)
    return process.run(job, TfliteResults, done)
