"""A loss with options of its own that relates the examples of a batch: on trial among the registered ones."""

from typing import Annotated

import pytest

from kd2mobile.losses import LOSSES, Options, register
from kd2mobile.recipe.schema import says


class TrialOptions(Options):
    beta: Annotated[float, says("Weight of the batch's mean.", ge=0, le=10)] = 1.0
    squared: Annotated[bool, says("Whether distances are squared.")] = True


def trial(student_logits, teacher_logits, one_hot, *, temperature, beta, squared):
    from keras import ops

    student, teacher = ops.softmax(student_logits / temperature), ops.softmax(teacher_logits / temperature)
    distance = ops.square if squared else ops.abs
    of_each = ops.sum(distance(student - teacher), axis=-1)
    of_the_batch = ops.sum(distance(ops.mean(student, axis=0) - ops.mean(teacher, axis=0)))
    return of_each + beta * of_the_batch


@pytest.fixture
def trial_loss():
    """`trial` is registered while the test runs."""
    register("trial", "for tests", options=TrialOptions)(trial)
    yield "trial"
    LOSSES.remove("trial")
