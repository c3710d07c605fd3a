"""Wraps a Keras 2 student with tensorflow-model-optimization for training, and unwraps it afterwards.

Every wrapper here and in qat.py has one form: `wrap(model, job, feed)` returns a Wrapped.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster as preserving

from kd2mobile.compress.job import Job
from kd2mobile.training.feed import Feed

MASK_EVERY = 100
"""Steps between two choices of the weights that are pruned, less where an epoch has fewer than four times as many."""


class Wrapped(NamedTuple):
    """model: has the student's input and output. plain: removes, after training, what only training needs.

    callback: called at the start, at every batch and at the end of an epoch, or None. first_epoch: the first epoch,
    from 1, whose model has the requested compression.
    """

    model: tf_keras.Model
    plain: Callable[[tf_keras.Model], tf_keras.Model]
    callback: tf_keras.callbacks.Callback | None = None
    first_epoch: int = 1


def wrap_prune(model: tf_keras.Model, job: Job, feed: Feed) -> Wrapped:
    """Magnitude pruning: of a layer's weights the smallest become zero, step by step over the first half of training.

    2:4: of every four weights in a row two are zero. Depthwise layers stay as they are.
    Source: Zhu and Gupta 2017 (arXiv:1710.01878), section 3; Mishra et al. 2021 (arXiv:2104.08378) for 2:4.
    """
    settings = job.compress
    epochs = max(1, settings.epochs // 2)
    every = max(1, min(MASK_EVERY, feed.steps // 4))
    if settings.sparsity_pattern == "2:4":
        schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0, frequency=every)
        how = {"sparsity_m_by_n": (2, 4)}
    else:
        schedule = tfmot.sparsity.keras.PolynomialDecay(
            0.0, settings.sparsity, 0, epochs * feed.steps - every, 3, every
        )
        how = {}

    def prune(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        pruned = type(layer) in (tf_keras.layers.Conv2D, tf_keras.layers.Dense)
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule, **how) if pruned else layer

    wrapped = tf_keras.models.clone_model(model, clone_function=prune)
    return Wrapped(
        wrapped, tfmot.sparsity.keras.strip_pruning, tfmot.sparsity.keras.UpdatePruningStep(), first_epoch=epochs
    )


def wrap_cluster(model: tf_keras.Model, job: Job, feed: Feed) -> Wrapped:
    """Weight clustering: each layer's weights share a few values, which are trained.

    Source: Han, Mao and Dally 2016 (arXiv:1510.00149), section 3.
    """
    start = tfmot.clustering.keras.CentroidInitialization.KMEANS_PLUS_PLUS
    settings = {"number_of_clusters": job.compress.clusters, "cluster_centroids_init": start}
    if job.preserve:
        wrapped = preserving.cluster_weights(model, **settings, preserve_sparsity=True)
    else:
        wrapped = tfmot.clustering.keras.cluster_weights(model, **settings)
    return Wrapped(wrapped, tfmot.clustering.keras.strip_clustering)


def count_zeros(model) -> float:
    """The fraction of zeros among the weights that pruning is for: the kernels of convolutions and dense layers."""
    kernels = _kernels(model)
    return sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)


def count_clusters(model) -> int:
    """The largest number of distinct values in a kernel of a convolution or dense layer.

    After quantization-aware training it may be more than requested: where the outputs of a convolution use equally
    many clusters, the library trains a set for each output.
    """
    return max(len(np.unique(kernel)) for kernel in _kernels(model))


def _kernels(model) -> list[np.ndarray]:
    layers = [layer for layer in model.layers if type(layer).__name__ in ("Conv2D", "Dense")]
    return [np.asarray(layer.kernel) for layer in layers]
