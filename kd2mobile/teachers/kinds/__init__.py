"""The kinds of teachers, each one object. Importing them loads no framework. One more: its module and a line here."""

from kd2mobile.teachers.kinds.given_logits import GIVEN_LOGITS
from kd2mobile.teachers.kinds.kind import Kind
from kd2mobile.teachers.kinds.own_model import OWN_MODEL
from kd2mobile.teachers.kinds.zoo import ZOO

KINDS: tuple[Kind, ...] = (GIVEN_LOGITS, OWN_MODEL, ZOO)
"""The first that matches a name is its kind; the zoo takes every name, for it can say which ones there are."""


def kind_of(name: str) -> Kind:
    """The kind of the teacher that the recipe calls by that name.

    >>> kind_of("logits.npz").title("answers/logits.npz"), kind_of("xception") is ZOO
    ('logits.npz', True)
    """
    return next(kind for kind in KINDS if kind.matches(name))


def sees_whole(name: str) -> bool:
    """Whether the teacher of that name answers for whole images alone, one view of each.

    >>> sees_whole("logits.npz"), sees_whole("mine.keras")
    (True, False)
    """
    return kind_of(name).whole_views


def title(name: str) -> str:
    """What the report calls the teacher of that name.

    >>> title("models/mine.keras"), title("xception")
    ('mine.keras', 'xception')
    """
    return kind_of(name).title(name)
