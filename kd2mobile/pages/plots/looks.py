"""How roles and runs look, on the page and in its plots alike; what is a role's own, the role says."""

from typing import NamedTuple

from kd2mobile.measure.roles import EXTERNAL, ROLES, Look


class Shape(NamedTuple):
    """A mark: as matplotlib names it, and its path in a box of 14 x 14."""

    marker: str
    path: str


SHAPES = {
    "circle": Shape("o", "M2 7a5 5 0 1 1 10 0a5 5 0 1 1 -10 0z"),
    "square": Shape("s", "M2.5 2.5h9v9h-9z"),
    "triangle": Shape("^", "M7 2 12.5 12h-11z"),
    "diamond": Shape("D", "M7 1 13 7 7 13 1 7z"),
    "triangle down": Shape("v", "M7 12 12.5 2h-11z"),
    "plus": Shape("P", "M5 2h4v3h3v4h-3v3h-4v-3h-3v-4h3z"),
}
RUN_SHAPES = tuple(SHAPES.values())
"""Of the runs and the devices beside each other, in turn; each has the colour `run-1`, `run-2`, ..."""


def known_role(role: str) -> str:
    """The role that one is drawn as: itself, or of a name that is none someone else's."""
    return role if role in ROLES else EXTERNAL.name


def look_of(role: str) -> Look:
    """The look of a role; of a name that is none someone else's."""
    return ROLES[known_role(role)].look


def shape_of(role: str) -> Shape:
    """The mark of a role's points."""
    return SHAPES[look_of(role).shape]


def hollow_roles() -> list[str]:
    """The roles whose points are hollow."""
    return [role.name for role in ROLES.values() if role.look.hollow]


def css() -> str:
    """The colours of the roles by their names, and the rules of their keys, lines and bars."""
    light, dark = (
        " ".join(f"--{role.name}: {getattr(role.look, page)};" for role in ROLES.values()) for page in ("light", "dark")
    )
    rules = [f":root {{ {light} }}", f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"]
    for role in ROLES.values():
        rules += [f".{role.name} {{ color: var(--{role.name}); }}"]
        rules += [f".{role.name} .bar i {{ background: var(--{role.name}); }}"]
        if role.look.hollow:
            rules += [f".key.{role.name}:not(.line) {{ fill: var(--paper); }}"]
        if role.look.dashes:
            rules += [f".key.line.{role.name} {{ stroke-dasharray: {' '.join(map(str, role.look.dashes))}; }}"]
    return "\n".join(rules) + "\n"
