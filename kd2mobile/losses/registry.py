"""The losses by name, on split tensors: targets `[one_hot | teacher_logits]`, predictions `[z | z / temperature]`.

All are functions of one form,

    loss(targets, predictions, *, temperature, hard_label_weight) -> [batch], nats

with targets and predictions float [batch, 2 * classes], the temperature above 0 and the weight in [0, 1]. They take
logits and never probabilities, and run on any backend of Keras 3. The baseline without a teacher uses the same form,
with anything finite (zeros) in the teacher's half. Keras is imported when a loss is called, not before.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from kd2mobile.registry import Registry

Tensor: TypeAlias = Any
Loss: TypeAlias = Callable[..., Tensor]

LOSSES: Registry[Loss] = Registry("losses")


def split_predictions(z: Tensor, temperature: float) -> Tensor:
    """`[z | z / temperature]`, [batch, 2 * classes], from the student's logits, [batch, classes]."""
    from keras import ops

    return ops.concatenate([z, z / temperature], axis=-1)


def make_loss(name: str, temperature: float, hard_label_weight: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of that name for `model.compile(loss=...)`: (targets, predictions) -> [batch].

    Raises UnknownNameError.
    """
    entry = LOSSES[name]

    def loss(targets: Tensor, predictions: Tensor) -> Tensor:
        return entry(targets, predictions, temperature=temperature, hard_label_weight=hard_label_weight)

    loss.__name__ = name.replace("-", "_")
    return loss


@LOSSES.register("kd", "hard labels and soft targets, weighted; the soft part is multiplied by temperature squared")
def kd(targets: Tensor, predictions: Tensor, *, temperature: float, hard_label_weight: float) -> Tensor:
    """Knowledge distillation: with w the hard_label_weight and T the temperature,

        w * CE(labels, softmax(z)) + (1 - w) * T^2 * CE(softmax(teacher_logits / T), softmax(z / T))

    T^2 keeps the soft part's gradient of one size when the temperature changes. The soft cross entropy's minimum
    over z is the softened teacher's entropy, not 0; above it lies the KL divergence, with the same gradient.

    targets, predictions: split, float [batch, 2 * classes]. Returns float [batch], nats.
    Source: Hinton, Vinyals, Dean 2015 (arXiv:1503.02531), section 2.
    """
    one_hot, teacher_logits, z, softened_z = _halves(targets, predictions)
    soft = _cross_entropy(_softmax(teacher_logits / temperature), softened_z)
    return hard_label_weight * _cross_entropy(one_hot, z) + (1 - hard_label_weight) * temperature**2 * soft


@LOSSES.register("kd-split", "as published: the weight applies to the labels alone, without temperature squared")
def kd_split(targets: Tensor, predictions: Tensor, *, temperature: float, hard_label_weight: float) -> Tensor:
    """The form of the published Caltech-256 experiment that kd2mobile grew from, with w the hard_label_weight:

        w * CE(labels, softmax(z)) + CE(softmax(teacher_logits / T), softmax(z / T))

    Without T^2 the soft part's gradient shrinks with 1 / T^2 at high temperature, so w and T are tied together.

    targets, predictions: split, float [batch, 2 * classes]. Returns float [batch], nats.
    """
    one_hot, teacher_logits, z, softened_z = _halves(targets, predictions)
    soft = _cross_entropy(_softmax(teacher_logits / temperature), softened_z)
    return hard_label_weight * _cross_entropy(one_hot, z) + soft


@LOSSES.register("logits", "hard labels and the squared difference of centred logits: kd at a very high temperature")
def logits(targets: Tensor, predictions: Tensor, *, temperature: float, hard_label_weight: float) -> Tensor:
    """Logit matching: with w the hard_label_weight and a bar for the mean over an example's classes,

        w * CE(labels, softmax(z)) + (1 - w) * mean(((z - zbar) - (v - vbar))^2) / 2,  v = teacher_logits

    Centred per example because softmax does not see a shift. The half and the mean over the classes make it what
    `kd` tends to (less the teacher's entropy) as the temperature grows: the gradient of T^2 * CE goes to
    (z - zbar - v + vbar) / classes. The temperature itself is not used.

    targets, predictions: split, float [batch, 2 * classes]. Returns float [batch].
    Source: Hinton, Vinyals, Dean 2015, section 2.1; Ba and Caruana 2014 (arXiv:1312.6184), equation 3.
    """
    from keras import ops

    one_hot, teacher_logits, z, _ = _halves(targets, predictions)
    difference = z - teacher_logits
    difference = difference - ops.mean(difference, axis=-1, keepdims=True)
    matched = ops.mean(ops.square(difference), axis=-1) / 2
    return hard_label_weight * _cross_entropy(one_hot, z) + (1 - hard_label_weight) * matched


@LOSSES.register("labels", "hard labels alone, without a teacher: the baseline")
def labels(targets: Tensor, predictions: Tensor, *, temperature: float, hard_label_weight: float) -> Tensor:
    """CE(labels, softmax(z)): the baseline. The teacher's half, the temperature and the weight are not used.

    targets, predictions: split, float [batch, 2 * classes]. Returns float [batch], nats.
    """
    one_hot, _, z, _ = _halves(targets, predictions)
    return _cross_entropy(one_hot, z)


def _halves(targets: Tensor, predictions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from keras import ops

    classes = predictions.shape[-1] // 2
    targets = ops.cast(targets, predictions.dtype)
    return targets[:, :classes], targets[:, classes:], predictions[:, :classes], predictions[:, classes:]


def _softmax(logits: Tensor) -> Tensor:
    from keras import ops

    return ops.softmax(logits, axis=-1)


def _cross_entropy(probabilities: Tensor, logits: Tensor) -> Tensor:
    from keras import ops

    return -ops.sum(probabilities * ops.log_softmax(logits, axis=-1), axis=-1)
