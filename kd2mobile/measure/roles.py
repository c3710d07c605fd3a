"""The roles of the networks of a run, as data: whoever plans, exports, measures or reports asks here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Role:
    """What one network of a run is.

    name: in records and references, `<name>-<variant>` of a file. title: what distinguishes its training, in words.
    prefix: before the names of its files. trained: whether the plan trains it as a student; then distill: the fields
    of [distill] that its recipe has in the place of the run's, and requested_by: the one that requests it, None for
    always. compressed: whether its files come after compressions too. main: whether the run is about it: its file is
    the one that is recommended, copied and compared with those of the others.
    """

    name: str
    title: str
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


TEACHER = Role("teacher", "the teacher")
STUDENT = Role("student", "with the teacher", trained=True, compressed=True, main=True)
BASELINE = Role(
    "baseline",
    "on labels alone",
    prefix="baseline-",
    trained=True,
    distill=MappingProxyType({"loss": "labels", "loss_options": {}}),
    requested_by="baseline",
)
EXTERNAL = Role("external", "someone else's")

ROLES = {role.name: role for role in (TEACHER, STUDENT, BASELINE, EXTERNAL)}
"""In the order of tables and legends."""
TRAINED = tuple(role for role in ROLES.values() if role.trained)
