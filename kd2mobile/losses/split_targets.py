"""Split tensors, packed and unpacked here alone: Keras gives a loss one tensor of targets and one of outputs.

    split targets  [one_hot | teacher_logits]   float [batch, 2 * classes]
    split output   [z | z / temperature]        float [batch, 2 * classes], z the student's logits

NumPy and Keras are imported when a function is called, not before.
"""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Tensor: TypeAlias = Any


def pack_targets(labels: "np.ndarray", classes: int, teacher_logits: "np.ndarray | None" = None) -> "np.ndarray":
    """Split targets, float32 [batch, 2 * classes].

    labels: int [batch], -1 where an image has none: its one-hot row is zero. teacher_logits: float [batch, classes];
    zeros stand for them where no teacher is used.

    >>> import numpy as np
    >>> pack_targets(np.array([1, -1]), 2, np.array([[0.5, 3.0], [2.0, -1.0]])).tolist()
    [[0.0, 1.0, 0.5, 3.0], [0.0, 0.0, 2.0, -1.0]]
    """
    import numpy as np

    targets = np.zeros((len(labels), 2 * classes), np.float32)
    labelled = np.flatnonzero(labels >= 0)
    targets[labelled, labels[labelled]] = 1
    if teacher_logits is not None:
        targets[:, classes:] = teacher_logits
    return targets


def unpack_targets(targets: Tensor) -> tuple[Tensor, Tensor]:
    """(one_hot, teacher_logits), each [batch, classes], of split targets."""
    return _halves(targets)


def pack_output(z: Tensor, temperature: float) -> Tensor:
    """The split output, [batch, 2 * classes], of the student's logits, [batch, classes]."""
    from keras import ops

    return ops.concatenate([z, z / temperature], axis=-1)


def unpack_output(output: Tensor) -> tuple[Tensor, Tensor]:
    """(z, z / temperature), each [batch, classes], of a split output."""
    return _halves(output)


def _halves(split: Tensor) -> tuple[Tensor, Tensor]:
    classes = split.shape[-1] // 2
    return split[:, :classes], split[:, classes:]
