"""Scans a CSV or TSV file that lists images as path,label and perhaps split. The result is a Scan, as of a folder."""

import csv
import errno
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from kd2mobile.data.sources.containers import Source
from kd2mobile.data.sources.folders import class_names, split_from_name
from kd2mobile.data.sources.scan import (
    UNREAD_SUFFIXES,
    File,
    Part,
    Scan,
    content_of,
    differing,
    hashed,
    not_decoded,
    quoted,
    shown,
)
from kd2mobile.data.split import SPLIT_NAMES, Skipped, SplitName
from kd2mobile.errors import DataError
from kd2mobile.files import check_regular, os_error
from kd2mobile.pixels import SUFFIXES
from kd2mobile.text import listed

TABLE_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",\t;"
COLUMNS = ("path", "label", "split")
SEPARATOR = re.compile(r'"?sep=([^\w\s"])"?;*\r?\n|"?sep=(\t)"?\r?\n', re.IGNORECASE)
"""The first line that tells Excel the separator of the fields; Excel writes it too."""
LONGEST_LABEL = 255
"""The most characters of a class name, as for a folder name on most file systems."""
LONGEST_SHOWN = 80
"""The most characters of a table's text in a message."""
CSV_FAULTS = {
    "field larger": "a field of more than 131,072 characters, as where a double quote is not closed",
    "unexpected end": "a double quote that is not closed",
    "expected after": "more characters after a closing double quote",
}


def is_table(source: Source) -> bool:
    """Whether a source is a table and no folder."""
    return isinstance(source, Path) and source.suffix.lower() in TABLE_SUFFIXES and not source.is_dir()


@dataclass(frozen=True)
class _Row:
    line: int
    path: str
    label: str
    split: SplitName | None
    key: str


def scan_table(table: Path, cache: Path | None = None, fewest: int = 2, key_column: str = "") -> Scan:
    """Finds and hashes the images that a table lists. No image is decoded.

    table: CSV in UTF-8, with or without a byte order mark, quoted as Python's csv reads it. The separator is a comma, a
    tab or a semicolon, or the one in a first line `sep=;`, as Excel writes it. The header names the columns `path` and
    `label`, and perhaps `split` (train, val or test, or another usual name of them), in any order; other columns are
    ignored. Paths are relative to the table's folder; in that form they are the ids.
    cache: as in `scan.scan`; fewest: the smallest accepted number of labels. key_column: a column whose value says
    which images belong together. Raises DataError, with the number of the line, for text that is not UTF-8 or no table,
    a missing column, an empty or repeated path, an empty label, an unknown split and missing files; also for fewer
    labels, and for splits with different labels.
    """
    table = Path(table)
    folder = table.parent
    rows = list(_rows(table, key_column.strip().lower()))
    names = class_names(row.label for row in rows)
    rows = [replace(row, label=names[row.label]) for row in rows]
    _refuse_few_labels(table, rows, fewest)
    files, skipped = _files(table, folder, rows)
    images = hashed(folder, files, skipped, cache, source=table)
    given = [name for name in SPLIT_NAMES if any(row.split == name for row in rows)]
    classes = sorted({row.label for row in rows})
    spellings = {name: sorted(spelling for spelling, same in names.items() if same == name) for name in classes}
    written_names = {name: written for name, written in spellings.items() if written != [name]}
    return Scan(
        root=shown(str(folder)),
        classes=classes,
        given=given,
        images=images,
        skipped=sorted(skipped, key=lambda file: file.path),
        ignored=0,
        content=content_of([(p.path, p.sha256, p.class_name, p.given or "") for p in images]),
        parts=[Part(split, "", str(folder), classes, shown(str(table)), written_names) for split in given or [None]],
    )


