"""The losses by name: each a function with its entry beside it. Another loss is one more of them in this file.

They take logits, run on any backend of Keras 3 and import it when they are called; `loss.Loss` says what must hold of
one. The names of the tensors: z the student's logits, v the teacher's, T the temperature, w the hard_label_weight.
"""

from collections.abc import Callable

from kd2mobile.losses.loss import Loss, Options, Tensor
from kd2mobile.losses.split_targets import unpack_output, unpack_targets
from kd2mobile.recipe.schema import Distill
from kd2mobile.registry import Registry

LOSSES: Registry[Loss] = Registry("losses")


def register(
    name: str,
    summary: str,
    *,
    needs_teacher: bool = True,
    rest_to_teacher: bool = False,
    options: type[Options] = Options,
) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """A decorator that enters a function as the loss of that name. The arguments are those of `Loss`."""

    def add(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        LOSSES.register(name, summary)(Loss(function, needs_teacher, rest_to_teacher, options))
        return function

    return add


def make_loss(distill: Distill) -> Callable[[Tensor, Tensor], Tensor]:
    """The recipe's loss for `model.compile(loss=...)`: (split targets, split output) -> [batch], see `split`.

    Raises UnknownNameError, RecipeError.
    """
    loss = LOSSES[distill.loss]
    keywords = loss.keywords(distill)

    def split_loss(targets: Tensor, output: Tensor) -> Tensor:
        from keras import ops

        one_hot, teacher_logits = unpack_targets(ops.cast(targets, output.dtype))
        z, _ = unpack_output(output)
        return loss.function(z, teacher_logits, one_hot, **keywords)

    split_loss.__name__ = distill.loss.replace("-", "_")
    return split_loss


def describe_losses() -> dict[str, str]:
    """Each loss by name: what it is, the fields of [distill] that it uses, and a line about each option of its own."""
    described = {}
    for name, summary in LOSSES.listing().items():
        loss = LOSSES[name]
        uses = f" (uses {', '.join(loss.uses)})" if loss.uses else ""
        described[name] = "\n".join([summary + uses, *loss.describe_options()])
    return described


@register(
    "kd",
    "hard labels and soft targets, weighted; the soft part is multiplied by temperature squared",
    rest_to_teacher=True,
)
def kd(
    student_logits: Tensor, teacher_logits: Tensor, one_hot: Tensor, *, temperature: float, hard_label_weight: float
) -> Tensor:
    """Knowledge distillation:

        w * CE(labels, softmax(z)) + (1 - w) * T^2 * CE(softmax(v / T), softmax(z / T))

    T^2 keeps the soft part's gradient of one size when the temperature changes. The soft cross entropy's minimum
    over z is the softened teacher's entropy, not 0; above it lies the KL divergence, with the same gradient.

    Returns float [batch], nats. Source: Hinton, Vinyals, Dean 2015 (arXiv:1503.02531), section 2.
    """
    hard = _cross_entropy(one_hot, student_logits)
    soft = _cross_entropy(_softmax(teacher_logits / temperature), student_logits / temperature)
    return hard_label_weight * hard + (1 - hard_label_weight) * temperature**2 * soft


@register("kd-split", "as published: the weight applies to the labels alone, without temperature squared")
def kd_split(
    student_logits: Tensor, teacher_logits: Tensor, one_hot: Tensor, *, temperature: float, hard_label_weight: float
) -> Tensor:
    """The form of the published Caltech-256 experiment that kd2mobile grew from:

        w * CE(labels, softmax(z)) + CE(softmax(v / T), softmax(z / T))

    Without T^2 the soft part's gradient shrinks with 1 / T^2 at high temperature, so w and T are tied together.
    Returns float [batch], nats.
    """
    soft = _cross_entropy(_softmax(teacher_logits / temperature), student_logits / temperature)
    return hard_label_weight * _cross_entropy(one_hot, student_logits) + soft


@register(
    "logits",
    "hard labels and the squared difference of centred logits: kd at a very high temperature",
    rest_to_teacher=True,
)
def logits(student_logits: Tensor, teacher_logits: Tensor, one_hot: Tensor, *, hard_label_weight: float) -> Tensor:
    """Logit matching, with a bar for the mean over an example's classes:

        w * CE(labels, softmax(z)) + (1 - w) * mean(((z - zbar) - (v - vbar))^2) / 2

    Centred per example because softmax does not see a shift. The half and the mean over the classes make it what
    `kd` tends to (less the teacher's entropy) as the temperature grows: the gradient of T^2 * CE goes to
    (z - zbar - v + vbar) / classes.

    Returns float [batch]. Source: Hinton, Vinyals, Dean 2015, section 2.1; Ba and Caruana 2014 (arXiv:1312.6184),
    equation 3.
    """
    from keras import ops

    difference = student_logits - teacher_logits
    difference = difference - ops.mean(difference, axis=-1, keepdims=True)
    matched = ops.mean(ops.square(difference), axis=-1) / 2
    return hard_label_weight * _cross_entropy(one_hot, student_logits) + (1 - hard_label_weight) * matched


@register("labels", "hard labels alone, without a teacher: the baseline", needs_teacher=False)
def labels(student_logits: Tensor, teacher_logits: Tensor, one_hot: Tensor) -> Tensor:
    """CE(labels, softmax(z)). Returns float [batch], nats."""
    return _cross_entropy(one_hot, student_logits)


def _softmax(logits: Tensor) -> Tensor:
    from keras import ops

    return ops.softmax(logits, axis=-1)


def _cross_entropy(probabilities: Tensor, logits: Tensor) -> Tensor:
    from keras import ops

    return -ops.sum(probabilities * ops.log_softmax(logits, axis=-1), axis=-1)
