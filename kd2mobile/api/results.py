"""What the functions of the Python API return."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.recipe.variants import Variant
from kd2mobile.tflite.results import TfliteResults

if TYPE_CHECKING:
    import numpy as np

    from kd2mobile.measure.record import BenchmarkRecord
    from kd2mobile.pages.view import DevicesData, Paired

Files = dict[tuple[str, str], Path]
"""The .tflite files of a run by role (such as student, baseline) and name of the variant, `int8` or `qat-int8`."""


class Labelled(msgspec.Struct, frozen=True):
    """A transfer set. folder: its artifact; val_top1: its accuracy on the validation images, 0..1.

    teachers: the artifact of each teacher; members: name and accuracy of each of several, whose logits are combined.
    unlabelled: the artifact of the unlabelled images, if the recipe has any.
    """

    folder: Path
    teachers: list[Path]
    val_top1: float
    unlabelled: Path | None = None
    members: list[tuple[str, float]] = []


class Distilled(msgspec.Struct, frozen=True):
    """A run with its students. folder: the run's; students: a .keras file per role, `student` first.

    val_top1: accuracy on the validation images, 0..1, of the teacher and of each of these.
    members: name and accuracy of each of several teachers, whose logits are combined.
    """

    folder: Path
    students: dict[str, Path]
    val_top1: dict[str, float]
    members: list[tuple[str, float]] = []


class Rung(msgspec.Struct, frozen=True):
    """What one file gave in `--precision auto`.

    record: how it came to be, None where it was refused; refused: then why.
    """

    variant: Variant
    record: TfliteResults | None
    refused: str | None = None

    @property
    def drop(self) -> float | None:
        """Points of top-1 that it loses to its student on validation, below 0 where it gains; None if refused."""
        return None if self.record is None else -100 * self.record.against_student.difference

    def text(self) -> str:
        """`int8          312,345 bytes  -0.11 points of top-1 (-0.69 to +0.46)`"""
        if self.record is None:
            return f"{self.variant.name:<13} refused: {self.refused}"
        lost = self.record.against_student
        gain, low, high = (100 * points + 0.0 for points in (lost.difference, *lost.interval_95))
        change = f"{gain:+.2f} points of top-1 ({low:+.2f} to {high:+.2f})"
        return f"{self.variant.name:<13} {self.record.size_bytes:>11,} bytes  {change}"


class ExportedFile(msgspec.Struct, frozen=True):
    """One .tflite file. role: student or baseline; variant: its name, `qat-int8`; record: how the file came to be."""

    role: str
    variant: str
    file: Path
    record: TfliteResults


class Exported(msgspec.Struct, frozen=True):
    """The .tflite files of a run.

    rungs, found: of `export.auto`: the files that were tried, and the recommended one. copies: in `out`, if given.
    """

    folder: Path
    made: list[ExportedFile]
    rungs: list[Rung] = []
    found: Path | None = None
    copies: list[Path] = []

    @property
    def files(self) -> Files:
        """The files by role and name of the variant."""
        return {(one.role, one.variant): one.file for one in self.made}

    @property
    def records(self) -> dict[tuple[str, str], TfliteResults]:
        """How each file came to be, by role and name of the variant."""
        return {(one.role, one.variant): one.record for one in self.made}

    def worst_layers(self) -> list[str]:
        """A line a quantized file, of the layers with the largest errors of their own, where its record has them."""
        found = {one.file.name: one.record.worst_layers() for one in self.made}
        return [
            f"{name}: layers with the largest quantization errors: "
            + ", ".join(f"{layer.layer} ({layer.own_error:.1%})" for layer in layers)
            for name, layers in found.items()
            if layers
        ]


@dataclass(frozen=True)
class Benchmarked:
    """What was measured. folder: the run's, None for someone else's file; comparisons: paired tests on the test set;
    written: the file of the run that holds the records; answers: to the test images, `teacher` and `<role>-<variant>`,
    float [n, classes]."""

    folder: Path | None
    records: list["BenchmarkRecord"]
    comparisons: list["Paired"]
    written: Path | None = None
    answers: dict[str, "np.ndarray"] = field(default_factory=dict)


class Reported(msgspec.Struct, frozen=True):
    """The page of a run, with the records of its models and the paired tests that it shows."""

    page: Path
    records: list["BenchmarkRecord"]
    comparisons: list["Paired"]


class Compared(msgspec.Struct, frozen=True):
    """The page of several runs beside each other, and what was reported of each."""

    page: Path
    runs: list[Reported]


class RecordsReported(msgspec.Struct, frozen=True):
    """The page of several files' records, and what it shows."""

    page: Path
    devices: "DevicesData"


class Names(msgspec.Struct, frozen=True):
    """The names of one kind, each with a line about it. kind: `teachers`, `students`, `losses`, `data` or `fields`."""

    kind: str
    names: dict[str, str]


def as_json(result: Any) -> str:
    """A result, or a list of results, as JSON."""
    return msgspec.json.format(msgspec.json.encode(result, enc_hook=_path), indent=1).decode()


def _path(value: Any) -> str:
    if isinstance(value, Path):
        return value.as_posix()
    raise NotImplementedError(type(value))
