"""The process that compresses: `python -m kd2mobile.compress.worker`, see tensorflow_process."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from kd2mobile import progress
from kd2mobile.backend.checkpoint import remove_checkpoints
from kd2mobile.backend.model_files import save_model
from kd2mobile.backend.tensorflow_process import Tell, serve
from kd2mobile.compress.fine_tune import evaluate, fine_tune
from kd2mobile.compress.job import Job
from kd2mobile.compress.methods import GRAPH_FOLDER
from kd2mobile.compress.qat import wrap_qat
from kd2mobile.compress.results import CompressedResults, Evaluation
from kd2mobile.compress.twin import carry_back, check_twin, twin_of, weight_names
from kd2mobile.compress.wrapping import count_clusters, count_zeros, wrap_cluster, wrap_prune
from kd2mobile.errors import CompressionError
from kd2mobile.pixels import to_int8_input
from kd2mobile.text import one_line
from kd2mobile.training.feed import Evaluated, Feed
from kd2mobile.training.loop import best_line
from kd2mobile.training.results import STUDENT_FILE

WRAPPERS = {"qat": wrap_qat, "prune": wrap_prune, "cluster": wrap_cluster}


def work(job: Job, tell: Tell) -> None:
    """Wraps the student's twin, fine-tunes it and writes what came out."""
    keras.utils.set_random_seed(job.distill.seed)
    tf_keras.backend.experimental.enable_tf_random_generator()  # else nothing could be saved of where dropout stands
    student = keras.saving.load_model(job.student, compile=False, safe_mode=True)
    examples = job.examples
    feed = Feed(
        examples.train_labels,
        examples.classes,
        examples.pixels_folder,
        examples.transfer_folder,
        job.distill.batch_size,
        job.distill.seed,
        examples.unlabelled,
        job.distill.class_weights,
    )
    evaluated = Evaluated(examples.val_labels, examples.pixels_folder)
    twin = twin_of(student, job.name)
    difference = check_twin(student, twin, to_int8_input(next(evaluated.batches(16))))
    before = evaluate(twin, evaluated, f"compress {job.method}, before it")
    progress.say(
        f"compress {job.method}: uncompressed, val top-1 {before['val_top1']:.3f}  "
        f"val logloss {before['val_logloss']:.3f}"
    )
    names = weight_names(twin)
    wrapped = _wrapped(job, twin, feed)
    history = fine_tune(wrapped, job, feed, evaluated)
    best = best_line(history, first_epoch=wrapped.first_epoch)
    trained = wrapped.plain(wrapped.model)
    carry_back(trained, names, student)
    methods = (*job.preserve, job.method)
    results = CompressedResults(
        best_epoch=best["epoch"],
        epochs_run=len(history),
        val_top1=best["val_top1"],
        val_logloss=best["val_logloss"],
        before=Evaluation(**before),
        seconds=round(sum(line["seconds"] for line in history), 3),
        twin_difference=difference,
        zeros=count_zeros(student) if "prune" in methods else None,
        clusters=count_clusters(student) if "cluster" in methods else None,
    )
    _save(Path(job.folder), student, trained if job.method == "qat" else None)
    remove_checkpoints(Path(job.folder))
    tell("result", result=results)


def _wrapped(job: Job, twin: tf_keras.Model, feed: Feed) -> Any:
    try:
        return WRAPPERS[job.method](twin, job, feed)
    except Exception as fault:  # tensorflow-model-optimization raises almost anything on a layer it does not know
        reason = one_line(f"{type(fault).__name__}: {fault}")[:500]
        must = "must consist of layers that tensorflow-model-optimization supports"
        next_step = "Leave this compression out with --compress, or distil another student."
        raise CompressionError(f"{job.name}, {job.method}", must, reason, next_step) from fault


def _save(folder: Path, student: keras.Model, quantized: tf_keras.Model | None) -> None:
    if quantized is not None:
        save_graph(quantized, folder / GRAPH_FOLDER)
    save_model(student, folder / STUDENT_FILE)


def save_graph(quantized: tf_keras.Model, folder: Path) -> None:
    """The fake-quantized graph with two signatures: `classify`, of one image, and `classify_batch`.

    image: float32 [1 or batch, px, px, 3] in [-1, 1]; probabilities: float32 [1 or batch, classes].
    """
    _, px, _, channels = quantized.input_shape

    def classify(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(quantized(image, training=False))}

    module = tf.Module()
    module.model = quantized
    signatures = {
        name: tf.function(classify, input_signature=[tf.TensorSpec([count, px, px, channels], tf.float32, "image")])
        for name, count in (("classify", 1), ("classify_batch", None))
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


if __name__ == "__main__":
    serve(work, Job)
