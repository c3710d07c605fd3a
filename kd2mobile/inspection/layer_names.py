"""The layers of a student that a tensor of its .tflite comes from, read from the names that the converter writes.

The converter names a tensor after the ops that it fused, each with the path of scopes that it was traced in:
`net_1/relu_1/Relu6;net_1/bn_1/batchnorm/add_1;net_1/conv_1/convolution`. A scope is a layer's name with a number behind
it, for Keras opens each one twice; TFMOT puts `quant_` before it.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

ANSWER = "probabilities"
"""The name of the end of the graph: the softmax is no layer, and the converter gives it no name."""
_NAMELESS = "StatefulPartitionedCall"
_NUMBERED = re.compile(r"(.+)_\d+")
_OF_A_KERNEL = {"convolution", "depthwise", "MatMul"}
"""The last word of what Keras traces for a layer with a kernel."""


class LayerNames(NamedTuple):
    """The layers of a student; weighted: those with a kernel, after which an op fused from several layers is named."""

    every: frozenset[str]
    weighted: frozenset[str]

    def within(self, tensor: str) -> list[str]:
        """The layers that were fused into the op which makes that tensor, in the converter's order; none if unknown.

        >>> names = LayerNames(frozenset(["conv", "conv_1", "relu"]), frozenset())
        >>> names.within("net_1/relu_1/Relu6;net_1/conv_1_1/convolution")
        ['relu', 'conv_1']
        """
        paths = (part.split("/")[1:] for part in tensor.split(";"))
        layers = (next(filter(None, map(self._layer, path)), None) for path in paths)
        return list(dict.fromkeys(filter(None, layers)))

    def of(self, tensor: str) -> str:
        """The name of the op that makes that tensor, for a reader: its layer, or the tensor's own name."""
        layers = self.within(tensor)
        if layers:
            return next((layer for layer in layers if layer in self.weighted), layers[0])
        return ANSWER if tensor.startswith(_NAMELESS) else tensor.partition(";")[0]

    def names_of(self, tensor: str) -> set[str]:
        """Every name by which the op that makes that tensor may be given."""
        return {*self.within(tensor), self.of(tensor)}

    def are_among(self, tensors: Iterable[str], names: Iterable[str]) -> bool:
        """Whether one of the names is that of an op which makes one of these tensors."""
        return any(self.names_of(tensor) & set(names) for tensor in tensors)

    def _layer(self, scope: str) -> str | None:
        scope = scope.removeprefix("quant_")
        numbered = _NUMBERED.fullmatch(scope)
        if numbered and numbered[1] in self.every:
            return numbered[1]
        return scope if scope in self.every else None


NO_NAMES = LayerNames(frozenset(), frozenset())


def layers_in(tensors: Iterable[str]) -> LayerNames:
    """The layers of a student, from the tensors of its file alone: in each path the innermost scope with a number
    behind it, between the first scope, which is the student, and the last, which is the op.

    >>> names = layers_in(["net_1/relu_1/Relu6;net_1/conv_1_1/convolution", "tfl.quantize"])
    >>> sorted(names.every), names.of("net_1/relu_1/Relu6;net_1/conv_1_1/convolution")
    (['conv_1', 'relu'], 'conv_1')
    """
    every, weighted = set(), set()
    for path in (part.split("/") for tensor in tensors for part in tensor.split(";")):
        scopes = [numbered[1] for scope in path[1:-1] if (numbered := _NUMBERED.fullmatch(scope))]
        every |= set(scopes[-1:])
        weighted |= set(scopes[-1:]) if path[-1] in _OF_A_KERNEL else set()
    return LayerNames(frozenset(every), frozenset(weighted))
