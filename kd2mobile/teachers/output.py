"""Finds what computes the output of a model from a file, by the history of its output tensor.

The list of its layers is not enough: `(a(x) + b(x)) / 2` or `ops.clip(p, ...)` are operations after the last layer.
"""

from collections.abc import Callable
from typing import Any

import keras

ACTIVATED = (keras.layers.Activation, keras.layers.Dense, keras.layers.EinsumDense)
"""The layers that may output [batch, classes] and that apply their `activation` last."""
ACTIVATIONS = {name.replace("_", ""): name for name in dir(keras.activations) if name[0] != "_"}
"""The names of Keras's activations, by the lower-case names of the layers and operations that compute them."""


def ending(tensor: Any) -> tuple[Any, str | None]:
    """The operation that computes a symbolic output, and the name of its activation, such as `softmax`, or None.

    Nested models are searched too, and layers without effect are passed: Identity, Dropout, a linear Activation.
    """
    operation, node, which = _history(tensor)
    if _is_identity(operation, node):
        return ending(node.input_tensors[0])
    if isinstance(operation, keras.Model):
        return ending(operation.outputs[which])
    if isinstance(operation, ACTIVATED):
        name = _activation_name(operation)
        return operation, None if name == "linear" else name
    return operation, ACTIVATIONS.get(type(operation).__name__.lower())


def classes_axis(operation: Any) -> bool:
    """Whether a softmax runs over the classes, the last axis of [batch, classes], and not over the batch."""
    return getattr(operation, "axis", -1) in (-1, 1, [-1], [1], (-1,), (1,))


def replaced(tensor: Any, replacement: Callable[[Any, Any], Any]) -> Any:
    """The symbolic output without the operation that `ending` finds.

    replacement: given that operation and its symbolic input, the output in its place. What stands around it stays:
    nested models are built again around the new output, with the same layers.
    """
    operation, node, which = _history(tensor)
    if _is_identity(operation, node):
        return operation(replaced(node.input_tensors[0], replacement))
    if not isinstance(operation, keras.Model):
        return replacement(operation, node.input_tensors[0])
    inputs, tensors = list(operation.inputs), list(node.input_tensors)
    if len(inputs) == 1:
        inputs, tensors = inputs[0], tensors[0]
    inner = keras.Model(inputs, replaced(operation.outputs[which], replacement), name=operation.name)
    training = node.arguments.kwargs.get("training")
    return inner(tensors) if training is None else inner(tensors, training=training)


def without_activation(operation: Any, tensor: Any) -> Any:
    """What an operation of `ending` would answer on its symbolic input without its activation, for `replaced`.

    A layer with weights is built again, for the file may use it elsewhere as well.
    """
    if not isinstance(operation, ACTIVATED) or isinstance(operation, keras.layers.Activation):
        return tensor
    name = f"{operation.name}_without_{_activation_name(operation)}"
    plain = type(operation).from_config(operation.get_config() | {"activation": "linear", "name": name})
    logits = plain(tensor)
    plain.set_weights(operation.get_weights())
    return logits


def _history(tensor: Any) -> tuple[Any, Any, int]:
    """The operation that computed the tensor, the node of that call, and the index of the tensor among its outputs."""
    operation, index, which = tensor._keras_history
    return operation, operation._inbound_nodes[index], which


def _activation_name(layer: Any) -> str:
    """The name of the layer's activation, which may be a function or a layer itself."""
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    return ACTIVATIONS.get(name.lower().replace("_", ""), name)


def _is_identity(operation: Any, node: Any) -> bool:
    if isinstance(operation, keras.layers.Activation):
        return _activation_name(operation) == "linear"
    if isinstance(operation, keras.layers.Dropout):
        return not node.arguments.kwargs.get("training")
    return isinstance(operation, keras.layers.Identity)