def _rows(table: Path, key_column: str) -> Iterator[_Row]:
    text = _text(table)
    separator = SEPARATOR.match(text)
    header_line = 2 if separator else 1
    header, delimiter = _header(table, text, separator, key_column)
    line_of_path: dict[str, int] = {}
    for line, fields in _records(table, text, delimiter, separator):
        if line == header_line or not any(field.strip() for field in fields):
            continue
        where = f"{table}, line {line}"
        if len(fields) != len(header):
            quote = f"Put a field that holds {delimiter!r} between double quotes."
            raise DataError(where, f"must have {len(header)} fields, as the first line", len(fields), quote)
        values = dict(zip(header, fields, strict=True))
        if not values["path"]:
            raise DataError(where, "must name an image", "an empty path", "Write its path or remove the line.")
        if len(values["label"]) > LONGEST_LABEL:
            must = f"must have a label of at most {LONGEST_LABEL} characters"
            raise DataError(where, must, f"{len(values['label']):,}", "Write a shorter name for the class.")
        if not values["label"].strip():
            raise DataError(where, "must have a label", "an empty one", "Write the class or remove the line.")
        path = Path(os.path.relpath(table.parent / values["path"], table.parent)).as_posix()
        if path in line_of_path:
            next_step = "Keep one of the two lines."
            raise DataError(
                where, "must list each image once", f"{_short(path)} as on line {line_of_path[path]}", next_step
            )
        line_of_path[path] = line
        key = values[key_column].strip() if key_column else ""
        yield _Row(line, path, values["label"].strip(), _split(where, values.get("split")), key)


def _text(table: Path) -> str:
    """The text of the table. Raises DataError, with the number of the line, if it is not UTF-8."""
    check_regular(table, DataError, "Save the table to a file beside its images, and give that.")
    try:
        stored = table.read_bytes()
    except OSError as fault:
        fault_message = os_error(fault, table)
        raise DataError(table, fault_message.must, fault_message.got, fault_message.next_step) from fault
    next_step = "Save it again with the encoding UTF-8."
    start = stored[:4]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or 0 < start.count(0) < 4:
        raise DataError(f"{table}, line 1", "must be text in UTF-8", "UTF-16 or no text", next_step)
    if (at := stored.find(0)) >= 0:
        line = stored.count(b"\n", 0, at) + 1
        raise DataError(f"{table}, line {line}", "must be text", "a NUL byte", "Remove it: no path has one.")
    try:
        return stored.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = stored.count(b"\n", 0, fault.start) + 1
        byte = stored[fault.start]
        likely = f"the byte 0x{byte:02x} (in Latin-1 it would be {bytes([byte]).decode('latin-1')!r})"
        raise DataError(f"{table}, line {line}", "must be text in UTF-8", likely, next_step) from fault


def _header(table: Path, text: str, separator: re.Match | None, key_column: str) -> tuple[list[str], str]:
    """The names of the columns, and the delimiter. separator: the match of a first line that names the delimiter."""
    readings = []
    fault = None
    for delimiter in (separator[1] or separator[2]) if separator else DELIMITERS:
        try:
            names = next((fields for _, fields in _records(table, text, delimiter, separator)), [])
        except DataError as wrong:  # quotes that end before another delimiter
            fault = wrong
            continue
        readings.append(([name.strip().lower() for name in names], delimiter))
    if not readings:
        raise fault
    names, delimiter = max(readings, key=lambda reading: len({"path", "label"} & set(reading[0])))
    where, first = (
        f"{table}, line {2 if separator else 1}",
        text[separator.end() if separator else 0 :].partition("\n")[0],
    )
    if missing := [name for name in ("path", "label") if name not in names]:
        write = "Begin the file with a line `path,label` or `path,label,split`."
        got = f"no {quoted(missing)} in {_short(first.strip())}" if first.strip() else "an empty line"
        raise DataError(where, "must name the columns path and label", got, write)
    if key_column and key_column not in names:
        given = "Write the name of one of its columns, or leave --group-by out."
        raise DataError(where, f"must name the column {key_column!r} of data.group_by", quoted(names), given)
    if twice := [name for name in (*COLUMNS, *filter(None, [key_column])) if names.count(name) > 1]:
        raise DataError(where, "must name each column once", f"{twice[0]!r} twice", "Rename one of the two.")
    return names, delimiter


