"""The roles of the networks of a run, as data: whoever plans, exports, measures, reports or draws asks here.

One more role is one more entry of ROLES.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Look:
    """How a role is drawn.

    light, dark: its colour on a light page and on a dark one. shape: of its points, a name of
    `pages.plots.looks.SHAPES`, filled or hollow. dashes: of its lines, stroke and gap in turn, in px; none if solid.
    """

    light: str
    dark: str
    shape: str
    hollow: bool = False
    dashes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Role:
    """What one network of a run is.

    name: in records and references, `<name>-<variant>` of a file. title: what distinguishes its training, in words.
    prefix: before the names of its files. trained: whether the plan trains it as a student; then distill: the fields
    of [distill] that its recipe has in the place of the run's, and requested_by: the one that requests it, None for
    always. compressed: whether its files come after compressions too. main: whether the run is about it: its file is
    the one that is recommended, copied and compared with those of the others. look: how it is drawn.
    """

    name: str
    title: str
    look: Look
    prefix: str = ""
    trained: bool = False
    distill: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    requested_by: str | None = None
    compressed: bool = False
    main: bool = False

    def key(self, variant: str) -> str:
        """What a run calls its file of that variant.

        >>> ROLES["baseline"].key("int8"), ROLES["baseline"].variant_of("baseline-int8")
        ('baseline-int8', 'int8')
        """
        return f"{self.name}-{variant}"

    def variant_of(self, key: str) -> str | None:
        """The variant of a file of this role by what a run calls it; None of another role's."""
        start = f"{self.name}-"
        return key.removeprefix(start) if key.startswith(start) else None


TEACHER = Role("teacher", "the teacher", Look("#5b6570", "#a4afbb", "diamond", dashes=(7, 2, 2, 2)))
STUDENT = Role(
    "student", "with the teacher", Look("#0a62c4", "#6db3ff", "circle"), trained=True, compressed=True, main=True
)
BASELINE = Role(
    "baseline",
    "on labels alone",
    Look("#b04a00", "#f2a65e", "square", hollow=True, dashes=(5, 2.5)),
    prefix="baseline-",
    trained=True,
    distill=MappingProxyType({"loss": "labels", "loss_options": {}}),
    requested_by="baseline",
)
EXTERNAL = Role("external", "someone else's", Look("#7a3fc4", "#c39bff", "triangle", dashes=(1.5, 2)))

ROLES = {role.name: role for role in (TEACHER, STUDENT, BASELINE, EXTERNAL)}
"""In the order of tables and legends."""


def trained_roles() -> list[Role]:
    """The roles that the plan trains as students, the main one first."""
    return sorted((role for role in ROLES.values() if role.trained), key=lambda role: not role.main)


def title_of(role: str) -> str:
    """What distinguishes a role, in words; of a name that is none, the name."""
    return ROLES[role].title if role in ROLES else role
