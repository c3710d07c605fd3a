"""What commands print: a table for the terminal, and JSON if requested."""

from pathlib import Path
from typing import Any

from kd2mobile.api.results import Benchmarked, RecordsReported, Reported, as_json
from kd2mobile.measure.roles import TEACHER
from kd2mobile.store.output_files import write_output
from kd2mobile.text import one_line


def written(result: Any, file: Path | None) -> bool:
    """Writes the result as JSON if a file is given; True if to standard output, which then holds nothing else."""
    if file and str(file) != "-":
        write_output(file, as_json(result))
    elif file:
        print(as_json(result))
    return str(file) == "-"


def top1_line(val_top1: dict[str, float], members: list[tuple[str, float]]) -> str:
    """Accuracy on the validation images by role, 0..1; members: name and accuracy of each of several teachers.

    >>> top1_line({"teacher": 0.92, "student": 0.8}, [("a.keras", 0.9), ("b.keras", 0.85)])
    'Validation top-1: teacher 92.0% (a.keras 90.0%, b.keras 85.0%), student 80.0%'
    """
    each = ", ".join(f"{name} {top1:.1%}" for name, top1 in members)
    of_teacher = f" ({one_line(each)})" if each else ""
    roles = [f"{role} {top1:.1%}{of_teacher if role == TEACHER.name else ''}" for role, top1 in val_top1.items()]
    return f"Validation top-1: {', '.join(roles)}"


def show_measured(measured: Benchmarked | Reported) -> None:
    """The table of models and its comparisons."""
    from kd2mobile.pages.terminal.table import text_table

    _show(text_table(measured.records, measured.comparisons))


def show_devices(reported: RecordsReported, json_file: Path | None) -> None:
    """The table of devices with the recommended model of each, and the files that were written."""
    from kd2mobile.pages.terminal.table import devices_table

    _show(devices_table(reported.devices))
    show_written(reported.page, json_file)


def show_written(*files: Path | str | None) -> None:
    """The files that were written, if any."""
    if written := [str(file) for file in files if file]:
        print(f"Written: {', '.join(written)}.")


def _show(table: Any) -> None:
    if isinstance(table, str):
        print(table)
        return
    from rich.console import Console

    Console().print(table)
