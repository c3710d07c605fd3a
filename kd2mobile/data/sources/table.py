"""Images listed in a CSV or TSV file, path,label and perhaps split, as the same Scan that a folder gives."""

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
from kd2mobile.data.sources.folders import class_names, split_named
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
from kd2mobile.files import os_error
from kd2mobile.pixels import SUFFIXES
from kd2mobile.text import listed

TABLE_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",\t;"
COLUMNS = ("path", "label", "split")
SEPARATOR = re.compile(r'"?sep=([^\w\s"])"?;*\r?\n|"?sep=(\t)"?\r?\n', re.IGNORECASE)
"""The first line by which Excel is told what stands between the fields, and which it writes."""
LONGEST_LABEL = 255
"""Characters of a class's name, as many as most file systems give a folder's."""
LONGEST_SHOWN = 80
"""Characters of a table that a message shows."""
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
    """Finds and hashes the images that a table lists. Nothing is decoded.

    table: CSV in UTF-8, with or without its mark, quoted as Python's csv reads it; between the fields a comma, a tab
    or a semicolon. A line `sep=;` before the others, as Excel writes it, says which. The first line names the columns
    `path` and `label`, and perhaps `split` (train, val or test, or as folders of them are called), in any order; other
    columns are skipped. Paths are relative to the table's folder and, so written, the ids.
    cache: as in `scan.scan`; fewest: labels. key_column: one more column, which says what images belong together.
    Raises DataError, with the line, for text that is not UTF-8 or no table, a missing column, an empty or repeated
    path, an empty label, another split; for files that are not there, with their number; for fewer than those labels
    and for splits that differ in labels.
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
    ways = {name: sorted(way for way, same in names.items() if same == name) for name in classes}
    named = {name: written for name, written in ways.items() if written != [name]}
    return Scan(
        root=shown(str(folder)),
        classes=classes,
        given=given,
        images=images,
        skipped=sorted(skipped, key=lambda aside: aside.path),
        ignored=0,
        content=content_of([(p.path, p.sha256, p.class_name, p.given or "") for p in images]),
        parts=[Part(split, "", str(folder), classes, shown(str(table)), named) for split in given or [None]],
    )


def _rows(table: Path, key_column: str) -> Iterator[_Row]:
    text = _text(table)
    told = SEPARATOR.match(text)
    first = 2 if told else 1
    header, delimiter = _header(table, text, told, key_column)
    seen: dict[str, int] = {}
    for line, fields in _records(table, text, delimiter, told):
        if line == first or not any(field.strip() for field in fields):
            continue
        where = f"{table}, line {line}"
        if len(fields) != len(header):
            quote = f"Put a field that holds {delimiter!r} between double quotes."
            raise DataError(where, f"must have {len(header)} fields, as the first line", len(fields), quote)
        named = dict(zip(header, fields, strict=True))
        if not named["path"]:
            raise DataError(where, "must name an image", "an empty path", "Write its path or remove the line.")
        if len(named["label"]) > LONGEST_LABEL:
            must = f"must have a label of at most {LONGEST_LABEL} characters"
            raise DataError(where, must, f"{len(named['label']):,}", "Write a shorter name for the class.")
        if not named["label"].strip():
            raise DataError(where, "must have a label", "an empty one", "Write the class or remove the line.")
        path = Path(os.path.relpath(table.parent / named["path"], table.parent)).as_posix()
        if path in seen:
            once = "Keep one of the two lines."
            raise DataError(where, "must list each image once", f"{_short(path)} as on line {seen[path]}", once)
        seen[path] = line
        key = named[key_column].strip() if key_column else ""
        yield _Row(line, path, named["label"].strip(), _split(where, named.get("split")), key)


def _text(table: Path) -> str:
    """Raises DataError, with the line, for another encoding."""
    try:
        stored = table.read_bytes()
    except OSError as fault:
        said = os_error(fault, table)
        raise DataError(table, said.must, said.got, said.next_step) from fault
    utf8 = "Save it again with the encoding UTF-8."
    start = stored[:4]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")) or 0 < start.count(0) < 4:
        raise DataError(f"{table}, line 1", "must be text in UTF-8", "UTF-16 or no text", utf8)
    if (at := stored.find(0)) >= 0:
        line = stored.count(b"\n", 0, at) + 1
        raise DataError(f"{table}, line {line}", "must be text", "a NUL byte", "Remove it: no path has one.")
    try:
        return stored.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = stored.count(b"\n", 0, fault.start) + 1
        byte = stored[fault.start]
        likely = f"the byte 0x{byte:02x} (in Latin-1 it would be {bytes([byte]).decode('latin-1')!r})"
        raise DataError(f"{table}, line {line}", "must be text in UTF-8", likely, utf8) from fault


def _header(table: Path, text: str, told: re.Match | None, key_column: str) -> tuple[list[str], str]:
    """The names of the columns and what stands between them. told: the line that says the latter."""
    ways = []
    fault = None
    for delimiter in (told[1] or told[2]) if told else DELIMITERS:
        try:
            names = next((fields for _, fields in _records(table, text, delimiter, told)), [])
        except DataError as wrong:  # quotes that end before another delimiter
            fault = wrong
            continue
        ways.append(([name.strip().lower() for name in names], delimiter))
    if not ways:
        raise fault
    names, delimiter = max(ways, key=lambda way: len({"path", "label"} & set(way[0])))
    where, first = f"{table}, line {2 if told else 1}", text[told.end() if told else 0 :].partition("\n")[0]
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


def _records(table: Path, text: str, delimiter: str, told: re.Match | None) -> Iterator[tuple[int, list[str]]]:
    """The fields of each record with the number of its first line, that which told the delimiter left out."""
    stream = io.StringIO(text, newline="")
    stream.seek(told.end() if told else 0)
    lines = csv.reader(stream, delimiter=delimiter, strict=True)
    before = 1 if told else 0
    line = before + 1
    while True:
        try:
            fields = next(lines)
        except StopIteration:
            return
        except csv.Error as fault:
            mend = "Correct its quotes: a double quote inside a field is written twice."
            got = next((words for said, words in CSV_FAULTS.items() if said in str(fault)), "something else")
            raise DataError(f"{table}, line {line}", "must be CSV", got, mend) from fault
        yield line, fields
        line = before + lines.line_num + 1


def _split(where: str, value: str | None) -> SplitName | None:
    if value is None:
        return None
    name = split_named(value)
    if name is None:
        fill = "Fill in the column in every line, or leave it out: the splits are drawn then."
        raise DataError(where, f"must have a split of {', '.join(SPLIT_NAMES)}", _short(value), fill)
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
    """The files that the rows name. What is no image by its suffix is skipped."""
    files: list[File] = []
    skipped: list[Skipped] = []
    gone: list[tuple[_Row, str]] = []
    for row in rows:
        suffix = Path(row.path).suffix.lower()
        try:
            status = (folder / row.path).stat()
        except OSError as fault:
            missing = fault.errno in (errno.ENOENT, errno.ENOTDIR)
            gone.append((row, "no such file" if missing else os_error(fault).got))
            continue
        if not stat.S_ISREG(status.st_mode):
            gone.append((row, "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"))
        elif suffix not in SUFFIXES:
            known = not_decoded(suffix) if suffix in UNREAD_SUFFIXES else f"{suffix or 'no'} suffix: not an image"
            skipped.append(Skipped(row.path, known))
        else:
            files.append(File(row.path, row.label, row.split, status.st_size, status.st_mtime_ns, row.key))
    if gone:
        row, _ = gone[0]
        slash = " Write / between folders." if "\\" in row.path else ""
        here = f"Paths are relative to {folder}, where the table lies.{slash}"
        must, got = "must name existing files", listed((f"{_short(one.path)}, {what}" for one, what in gone), 1)
        raise DataError(f"{table}, line {row.line}", must, got, here)
    kept = {(file.class_name, file.given) for file in files}
    for row in rows:
        if (row.label, row.split) not in kept:
            where = f"{table}, line {row.line}"
            got = f"none ({len(skipped)} skipped, first {skipped[0].path}: {skipped[0].reason})"
            raise DataError(where, f"must have images of the label {row.label!r}", got, "Add images of the class.")
    return files, skipped


def _short(text: str) -> str:
    """The text as a message shows it."""
    return repr(text) if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]!r}... of {len(text):,} characters"
