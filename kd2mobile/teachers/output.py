"""What a model from a file answers with, by the history of its output tensor.

Its layers do not say it: `(a(x) + b(x)) / 2` or `ops.clip(p, ...)` are operations behind the last layer, or beside it.
"""

from collections.abc import Callable
from typing import Any

import keras

ACTIVATED = (keras.layers.Activation, keras.layers.Dense, keras.layers.EinsumDense)
"""The layers that may answer [batch, classes] and whose `activation` is the last thing that they do."""
ACTIVATIONS = {name.replace("_", ""): name for name in dir(keras.activations) if name[0] != "_"}
"""The names of Keras's activations by those of the layers and operations that compute the same, in small letters."""


def ending(tensor: Any) -> tuple[Any, str | None]:
    """The operation that a symbolic output comes from, and the name of the activation that the output is.

    It is looked for inside nested models too, and before layers that change nothing: Identity, Dropout, a linear
    Activation. The name is `softmax`, `sigmoid`, ..., or None for any other numbers.
    """
    operation, node, which = _history(tensor)
    if _changes_nothing(operation, node):
        return ending(node.input_tensors[0])
    if isinstance(operation, keras.Model):
        return ending(operation.outputs[which])
    if isinstance(operation, ACTIVATED):
        name = _activation_name(operation)
        return operation, None if name == "linear" else name
    return operation, ACTIVATIONS.get(type(operation).__name__.lower())


def classes_axis(operation: Any) -> bool:
    """Whether a softmax is one over the classes, the last axis of [batch, classes]; over the batch it is none."""
    return getattr(operation, "axis", -1) in (-1, 1, [-1], [1], (-1,), (1,))


def replaced(tensor: Any, make: Callable[[Any, Any], Any]) -> Any:
    """The symbolic output without the operation that `ending` finds.

    make: given that operation and its symbolic input, the output in its place. What stands around it stays: nested
    models are built again around the new output, with the same layers.
    """
    operation, node, which = _history(tensor)
    if _changes_nothing(operation, node):
        return operation(replaced(node.input_tensors[0], make))
    if not isinstance(operation, keras.Model):
        return make(operation, node.input_tensors[0])
    given, taken = list(operation.inputs), list(node.input_tensors)
    if len(given) == 1:
        given, taken = given[0], taken[0]
    inner = keras.Model(given, replaced(operation.outputs[which], make), name=operation.name)
    training = node.arguments.kwargs.get("training")
    return inner(taken) if training is None else inner(taken, training=training)


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
    """The operation that made it, the call that it comes from, and which of that call's outputs it is."""
    operation, call, which = tensor._keras_history
    return operation, operation._inbound_nodes[call], which


def _activation_name(layer: Any) -> str:
    """The name of the layer's activation, which may be a function or a layer itself."""
    name = getattr(layer.activation, "__name__", type(layer.activation).__name__)
    return ACTIVATIONS.get(name.lower().replace("_", ""), name)


def _changes_nothing(operation: Any, node: Any) -> bool:
    if isinstance(operation, keras.layers.Activation):
        return _activation_name(operation) == "linear"
    if isinstance(operation, keras.layers.Dropout):
        return not node.arguments.kwargs.get("training")
    return isinstance(operation, keras.layers.Identity)
