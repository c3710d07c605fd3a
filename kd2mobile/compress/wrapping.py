"""What tensorflow-model-optimization makes of a Keras 2 student: for training, and when that is over.

Every wrapper here has one form: `wrap(model, job, steps)` returns a Wrapped. steps: of an epoch.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster as preserving
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve.cluster_utils import (
    strip_clustering_cqat,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_configs import (
    Default8BitOutputQuantizeConfig,
)

from kd2mobile.compress.job import Job

MASK_EVERY = 100
"""Steps between two choices of the weights that are pruned, less where an epoch has fewer than four times as many."""


class Wrapped(NamedTuple):
    """model: takes and gives what the student does. plain: takes from it, once training is over, what only that needs.

    callback: told of the start, of every batch and of the end of an epoch, or None. first_epoch: the first epoch,
    from 1, whose model is what was asked for.
    """

    model: tf_keras.Model
    plain: Callable[[tf_keras.Model], tf_keras.Model]
    callback: tf_keras.callbacks.Callback | None = None
    first_epoch: int = 1


class PinnedQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """8-bit fake quantization of [-1, 1], whatever comes in: the step between two pixels, 2/255, stays as it is."""

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        return tf.quantization.fake_quant_with_min_max_args(inputs, min=-1.0, max=1.0)

    def get_config(self):
        return {}


def _annotate_unknown(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
    """The arithmetic of hard-swish, which the library does not know, gets a quantized output like an Add's."""
    if isinstance(layer, tf_keras.layers.Rescaling | tf_keras.layers.Multiply):
        return tfmot.quantization.keras.quantize_annotate_layer(layer, Default8BitOutputQuantizeConfig())
    return layer


class OntoClusters(tf_keras.callbacks.Callback):
    """At the end of an epoch gives every clustered weight the value of its cluster.

    While it trains, the library does so at the start of each step, and the step then moves the weight off again.
    """

    def on_epoch_end(self, epoch, logs=None):
        for layer in self.model.layers:
            for weight, quantizer, variables in getattr(layer, "_weight_vars", []):  # no public name reaches them
                quantizer(weight, training=True, weights=variables)


def wrap_qat(model: tf_keras.Model, job: Job, steps: int) -> Wrapped:
    """Fake quantization of weights and activations, 8 bits, weights by channel, the input's range pinned.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.
    """
    quantize = tfmot.quantization.keras
    known = tf_keras.models.clone_model(model, clone_function=_annotate_unknown)
    scheme = []
    if job.preserve:
        scheme = [tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True)]
    with quantize.quantize_scope({"Default8BitOutputQuantizeConfig": Default8BitOutputQuantizeConfig}):
        wrapped = quantize.quantize_apply(quantize.quantize_annotate_model(known), *scheme)
    (entrance,) = [layer for layer in wrapped.layers if type(layer).__name__ == "QuantizeLayer"]
    entrance.quantizer = PinnedQuantizer()
    if job.preserve:
        return Wrapped(wrapped, strip_clustering_cqat, OntoClusters())
    return Wrapped(wrapped, lambda trained: trained)


def wrap_prune(model: tf_keras.Model, job: Job, steps: int) -> Wrapped:
    """Magnitude pruning: of a layer's weights the smallest become zero, step by step over the first half of training.

    2:4: of every four weights in a row two are zero. Depthwise layers stay as they are.
    Source: Zhu and Gupta 2017 (arXiv:1710.01878), section 3; Mishra et al. 2021 (arXiv:2104.08378) for 2:4.
    """
    settings = job.compress
    epochs = max(1, settings.epochs // 2)
    every = max(1, min(MASK_EVERY, steps // 4))
    if settings.sparsity_pattern == "2:4":
        schedule = tfmot.sparsity.keras.ConstantSparsity(0.5, begin_step=0, frequency=every)
        how = {"sparsity_m_by_n": (2, 4)}
    else:
        schedule = tfmot.sparsity.keras.PolynomialDecay(0.0, settings.sparsity, 0, epochs * steps - every, 3, every)
        how = {}

    def prune(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        pruned = type(layer) in (tf_keras.layers.Conv2D, tf_keras.layers.Dense)
        return tfmot.sparsity.keras.prune_low_magnitude(layer, schedule, **how) if pruned else layer

    wrapped = tf_keras.models.clone_model(model, clone_function=prune)
    return Wrapped(
        wrapped, tfmot.sparsity.keras.strip_pruning, tfmot.sparsity.keras.UpdatePruningStep(), first_epoch=epochs
    )


def wrap_cluster(model: tf_keras.Model, job: Job, steps: int) -> Wrapped:
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


WRAPPERS = {"qat": wrap_qat, "prune": wrap_prune, "cluster": wrap_cluster}


def count_zeros(model) -> float:
    """The fraction of zeros among the weights that pruning is for: the kernels of convolutions and dense layers."""
    kernels = _kernels(model)
    return sum(int((kernel == 0).sum()) for kernel in kernels) / sum(kernel.size for kernel in kernels)


def count_clusters(model) -> int:
    """The largest number of distinct values in a kernel of a convolution or dense layer.

    After quantization-aware training it may be more than was asked for: where the outputs of a convolution use equally
    many clusters, the library trains a set for each output.
    """
    return max(len(np.unique(kernel)) for kernel in _kernels(model))


def _kernels(model) -> list[np.ndarray]:
    layers = [layer for layer in model.layers if type(layer).__name__ in ("Conv2D", "Dense")]
    return [np.asarray(layer.kernel) for layer in layers]
