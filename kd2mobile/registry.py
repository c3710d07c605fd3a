"""Names a user can type, each with what it stands for. One registry a kind: data, teachers, students, losses."""

from collections.abc import Callable, Iterator
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
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._summaries: dict[str, str] = {}

    def register(self, name: str, summary: str) -> Callable[[Entry], Entry]:
        """A decorator that adds its function, or any value, under the name. Raises ValueError if it is taken."""

        def add(entry: Entry) -> Entry:
            if name in self._entries:
                raise ValueError(f"{self.kind}: the name {name!r} is taken")
            self._entries[name], self._summaries[name] = entry, summary
            return entry

        return add

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name. Raises UnknownNameError with the nearest name."""
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, list(self), see=f"kd2mobile list {self.kind}") from None

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def summary(self, name: str) -> str:
        """One line about the entry, for `kd2mobile list`."""
        self[name]
        return self._summaries[name]
