"""Names a user can type, each with what it stands for. One registry a kind: data, teachers, students, losses."""

from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Generic, TypeVar

from kd2mobile.errors import UnknownNameError

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """An ordered mapping from names to entries that answers a miss with the nearest name.

    kind: what an entry is, in the plural, as `kd2mobile list` and the messages call it.

    >>> shapes = Registry("shapes")
    >>> @shapes.register("square", "four equal sides")
    ... def square(side): return 4 * side
    >>> shapes["square"](2), shapes.summary("square"), list(shapes)
    (8, 'four equal sides', ['square'])

    A family stands for names that cannot all be listed, and makes the entry of each:

    >>> @shapes.register_family("polygon-CORNERS", "as many equal sides, such as polygon-5")
    ... def polygon(name):
    ...     kind, _, corners = name.partition("-")
    ...     return (lambda side: int(corners) * side) if kind == "polygon" else None
    >>> shapes["polygon-5"](2), list(shapes), list(shapes.listing())
    (10, ['square'], ['square', 'polygon-CORNERS'])
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._summaries: dict[str, str] = {}
        self._families: dict[str, tuple[str, Callable[[str], Entry | None]]] = {}

    def register(self, name: str, summary: str) -> Callable[[Entry], Entry]:
        """A decorator that adds its function, or any value, under the name. Raises ValueError if it is taken."""

        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise ValueError(f"{self.kind}: the name {name!r} is taken")
            self._entries[name], self._summaries[name] = entry, summary
            return entry

        return add

    def remove(self, name: str) -> None:
        """Takes a name out again that was registered for a trial. Raises UnknownNameError."""
        self[name]
        del self._entries[name], self._summaries[name]

    def register_family(
        self, form: str, summary: str
    ) -> Callable[[Callable[[str], Entry | None]], Callable[[str], Entry | None]]:
        """A decorator that adds a function from a name to its entry, or to None if the name is none of the family's.

        form: how its names look, in small letters what stands and in capitals what varies, for `kd2mobile list` and for
        a name that begins like it. The function may raise for a name that it would like otherwise.
        """

        def add(member: Callable[[str], Entry | None]) -> Callable[[str], Entry | None]:
            self._families[form] = (summary, member)
            return member

        return add

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name. Raises UnknownNameError with the nearest name, or with the form that was meant."""
        if name in self._entries:
            return self._entries[name]
        for _, member in self._families.values():
            entry = member(name)
            if entry is not None:
                return entry
        form = next((form for form in self._families if name.lower().startswith(_begin(form))), None)
        raise UnknownNameError(self.kind, name, list(self.listing()), f"kd2mobile list {self.kind}", form)

    def __contains__(self, name: str) -> bool:
        """Whether the name is registered as such; the names of a family that are not are found by `[]` alone."""
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def summary(self, name: str) -> str:
        """One line about a registered name, for `kd2mobile list`."""
        self[name]
        return self._summaries[name]

    def listing(self) -> dict[str, str]:
        """Every registered name and every family's form, with one line about each."""
        return self._summaries | {form: summary for form, (summary, _) in self._families.items()}


def _begin(form: str) -> str:
    """What stands before the first capital letter of a form, without the hyphen."""
    return "".join(takewhile(lambda letter: not letter.isupper(), form)).rstrip("-")
