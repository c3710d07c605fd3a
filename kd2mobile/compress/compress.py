"""A student to a compressed one, in a process of its own, for it takes TensorFlow and Keras 2."""

import os
from pathlib import Path
from typing import Any

from kd2mobile.backend.tensorflow_process import need_packages, run_in_tensorflow
from kd2mobile.compress.job import Job
from kd2mobile.recipe.schema import Compress, Distill

PACKAGES = ("tensorflow", "tf_keras", "tensorflow_model_optimization")


def compress_student(
    folder: Path,
    student: Path,
    name: str,
    method: str,
    preserve: list[str],
    compress: Compress,
    distill: Distill,
    *,
    classes: int,
    train_labels: list[int],
    val_labels: list[int],
    pixels_folder: Path,
    transfer_folder: Path | None,
    unlabelled: tuple[Path, Path] | None = None,
) -> dict[str, Any]:
    """Applies one method and fine-tunes. Writes student.keras and history.jsonl; for qat also fake_quantized/.

    folder: empty, or what a killed call left: then it goes on after the last epoch that it finished. The other
    arguments as in `training.train_student`; name: the student's in the registry; preserve: methods before this one.

    Returns best_epoch, epochs_run, val_top1 and val_logloss of the best epoch, before {val_top1, val_logloss} of the
    student that came in, seconds, twin_difference (largest, of a logit, between the student and its Keras 2 twin), and
    of prune and after it: zeros (fraction of the weights of the pruned layers), of cluster and after it: clusters
    (the most distinct weights of a layer). Both are counted on what came out.
    Raises MissingExtraError, CompressionError where tensorflow-model-optimization refuses, TrainingError for a loss
    that is not finite, OSError for a full disk.
    """
    need_packages(f"compress {method}", PACKAGES, "compress")
    job = Job(
        student=os.path.abspath(student),
        name=name,
        folder=os.path.abspath(folder),
        method=method,
        preserve=preserve,
        compress=compress,
        distill=distill,
        classes=classes,
        train_labels=train_labels,
        val_labels=val_labels,
        pixels=os.path.abspath(pixels_folder),
        transfer=None if transfer_folder is None else os.path.abspath(transfer_folder),
        unlabelled=None if unlabelled is None else tuple(map(os.path.abspath, unlabelled)),
    )
    (results,) = run_in_tensorflow("kd2mobile.compress.worker", job, f"compress {method}")
    return results
