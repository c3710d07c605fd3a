"""What the functions of the Python API return."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.recipe.variants import Variant

if TYPE_CHECKING:
    import numpy as np

    from kd2mobile.measure.record import BenchmarkRecord
    from kd2mobile.pages.view import DevicesData, Paired

Files = dict[tuple[str, str], Path]
"""The .tflite files of a run by role (student, baseline) and name of the variant, `int8` or `qat-int8`."""


@dataclass(frozen=True)
class Labelled:
    """A transfer set. folder: its artifact; val_top1: its accuracy on the validation images, 0..1.

    teachers: the artifact of each teacher; members: name and accuracy of each of several, whose logits are combined.
    unlabelled: the artifact of the unlabelled pictures, if the recipe has any.
    """

    folder: Path
    teachers: list[Path]
    val_top1: float
    unlabelled: Path | None = None
    members: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Distilled:
    """A run with its student. folder: the run's; student, baseline: .keras files.

    val_top1: accuracy on the validation pictures, 0..1, of teacher, student and, if there is one, baseline.
    members: name and accuracy of each of several teachers, whose logits are combined.
    """

    folder: Path
    student: Path
    baseline: Path | None
    val_top1: dict[str, float]
    members: list[tuple[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Rung:
    """What one file gave in `--precision auto`.

    record: how it came to be, None where it was refused; refused: then why.
    """

    variant: Variant
    record: dict[str, Any] | None
    refused: str | None = None

    @property
    def drop(self) -> float | None:
        """Points of top-1 that it loses to its student on validation, below 0 where it gains; None if refused."""
        return None if self.record is None else -100 * self.record["against_student"]["difference"]

    def text(self) -> str:
        """`int8          312,345 bytes  -0.11 points of top-1 (-0.69 to +0.46)`"""
        if self.record is None:
            return f"{self.variant.name:<13} refused: {self.refused}"
        lost = self.record["against_student"]
        gain, low, high = (100 * points + 0.0 for points in (lost["difference"], *lost["interval_95"]))
        said = f"{gain:+.2f} points of top-1 ({low:+.2f} to {high:+.2f})"
        return f"{self.variant.name:<13} {self.record['size_bytes']:>11,} bytes  {said}"


@dataclass(frozen=True)
class Exported:
    """The .tflite files of a run. files: by role and name of the variant, `int8`; records: how each came to be.

    rungs, found: of `export.auto`: what was tried, and the file to take. copies: what lies in `out`, if one was given.
    """

    folder: Path
    files: Files
    records: dict[tuple[str, str], dict[str, Any]]
    rungs: list[Rung] = field(default_factory=list)
    found: Path | None = None
    copies: list[Path] = field(default_factory=list)

    def worst_layers(self) -> list[str]:
        """A line a quantized file, of the layers with the largest errors of their own, where its record has them."""
        from kd2mobile.tflite.layer_errors import worst_layers

        found = {self.files[key].name: worst_layers(self.records[key].get("layer_errors")) for key in self.files}
        return [
            f"{name}: layers with the largest quantization errors: "
            + ", ".join(f"{layer['layer']} ({layer['own_error']:.1%})" for layer in layers)
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

    def json(self) -> str:
        """The records as a JSON list, one object a measured model."""
        return msgspec.json.format(msgspec.json.encode(self.records), indent=1).decode()


@dataclass(frozen=True)
class Reported:
    """The page of a run and what it shows."""

    page: Path
    measured: Benchmarked


@dataclass(frozen=True)
class Compared:
    """The page of several runs beside each other, and what was reported of each."""

    page: Path
    runs: list[Reported]


@dataclass(frozen=True)
class RecordsReported:
    """The page of several files' records, and what it shows."""

    page: Path
    devices: "DevicesData"

    def json(self) -> str:
        """The devices by letter, the choices, the records and the notes."""
        from kd2mobile.pages.devices import devices_json

        return devices_json(self.devices)
