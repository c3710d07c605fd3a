"""Quantization-aware training: a Keras 2 student wrapped by tensorflow-model-optimization, begun where it will end."""

from itertools import islice

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tensorflow_model_optimization.python.core.quantization.keras.collab_opts.cluster_preserve.cluster_utils import (
    strip_clustering_cqat,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_configs import (
    Default8BitOutputQuantizeConfig,
    NoOpQuantizeConfig,
)
from tensorflow_model_optimization.python.core.quantization.keras.default_8bit.default_8bit_quantize_scheme import (
    Default8BitQuantizeScheme,
)

from kd2mobile.compress.job import Job
from kd2mobile.compress.wrapping import Wrapped
from kd2mobile.pixels import to_int8_input
from kd2mobile.training.feed import Feed

WITH_WEIGHTS = (tf_keras.layers.Conv2D, tf_keras.layers.DepthwiseConv2D, tf_keras.layers.Dense)
RANGE_BATCHES = 20
"""Training batches on which the ranges of the activations are seen before training."""


class PinnedQuantizer(tfmot.quantization.keras.quantizers.Quantizer):
    """8-bit fake quantization of [-1, 1], whatever comes in: the step between two pixels, 2/255, stays as it is."""

    def build(self, tensor_shape, name, layer):
        return {}

    def __call__(self, inputs, training, weights, **kwargs):
        return tf.quantization.fake_quant_with_min_max_args(inputs, min=-1.0, max=1.0)

    def get_config(self):
        return {}


class WeightsBeforeReLU:
    """The library's layout, but that the weights of a layer directly before a ReLU are quantized as all others are.

    To leave the output between the two unquantized, its own rule (LayerReLUQuantize) quantizes nothing of that layer;
    the converter then rounds weights that were never trained to be.
    """

    def __init__(self, layout, registry):
        self.layout, self.registry = layout, registry

    def apply(self, model, layer_quantize_map):
        model, layers = self.layout.apply(model, layer_quantize_map)
        for layer in model.layers:
            chosen = layers.get(layer.name, {}).get("quantize_config")
            if isinstance(layer, WITH_WEIGHTS) and isinstance(chosen, NoOpQuantizeConfig):
                config = self.registry.get_quantize_config(layer)
                config.activation_attrs, config.quantize_output = [], False
                layers[layer.name]["quantize_config"] = config
        return model, layers


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


def wrap_qat(model: tf_keras.Model, job: Job, feed: Feed) -> Wrapped:
    """Fake quantization of weights and activations, 8 bits, weights by channel, the input's range pinned.

    Source: Jacob et al. 2018 (arXiv:1712.05877), section 3.
    """
    quantize = tfmot.quantization.keras
    if not job.preserve:
        even_out_depthwise(model)
    known = tf_keras.models.clone_model(model, clone_function=_annotate_unknown)
    if job.preserve:
        scheme = tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True)
    else:
        scheme = Default8BitQuantizeScheme()
    layout, registry = scheme.get_layout_transformer(), scheme.get_quantize_registry()
    scheme.get_layout_transformer = lambda: WeightsBeforeReLU(layout, registry)
    with quantize.quantize_scope({"Default8BitOutputQuantizeConfig": Default8BitOutputQuantizeConfig}):
        wrapped = quantize.quantize_apply(quantize.quantize_annotate_model(known), scheme)
    (entrance,) = [layer for layer in wrapped.layers if type(layer).__name__ == "QuantizeLayer"]
    entrance.quantizer = PinnedQuantizer()
    set_ranges(wrapped, model, feed)
    if job.preserve:
        return Wrapped(wrapped, strip_clustering_cqat, OntoClusters())
    return Wrapped(wrapped, lambda trained: trained)


def even_out_depthwise(model: tf_keras.Model) -> None:
    """Gives the channels of a depthwise kernel one largest weight; the normalization behind it takes the factors back.

    The library gives such a kernel one scale per tensor, so that a channel of small weights would have few steps left.
    The network's answers stay what they are. Source: the scaling equivariance that cross-layer equalization rests on,
    Nagel et al. 2019 (arXiv:1906.04721), section 4.1.
    """
    for layer in model.layers:
        follower = _only_follower(layer)
        if not isinstance(layer, tf_keras.layers.DepthwiseConv2D) or layer.use_bias:
            continue
        if not isinstance(follower, tf_keras.layers.BatchNormalization):
            continue
        kernel = layer.depthwise_kernel.numpy()
        largest = np.abs(kernel).max(axis=(0, 1))
        factors = np.where(largest > 0, np.median(largest[largest > 0]) / np.maximum(largest, 1e-12), 1.0)
        layer.depthwise_kernel.assign(kernel * factors)
        flat, epsilon = factors.reshape(-1), follower.epsilon
        follower.moving_mean.assign(follower.moving_mean.numpy() * flat)
        variance = flat**2 * (follower.moving_variance.numpy() + epsilon) - epsilon
        follower.moving_variance.assign(np.maximum(variance, 0.0))


def set_ranges(wrapped: tf_keras.Model, model: tf_keras.Model, feed: Feed) -> None:
    """Begins each activation's range with what the float model shows: the mean of the batches' least and largest.

    The library begins every range with [-6, 6] and moves it by a thousandth a step, so that after hundreds of steps
    a ReLU6 still has two fifths of its steps below zero.
    """
    names = [layer.name for layer in model.layers]
    probe = tf_keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    outputs = (probe(to_int8_input(pixels), training=False) for pixels, *_ in islice(feed.epoch(0), RANGE_BATCHES))
    ends = [[(float(tf.reduce_min(output)), float(tf.reduce_max(output))) for output in batch] for batch in outputs]
    ranges = dict(zip(names, np.mean(ends, axis=0).tolist(), strict=True))
    for layer in wrapped.layers:
        inner = getattr(layer, "layer", None)
        if inner is None or inner.name not in ranges:
            continue
        least, largest = ranges[inner.name]
        for weight in layer.weights:
            if weight.name.endswith(("output_min:0", "activation_min:0")):
                weight.assign(min(least, 0.0))
            elif weight.name.endswith(("output_max:0", "activation_max:0")):
                weight.assign(max(largest, 0.0))


def _only_follower(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer | None:
    followers = [node.outbound_layer for node in layer.outbound_nodes]
    return followers[0] if len(followers) == 1 else None
