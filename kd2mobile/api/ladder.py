"""`--precision auto`: from cheap files to costly ones, until the smallest within the allowed drop of top-1 is found."""

from collections.abc import Callable

from kd2mobile.api.results import Exported, Rung
from kd2mobile.errors import CompressionError, ExportError, Kd2MobileError, MissingExtraError
from kd2mobile.measure.roles import STUDENT
from kd2mobile.recipe.variants import Variant

RUNGS = (
    tuple(Variant("none", precision) for precision in ("int8", "int8_dynamic", "fp16")),
    (Variant("qat", "int8"),),
)
"""A conversion each, then a training: the same size as the first, for where that loses too much."""


def walk(make: Callable[[list[Variant]], Exported], max_drop: float) -> tuple[list[Rung], Rung]:
    """The rungs that were tried, and the smallest file among them that loses at most `max_drop` points of top-1.

    make: exports variants. The loss is that of the validation images, file against the Keras student; its paired 95 %
    interval is shown beside. Stops before a training where no smaller file can come of it. Raises ExportError where no
    file is within, naming the best.
    """
    tried: list[Rung] = []
    for variants in RUNGS:
        tried += [_try(make, variant) for variant in variants]
        within = [rung for rung in tried if rung.drop is not None and rung.drop <= max_drop]
        smallest = min(within, key=lambda rung: rung.record.size_bytes, default=None)
        if smallest and _is_8_bit(smallest):
            break
    if smallest is None:
        raise ExportError(
            "export.max_drop", f"must be reached by a file, at most {max_drop} points", _best(tried), _NEXT
        )
    return tried, smallest


_NEXT = "Allow more with --max-drop, or distil a larger student."


def _try(make: Callable[[list[Variant]], Exported], variant: Variant) -> Rung:
    try:
        return Rung(variant, make([variant]).records[STUDENT.name, variant.name])
    except (ExportError, CompressionError, MissingExtraError) as fault:
        return Rung(variant, None, _short(fault))


def _is_8_bit(rung: Rung) -> bool:
    return rung.variant.precision != "fp16"


def _best(tried: list[Rung]) -> str:
    made = [rung for rung in tried if rung.drop is not None]
    if not made:
        return "; ".join(f"{rung.variant.name} refused" for rung in tried)
    best = min(made, key=lambda rung: rung.drop)
    return f"{best.variant.name} at best, which loses {best.drop:.2f} points"


def _short(fault: Kd2MobileError) -> str:
    return f"{fault.must}, got {fault.got}. {fault.next_step}"
