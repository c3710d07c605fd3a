"""`inspect`: what is in a .tflite file, and what the records beside it say: how it came to be, what was measured."""

from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.errors import Kd2MobileError, RecordError
from kd2mobile.files import convert_json, read_json, system_errors
from kd2mobile.inspection.inspect import FoundRecord, Inspection, inspect_file
from kd2mobile.store.artifact import RECORD
from kd2mobile.store.run import RECORDS, RUN_RECORD, artifacts_of
from kd2mobile.store.stage_records import Count, Share
from kd2mobile.tflite.results import AgainstStudent


@system_errors()
def inspect(model: Path) -> Inspection:
    """Describes any .tflite file, or that of a published model, models/NAME, without running it.

    Raises ModelFileError if it is none.
    """
    return with_records(inspect_file(Path(model)))


class _Parity(msgspec.Struct, frozen=True):
    agreement: Share
    n: Count


class _Made(msgspec.Struct, frozen=True):
    """How a file came to be, as far as it is shown."""

    sha256: str | None = None
    converter: str | None = None
    compression: str | None = None
    parity: _Parity | None = None
    against_student: AgainstStudent | None = None
    calibration: list[str] | None = None
    made_from: dict[str, str] | None = None


class _Stored(_Made, frozen=True):
    """A record beside a file: its own, an artifact's (results) or a published model's (export, benchmark)."""

    results: _Made | None = None
    export: _Made | None = None
    benchmark: dict[str, Any] | None = None


class _P50(msgspec.Struct, frozen=True):
    p50: float | None = None


class _Measured(msgspec.Struct, frozen=True):
    """What was measured of a file, as far as it is shown."""

    sha256: str | None = None
    role: str = ""
    top1: Share | None = None
    n: Count = 0
    device: str | None = None
    latency_ms: _P50 | None = None


def with_records(inspected: Inspection) -> Inspection:
    """What is in a file, with what the records beside it say."""
    record, benchmark, notes = records_beside(Path(inspected.file), inspected.sha256)
    return msgspec.structs.replace(inspected, record=record, benchmark=benchmark, notes=notes)


def records_beside(path: Path, sha256: str) -> tuple[FoundRecord | None, FoundRecord | None, list[str]]:
    """How the file came to be and what was measured of it, from what lies beside it or in its run's folder.

    All of it may be somebody else's: what cannot be read is a note.
    """
    notes: list[str] = []
    run = next(
        (record_path for record_path in (path.parent, path.parent.parent) if (record_path / RUN_RECORD).is_file()), None
    )
    paths = [path.parent / RECORD]
    if run:
        try:
            paths += [folder / RECORD for folder in artifacts_of(run).values()]
        except Kd2MobileError as fault:
            notes.append(str(fault))
    record = None
    for record_path in paths:
        content = _read(record_path, _Stored, notes) if record_path.is_file() and record is None else {}
        if any(part.get("sha256") == sha256 for part in (content, *_parts(content))):
            record = FoundRecord(str(record_path), content)
    published = record.content.get("benchmark") if record else None
    if published and published.get("sha256") == sha256:
        measured, record_path = [published], record.path
    else:
        file = run / RECORDS if run else path
        measured, record_path = _read(file, list[_Measured], notes) if run and file.is_file() else [], str(file)
    own = next((each for each in measured if each.get("sha256") == sha256), None)
    try:
        convert_json(own or {}, _Measured, record_path, _LEFT_OUT)
    except RecordError as fault:
        notes.append(str(fault))
        own = None
    return record, FoundRecord(record_path, own) if own else None, notes


_LEFT_OUT = "It is left out."


def _parts(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for name in ("results", "export") if (part := content.get(name))]


def _read(record_path: Path, kind: Any, notes: list[str]) -> Any:
    """The JSON in the file; nothing, and a note, if it is not of that kind."""
    try:
        content = read_json(record_path, Any, _LEFT_OUT)
        convert_json(content, kind, record_path, _LEFT_OUT)
        return content
    except RecordError as fault:
        notes.append(str(fault))
        return {}
