"""What the page shows, free of how the store keeps it: the pipeline fills it, the page only lays it out."""

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from kd2mobile.measure.record import BenchmarkRecord


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Two models judged on the same pictures (McNemar's exact test). `a` is the one that the run is about.

    a, b: phrases that name the two in a sentence: "with the teacher", "on labels alone".
    difference: top-1 of a minus top-1 of b, a fraction. only_a, only_b: pictures that only one of them gets right.
    n: pictures judged. precision: of the two files that were compared, where both have one.
    """

    label: str
    a: str
    b: str
    difference: float
    only_a: int
    only_b: int
    p_value: float
    n: int
    precision: str | None = None


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One test picture with what teacher and student say about it.

    path: the name shown. image: a PIL image, or the path of a picture file; only a thumbnail of it goes into the page.
    teacher, student: (class, probability) of all classes or of the likeliest few, in any order.
    """

    path: str
    image: Any
    true_class: str
    teacher: list[tuple[str, float]]
    student: list[tuple[str, float]]


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the run. seconds: what making it took, in this run or in the one that made it; None if unknown."""

    stage: str
    fingerprint: str
    seconds: float | None
    what: str


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page.

    recipe: tables of fields, as in the TOML. records: as `benchmark --json` writes them, in any order.
    paired: the first one (of the headline's precision, if there is one) gives the headline its comparison.
    histories: training curves by name, the student's first, then the baseline's; a row is an epoch and has `epoch` and
    any of `val_top1` (fraction), `val_logloss`, `loss`.
    splits: pictures in each split. set_aside: (path, reason) of pictures that could not be used.
    exports: one dict a .tflite: precision, size_bytes, sha256, parity (a dict of numbers and words), perhaps role.
    commands: the shell lines that make the run again. notes: sentences that the reader should know.
    """

    title: str
    run: str
    recipe: dict[str, dict[str, Any]]
    records: "list[BenchmarkRecord]"
    paired: list[Paired] = []
    histories: dict[str, list[dict[str, Any]]] = {}
    pictures: list[Picture] = []
    pictures_chosen: str = ""
    classes: list[str] = []
    splits: dict[str, int] = {}
    set_aside: list[tuple[str, str]] = []
    stages: list[Stage] = []
    exports: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    commands: list[str] = []
    notes: list[str] = []
