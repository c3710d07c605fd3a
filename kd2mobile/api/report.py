"""Records of several files on one page, whatever was measured where: the models on each device, and which to take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kd2mobile.errors import RecipeError, RecordError
from kd2mobile.store.output_files import check_output, is_page
from kd2mobile.store.run import check_outside_results

if TYPE_CHECKING:
    from kd2mobile.pages.view import DevicesData

PAGE = Path("devices.html")


@dataclass(frozen=True)
class RecordsReported:
    """The page of several files' records, and what it shows."""

    page: Path
    devices: "DevicesData"

    def json(self) -> str:
        """The devices by letter, the choices, the records and the notes."""
        from kd2mobile.pages.devices import devices_json

        return devices_json(self.devices)


def report_records(
    files: Sequence[Path], *, within: float | None = None, min_top1: float | None = None, out: Path | None = None
) -> RecordsReported:
    """Lays the records of the files side by side: the models on each device, and which of them to take there.

    files: what `benchmark --json` wrote, a benchmark.json, files of a run's measurements/, a record.json of models/.
    within: the points of top-1 that a choice may lose to the most accurate file on its device, 0.5 if nothing else is
    asked; min_top1: the percentage that it must reach. out: the page, devices.html here by default. Raises RecordError,
    RecipeError.
    """
    from kd2mobile.measure.record import read_records
    from kd2mobile.pages.devices import collect_devices, write_devices

    out = Path(out or PAGE)
    if within is not None and not 0 <= within <= 100:
        raise RecipeError("--within", "must be points of top-1 from 0 to 100", within, "For example `--within 1`.")
    if min_top1 is not None and not 1 < min_top1 <= 100:
        next_step = "For example `--min-top1 90`: nine pictures of ten."
        raise RecipeError("--min-top1", "must be a percentage above 1, at most 100", min_top1, next_step)
    check_output(out, "--out", is_page)
    check_outside_results(out, "--out")
    records = [record for file in files for record in read_records(Path(file))]
    if all(record.role == "teacher" for record in records):
        raise RecordError(files[0], "must hold records of files", "a teacher's alone", "Run `kd2mobile benchmark`.")
    fractions = [None if percent is None else percent / 100 for percent in (within, min_top1)]
    data = collect_devices(records, *fractions)
    write_devices(out, data)
    return RecordsReported(out, data)
