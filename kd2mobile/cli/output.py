"""What commands print: a table for the terminal, and JSON if requested."""

from pathlib import Path
from typing import Any, Protocol

from kd2mobile.api.results import Benchmarked, RecordsReported
from kd2mobile.store.output_files import write_output


class AsJson(Protocol):
    """The result of a command."""

    def json(self) -> str: ...


def written(found: AsJson, file: Path | None) -> bool:
    """Writes the result as JSON if a file is given; True if to standard output, which then holds nothing else."""
    if file and str(file) != "-":
        write_output(file, found.json())
    elif file:
        print(found.json())
    return str(file) == "-"


def show_measured(measured: Benchmarked) -> None:
    """The table of models and its comparisons."""
    from kd2mobile.pages.terminal.table import text_table

    _show(text_table(measured.records, measured.comparisons))


def show_devices(reported: RecordsReported, json_file: Path | None) -> None:
    """The table of devices with the recommended model of each, and the files that were written."""
    from kd2mobile.pages.terminal.table import devices_table

    _show(devices_table(reported.devices))
    print(f"Written: {', '.join(str(file) for file in (reported.page, json_file) if file)}.")


def _show(table: Any) -> None:
    if isinstance(table, str):
        print(table)
        return
    from rich.console import Console

    Console().print(table)
