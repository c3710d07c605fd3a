"""What verbs print: a table as the terminal takes it, and JSON where it was asked for."""

from pathlib import Path
from typing import Any, Protocol

from kd2mobile.api.measurement import Benchmarked
from kd2mobile.api.side_by_side import RecordsReported
from kd2mobile.store.output_files import write_output


class AsJson(Protocol):
    """What a verb returned."""

    def json(self) -> str: ...


def written(found: AsJson, file: Path | None) -> bool:
    """Writes what was found as JSON if a file is named; True if to standard output, which then holds nothing else."""
    if file and str(file) != "-":
        write_output(file, found.json())
    elif file:
        print(found.json())
    return str(file) == "-"


def show_measured(measured: Benchmarked) -> None:
    """The table of models and what is to be said of them."""
    from kd2mobile.pages.table import text_table

    _show(text_table(measured.records, measured.comparisons))


def show_devices(reported: RecordsReported, json_file: Path | None) -> None:
    """The table of devices, what to take on each, and where it all was written."""
    from kd2mobile.pages.table import devices_table

    _show(devices_table(reported.devices))
    print(f"Written: {', '.join(str(file) for file in (reported.page, json_file) if file)}.")


def _show(table: Any) -> None:
    if isinstance(table, str):
        print(table)
        return
    from rich.console import Console

    Console().print(table)
