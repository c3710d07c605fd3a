"""A student to a compressed one, in a process of its own, for it takes TensorFlow and Keras 2."""

from kd2mobile.backend.tensorflow_process import need_packages, run_in_tensorflow
from kd2mobile.compress.job import Job
from kd2mobile.compress.results import CompressedResults

PACKAGES = ("tensorflow", "tf_keras", "tensorflow_model_optimization")


def compress_student(job: Job) -> CompressedResults:
    """Applies one method and fine-tunes. Writes student.keras and history.jsonl; for qat also fake_quantized/.

    job.folder: empty, or what a killed call left: then it goes on after the last epoch that it finished.

    Raises MissingExtraError, CompressionError where tensorflow-model-optimization refuses, TrainingError for a loss
    that is not finite, OSError for a full disk.
    """
    need_packages(f"compress {job.method}", PACKAGES, "compress")
    (results,) = run_in_tensorflow("kd2mobile.compress.worker", job, f"compress {job.method}", CompressedResults)
    return results
