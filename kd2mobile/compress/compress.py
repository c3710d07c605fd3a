"""A student to a compressed one, in a process of its own, for it takes TensorFlow and Keras 2."""

from typing import Any

from kd2mobile.backend.tensorflow_process import need_packages, run_in_tensorflow
from kd2mobile.compress.job import Job

PACKAGES = ("tensorflow", "tf_keras", "tensorflow_model_optimization")


def compress_student(job: Job) -> dict[str, Any]:
    """Applies one method and fine-tunes. Writes student.keras and history.jsonl; for qat also fake_quantized/.

    job.folder: empty, or what a killed call left: then it goes on after the last epoch that it finished.

    Returns best_epoch, epochs_run, val_top1 and val_logloss of the best epoch, before {val_top1, val_logloss} of the
    student that came in, seconds, twin_difference (largest, of a logit, between the student and its Keras 2 twin), and
    of prune and after it: zeros (fraction of the weights of the pruned layers), of cluster and after it: clusters
    (the most distinct weights of a layer). Both are counted on what came out.
    Raises MissingExtraError, CompressionError where tensorflow-model-optimization refuses, TrainingError for a loss
    that is not finite, OSError for a full disk.
    """
    need_packages(f"compress {job.method}", PACKAGES, "compress")
    (results,) = run_in_tensorflow("kd2mobile.compress.worker", job, f"compress {job.method}")
    return results
