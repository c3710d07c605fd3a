"""The kinds of teachers, each one object. Importing them loads no framework. One more: its module and a line here."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from kd2mobile.recipe.schema import Teacher
from kd2mobile.teachers.kinds.given_logits import GIVEN_LOGITS
from kd2mobile.teachers.kinds.kind import Kind
from kd2mobile.teachers.kinds.own_model import OWN_MODEL
from kd2mobile.teachers.kinds.zoo import ZOO
from kd2mobile.teachers.zoo import TEACHERS

KINDS: tuple[Kind, ...] = (GIVEN_LOGITS, OWN_MODEL, ZOO)
"""The first kind that matches a name is its kind. The zoo is last and matches every name, to list the known ones."""


def listing() -> dict[str, str]:
    """Every possible teacher with a line about it: the networks of the zoo, then the forms of the other kinds.

    >>> list(listing())[0], list(listing())[-1]
    ('xception', 'an .npz file')
    """
    return TEACHERS.listing() | {kind.form: kind.summary for kind in reversed(KINDS) if kind is not ZOO}


def kind_of(name: str) -> Kind:
    """The kind of the teacher with this name in the recipe.

    >>> kind_of("logits.npz").title("answers/logits.npz"), kind_of("xception") is ZOO
    ('logits.npz', True)
    """
    return next(kind for kind in KINDS if kind.matches(name))


def whole_images_only(name: str) -> bool:
    """Whether the teacher of that name has logits for whole images alone, one view per image.

    >>> whole_images_only("logits.npz"), whole_images_only("mine.keras")
    (True, False)
    """
    return kind_of(name).whole_views


def title(name: str) -> str:
    """What the report calls the teacher of that name.

    >>> title("models/mine.keras"), title("xception")
    ('mine.keras', 'xception')
    """
    return kind_of(name).title(name)


def titles(teachers: Iterable[Teacher]) -> str:
    """What the report calls the teachers of a recipe, in one phrase.

    >>> titles([Teacher(name="a.keras")]), titles([Teacher(name="a.keras"), Teacher(name="b"), Teacher(name="c")])
    ('a.keras', 'a.keras, b and c')
    >>> titles([Teacher(name="xception", seed=seed) for seed in range(3)])
    'xception (3)'
    """
    *most, last = _counted(title(teacher.name) for teacher in teachers)
    return f"{', '.join(most)} and {last}" if most else last


def model_name(teachers: Iterable[Teacher]) -> str:
    """The name of the teacher as a model in records and on plots, of several joined by `+`; files without their suffix.

    >>> model_name([Teacher(name="models/a.keras"), Teacher(name="xception")])
    'a+xception'
    """
    return "+".join(_counted(Path(teacher.name).stem for teacher in teachers))


def _counted(names: Iterable[str]) -> list[str]:
    """Each name once, with their number where there are several of it."""
    return [name if count == 1 else f"{name} ({count})" for name, count in Counter(names).items()]
