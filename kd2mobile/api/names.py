"""`list`: the names that options and recipes may use."""

from kd2mobile.api.results import Names
from kd2mobile.recipe.schema import fields
from kd2mobile.recipe.toml import in_toml


def names(kind: str) -> Names:
    """The names of a registry, or the recipe's fields, each with a line about it. kind: `teachers`, ..., `fields`."""
    if kind == "fields":
        known = fields().items()
        return Names(kind, {n: f"{one.description} [{one.left_out or in_toml(one.default)}]" for n, one in known})
    if kind == "teachers":
        from kd2mobile.teachers.kinds import listing

        return Names(kind, listing())
    from kd2mobile.data.sources.named import SOURCES
    from kd2mobile.losses import describe_losses
    from kd2mobile.students import STUDENTS

    if kind == "losses":
        return Names(kind, describe_losses())
    return Names(kind, {"data": SOURCES, "students": STUDENTS}[kind].listing())
