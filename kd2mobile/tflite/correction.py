"""Bias correction: removes the mean shift of a layer's output that the rounding of its weights causes.

A layer whose input hardly varies around a large mean (MobileNet's depthwise layers behind nearly constant channels)
turns the rounding error of its weights into a constant shift of its output, far above the error that the varying
part makes. The shift is known: error times mean input. On a MobileNet-0.25 for caltech101 at 128 px it is most of
what quantization costs. Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", section 4.2, here with the mean measured on the calibration images. float16 biases are too coarse to
take the shift, so there the rounding of the weights is chosen, up or down, such that it cancels; of clustered weights
those of an output that are equal go the same way, or a cluster would become two values and the file compress worse.

The file is edited in place: its size, ops and tensors stay as the converter left them.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from kd2mobile.tflite.layers import DENSE, DEPTHWISE, Layer, read_layers
from kd2mobile.tflite.results import BiasCorrection


class Exact(NamedTuple):
    """A layer before rounding. mean: the mean input of each of its weights, broadcastable to the weights."""

    layer: Layer
    mean: np.ndarray


def measure(reference: bytes, inputs: Iterable[np.ndarray]) -> list[Exact]:
    """The layers of a float32 model, with the mean of their inputs over the inputs of the model.

    inputs: [px, px, 3] each, in the type of the model's input.
    """
    layers = read_layers(bytearray(reference))
    interpreter = Interpreter(
        model_content=reference,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]["index"]
    sums, count = {layer.input: 0.0 for layer in layers}, 0
    for pixels in inputs:
        interpreter.set_tensor(image, pixels[None])
        interpreter.invoke()
        count += 1
        for tensor in sums:
            sums[tensor] = sums[tensor] + interpreter.get_tensor(tensor).astype(np.float64)
    return [Exact(layer, mean_at_weights(layer, sums[layer.input] / count)) for layer in layers]


def mean_at_weights(layer: Layer, mean_input: np.ndarray) -> np.ndarray:
    """The mean, over output positions, of the input that each weight is multiplied with; broadcastable to the weights.

    mean_input: [1, height, width, in], or [1, in] for a dense layer. Padding counts as the zeros that it is.
    """
    if layer.kind == DENSE:
        return mean_input.reshape(-1, layer.weights.shape[1]).mean(0, keepdims=True)
    _, rows, columns, channels = mean_input.shape
    taps = layer.weights.shape[1:3]
    (above, below, down), (left, right, across) = (
        _padding(*of, layer.same) for of in zip((rows, columns), taps, layer.strides, layer.dilations, strict=True)
    )
    padded = np.pad(mean_input[0], ((above, below), (left, right), (0, 0)))
    mean = np.empty((1, *taps, channels))
    for y, x in np.ndindex(*taps):
        top, side = y * layer.dilations[0], x * layer.dilations[1]
        met = padded[top :: layer.strides[0], side :: layer.strides[1]][:down, :across]
        mean[0, y, x] = met.mean((0, 1))
    return np.repeat(mean, layer.outputs // channels, 3) if layer.kind == DEPTHWISE else mean


def _padding(size: int, taps: int, stride: int, dilation: int, same: bool) -> tuple[int, int, int]:
    """Zeros before and after, and positions of the output, along one axis."""
    reach = (taps - 1) * dilation + 1
    if not same:
        return 0, 0, (size - reach) // stride + 1
    positions = -(-size // stride)
    zeros = max((positions - 1) * stride + reach - size, 0)
    return zeros // 2, zeros - zeros // 2, positions


def correct(model: bytes, exact: list[Exact], keep_clusters: bool = False) -> tuple[bytes, BiasCorrection]:
    """The model with the mean shift of its layers taken back, and of how many that is.

    exact: the layers of the same graph in float32, from `measure`. keep_clusters: whether equal float16 weights of an
    output stay equal. layers: how many have rounded weights; corrected:
    how many of those; the others have no bias of their own, or weights that the float32 graph has in another form.
    """
    edited = bytearray(model)
    rounded = [layer for layer in read_layers(edited) if layer.weights.dtype != np.float32]
    corrected = 0
    for layer in rounded:
        twin = next((other for other in exact if _is_rounding_of(layer, other.layer)), None)
        if twin is None or layer.bias is None or twin.layer.bias is None:
            continue
        if layer.weights.dtype == np.float16:
            _choose_roundings(layer, twin, keep_clusters)
        else:
            _shift_bias(layer, twin)
        corrected += 1
    return bytes(edited), BiasCorrection(len(rounded), corrected)


def _is_rounding_of(layer: Layer, exact: Layer) -> bool:
    if layer.kind != exact.kind or layer.weights.shape != exact.weights.shape:
        return False
    real = exact.real_weights
    step = np.abs(real) * 2.0**-10 + 2.0**-24 if layer.weights.dtype == np.float16 else layer.scale
    return bool((np.abs(layer.real_weights - real) <= 0.6 * step + 1e-12).all())


def _shift_bias(layer: Layer, exact: Exact) -> None:
    error = layer.real_weights - exact.layer.real_weights
    shift = layer.by_output(error * exact.mean).sum(1)
    if layer.bias.dtype.kind == "i":
        layer.bias[:] -= np.round(shift / (layer.input_scale * layer.scale.reshape(-1))).astype(layer.bias.dtype)
    else:
        layer.bias[:] -= shift.astype(layer.bias.dtype)


def _choose_roundings(layer: Layer, exact: Exact, keep_clusters: bool) -> None:
    """Rounds single weights the other way, those that matter most first, while that brings the mean shift to zero.

    keep_clusters: not single ones but all of an output that have the same value.
    """
    real = exact.layer.real_weights
    stored = layer.weights.astype(np.float64)
    other = np.nextafter(layer.weights, np.where(stored < real, np.inf, -np.inf).astype(np.float16)).astype(np.float64)
    other = np.where((stored == real) | ~np.isfinite(other), stored, other)
    shift = layer.by_output((stored - real) * exact.mean).sum(1) + (layer.bias.astype(np.float64) - exact.layer.bias)
    changes = layer.by_output((other - stored) * exact.mean)
    turned = np.zeros(changes.shape, bool)
    outputs = np.arange(layer.outputs)
    if keep_clusters:
        leader = _first_of_equals(layer.by_output(real))
        together = np.zeros_like(changes)
        np.add.at(together, (outputs[:, None], leader), changes)
        changes = together
    for column in np.argsort(-np.abs(changes), axis=1, kind="stable").T:
        change = changes[outputs, column]
        better = np.abs(shift + change) < np.abs(shift)
        shift += np.where(better, change, 0.0)
        turned[outputs, column] = better
    if keep_clusters:
        turned = turned[outputs[:, None], leader]
    axis = 3 if layer.kind == DEPTHWISE else 0
    shape = np.moveaxis(layer.weights, axis, 0).shape
    layer.weights[:] = np.where(np.moveaxis(turned.reshape(shape), 0, axis), other, stored)


def _first_of_equals(rows: np.ndarray) -> np.ndarray:
    """For every value the index of the first equal one in its row.

    >>> _first_of_equals(np.array([[0.5, 0.1, 0.5, 0.1], [0.1, 0.2, 0.3, 0.4]])).tolist()
    [[0, 1, 0, 1], [0, 1, 2, 3]]
    """
    firsts = []
    for row in rows:
        _, first, of = np.unique(row, return_index=True, return_inverse=True)
        firsts.append(first[of])
    return np.stack(firsts)