def _records(table: Path, text: str, delimiter: str, separator: re.Match | None) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line and the fields of each record, without the line that names the delimiter."""
    stream = io.StringIO(text, newline="")
    stream.seek(separator.end() if separator else 0)
    lines = csv.reader(stream, delimiter=delimiter, strict=True)
    before = 1 if separator else 0
    line = before + 1
    while True:
        try:
            fields = next(lines)
        except StopIteration:
            return
        except csv.Error as fault:
            next_step = "Correct its quotes: a double quote inside a field is written twice."
            got = next((words for csv_words, words in CSV_FAULTS.items() if csv_words in str(fault)), "something else")
            raise DataError(f"{table}, line {line}", "must be CSV", got, next_step) from fault
        yield line, fields
        line = before + lines.line_num + 1


def _split(where: str, value: str | None) -> SplitName | None:
    if value is None:
        return None
    name = split_from_name(value)
    if name is None:
        next_step = "Fill in the column in every line, or leave it out: the splits are drawn then."
        raise DataError(where, f"must have a split of {', '.join(SPLIT_NAMES)}", _short(value), next_step)
    return name


def _refuse_few_labels(table: Path, rows: list[_Row], fewest: int) -> None:
    if not rows:
        raise DataError(table, "must list images", "no line below the first", "Add a line for each image.")
    by_split = {split: {row.label for row in rows if row.split == split} for split in (None, *SPLIT_NAMES)}
    by_split = {split: labels for split, labels in by_split.items() if labels}
    if None not in by_split and "train" not in by_split:
        got = " and ".join(map(str, by_split))
        raise DataError(table, "must have images of the split train", got, "Name some of them train.")
    train = by_split.get("train") or by_split[None]
    if len(train) < fewest:
        more = "Add images of something else: a classifier tells classes apart."
        raise DataError(table, "must have at least 2 labels to train on", f"one, {next(iter(train))!r}", more)
    for split, labels in by_split.items():
        if differs := differing(labels, train):
            must = f"must have the same labels in {split} as in train"
            raise DataError(table, must, differs, "Add or change lines until both have the same.")


def _files(table: Path, folder: Path, rows: list[_Row]) -> tuple[list[File], list[Skipped]]:
    """The image files that the rows name, and the skipped files, which are no images by their suffix."""
    files: list[File] = []
    skipped: list[Skipped] = []
    unusable: list[tuple[_Row, str]] = []
    for row in rows:
        suffix = Path(row.path).suffix.lower()
        try:
            status = (folder / row.path).stat()
        except OSError as fault:
            missing = fault.errno in (errno.ENOENT, errno.ENOTDIR)
            unusable.append((row, "no such file" if missing else os_error(fault).got))
            continue
        if not stat.S_ISREG(status.st_mode):
            unusable.append((row, "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"))
        elif suffix not in SUFFIXES:
            reason = not_decoded(suffix) if suffix in UNREAD_SUFFIXES else f"{suffix or 'no'} suffix: not an image"
            skipped.append(Skipped(row.path, reason))
        else:
            files.append(File(row.path, row.label, row.split, status.st_size, status.st_mtime_ns, row.key))
    if unusable:
        row, _ = unusable[0]
        slash = " Write / between folders." if "\\" in row.path else ""
        next_step = f"Paths are relative to {folder}, where the table lies.{slash}"
        must, got = (
            "must name existing files",
            listed((f"{_short(bad_row.path)}, {problem}" for bad_row, problem in unusable), 1),
        )
        raise DataError(f"{table}, line {row.line}", must, got, next_step)
    kept = {(file.class_name, file.given) for file in files}
    for row in rows:
        if (row.label, row.split) not in kept:
            where = f"{table}, line {row.line}"
            got = f"none ({len(skipped)} skipped, first {skipped[0].path}: {skipped[0].reason})"
            raise DataError(where, f"must have images of the label {row.label!r}", got, "Add images of the class.")
    return files, skipped


def _short(text: str) -> str:
    """The text for a message, cut to LONGEST_SHOWN characters."""
    return repr(text) if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]!r}... of {len(text):,} characters"
