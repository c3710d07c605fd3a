"""Reads single fields of a flatbuffer by their slot in the schema; every offset is checked.

Format: https://flatbuffers.dev/internals/. A table starts with the distance back to its vtable, which holds for
each field its distance from the table, 0 for one that is not set.
"""

import struct
from typing import NamedTuple

SHARED = 8
"""The largest number of vector elements that may be read, per byte of the file."""


class Budget:
    """Limits the elements of vectors that are read: in a damaged file every table may point to one long vector."""

    def __init__(self, data: bytes):
        self._left = SHARED * len(data)

    def spend(self, elements: int) -> None:
        """Counts elements as read. Raises ValueError once the budget is used up."""
        self._left -= elements
        if self._left < 0:
            raise ValueError("flatbuffer vectors that are many times as long as their file together")


class Table(NamedTuple):
    """A table at `offset` of `data`. Fields are numbered from 0; a field that is not set reads as 0, None or empty."""

    data: bytes
    offset: int
    budget: Budget

    def has(self, field: int) -> bool:
        """Whether the field is set."""
        return bool(self._field(field))

    def number(self, field: int, kind: str, default: int = 0) -> int:
        """A scalar field. kind: its struct code, "B" for ubyte, "I" for uint. default: the schema's."""
        offset = self._field(field)
        return _read(self.data, offset, kind) if offset else default

    def table(self, field: int) -> "Table":
        """A field that refers to a table. Raises ValueError if it is not set."""
        offset = self._field(field)
        if not offset:
            raise ValueError(f"a flatbuffer table without its field {field}")
        return Table(self.data, _target(self.data, offset), self.budget)

    def tables(self, field: int) -> list["Table"]:
        """A field that is a vector of tables."""
        first, count = self._vector(field)
        return [Table(self.data, _target(self.data, first + 4 * i), self.budget) for i in range(count)]

    def numbers(self, field: int, kind: str) -> list:
        """A field that is a vector of scalars. kind: their struct code."""
        first, count = self._vector(field)
        size = struct.calcsize("<" + kind)
        return [_read(self.data, first + size * i, kind) for i in range(count)]

    def count(self, field: int) -> int:
        """The number of elements of the vector in the field."""
        return self._vector(field)[1]

    def span(self, field: int) -> tuple[int, int]:
        """The offset of the first element of the vector in the field, and the number of elements; (0, 0) if it is not
        set."""
        return self._vector(field)

    def bytes(self, field: int) -> bytes:
        """A field that is a vector of bytes."""
        first, count = self._vector(field)
        return self.data[first : first + count]

    def text(self, field: int) -> str:
        """A field that is a string."""
        return self.bytes(field).decode("utf-8", "replace")

    def _field(self, field: int) -> int:
        vtable = self.offset - _read(self.data, self.offset, "i")
        entry = 4 + 2 * field
        distance = _read(self.data, vtable + entry, "H") if entry < _read(self.data, vtable, "H") else 0
        return self.offset + distance if distance else 0

    def _vector(self, field: int) -> tuple[int, int]:
        offset = self._field(field)
        if not offset:
            return 0, 0
        start = _target(self.data, offset)
        count = _read(self.data, start, "I")
        if count > len(self.data) - start:
            raise ValueError("a flatbuffer vector that is longer than its file")
        self.budget.spend(count)
        return start + 4, count


def root(data: bytes) -> Table:
    """The outermost table. All readers raise ValueError if an offset leads out of the data."""
    return Table(data, _target(data, 0), Budget(data))


def _target(data: bytes, offset: int) -> int:
    return offset + _read(data, offset, "I")


def _read(data: bytes, offset: int, kind: str):
    if not 0 <= offset <= len(data) - struct.calcsize("<" + kind):
        raise ValueError(f"a flatbuffer offset of {offset} in {len(data)} bytes")
    return struct.unpack_from("<" + kind, data, offset)[0]
