"""What a .tflite of a student is made as: a compression and a precision, two independent words."""

from collections.abc import Iterable
from typing import NamedTuple

from kd2mobile.recipe.schema import COMPRESSIONS, PRECISIONS, Compression, Export, Precision


class Variant(NamedTuple):
    """One .tflite of a student.

    >>> Variant("qat", "int8").name, Variant("none", "fp32").name, Variant.named("qat-int8")
    ('qat-int8', 'fp32', Variant(compression='qat', precision='int8'))
    """

    compression: Compression
    precision: Precision

    @property
    def name(self) -> str:
        """`qat-int8`, as in the file's name; without compression the precision alone."""
        return self.precision if self.compression == "none" else f"{self.compression}-{self.precision}"

    @property
    def order(self) -> tuple[int, int]:
        """A key to sort by: the order in which compressions and precisions are listed."""
        return COMPRESSIONS.index(self.compression), PRECISIONS.index(self.precision)

    @classmethod
    def named(cls, name: str) -> "Variant":
        """The variant of that name."""
        compression, _, precision = name.rpartition("-")
        return cls(compression or "none", precision)


def variants_of(export: Export) -> list[Variant]:
    """Every precision of every compression."""
    return [Variant(compression, precision) for compression in export.compressions for precision in export.precisions]


def in_order(names: Iterable[str]) -> list[str]:
    """Names of variants, each once, in the order in which they are listed."""
    return sorted(set(names), key=lambda name: Variant.named(name).order)
