"""The columns of the table of models: what each shows of a record, on the page and on a terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kd2mobile.measure.roles import TEACHER
from kd2mobile.pages import words
from kd2mobile.text import count_of


@dataclass(frozen=True)
class Column:
    """A numeric column. field: the key in the record, or a percentile of its latency. unit: shown below the heading.

    of: how it is read from the record where that is not the key alone.
    """

    field: str
    heading: str
    unit: str
    form: Callable[[Any], str]
    terminal: bool = True
    of: Callable[[dict[str, Any]], Any] | None = None

    def value(self, record: dict[str, Any]) -> Any:
        """What the record holds there, None if it is not known."""
        if self.of:
            return self.of(record)
        return words.latency(record, self.field) if self.field in words.PERCENTILES else record[self.field]


@dataclass(frozen=True)
class Cell:
    """A number in words, and why it is a dash if it is one."""

    text: str
    why: str | None = None


@dataclass(frozen=True)
class Row:
    """One measured model. best: whether it is the student that the headline recommends. setting: where and how it was
    timed; images: how many it was evaluated on, and their name, None if it was not."""

    role: str
    model: str
    precision: str
    best: bool
    cells: list[Cell]
    setting: str
    images: tuple[int, str | None] | None


COLUMNS = (
    Column("top1", "Top-1", "%", words.percent),
    Column("top5", "Top-5", "%", words.percent),
    Column("logloss", "Logloss", "nats", words.decimals),
    Column("ece", "ECE", "%", words.percent, terminal=False),
    Column("teacher_agreement", "Agrees", "%", words.percent),
    Column("size_bytes", "Size", "KB", words.size),
    Column("p50", "p50", "ms", words.milliseconds),
    Column("p90", "p90", "ms", words.milliseconds),
    Column("peak_rss_mib", "Peak RSS", "MiB", lambda mib: words.decimals(mib, 0), terminal=False),
)


DOWNLOAD = Column("compressed_bytes", "Download", "KB", words.size)
"""The file compressed, as an app store ships it."""


WITHOUT_LEAKED = Column("top1_without_leaked", "No leaks", "%", words.percent)
"""The top-1 of the test images that did not leak: that are not also in train or val, nor grouped with one there."""


def _images(record: dict[str, Any]) -> tuple[int, str | None] | None:
    return (record["n"], record["images"]) if record["top1"] is not None else None


IMAGES = Column("images", "Images", "", lambda of: words.image_set(*of) if of else words.DASH, of=_images)
"""Which test images it was evaluated on."""


def shown(records: Sequence[dict[str, Any]], columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns, with that of the others behind the top-1 where any test image leaked, the download behind the
    size where a compressed student's file is among the records, and the images first where not all were evaluated on
    the same."""
    if any(r.get("leaked") for r in records):
        columns = _behind("top1", WITHOUT_LEAKED, columns)
    if any(words.is_compressed(r) and r["compressed_bytes"] is not None for r in records):
        columns = _behind("size_bytes", DOWNLOAD, columns)
    several = len({_images(r) for r in records} - {None}) > 1
    return (IMAGES, *columns) if several else columns


def _behind(field: str, more: Column, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    index = next(index for index, column in enumerate(columns, 1) if column.field == field)
    return (*columns[:index], more, *columns[index:])


def without_empty(
    records: Sequence[dict[str, Any]], columns: tuple[Column, ...]
) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """The columns of which any record knows something, those that a terminal shows in any case; and the others."""
    known = [c.terminal or any(c.form(c.value(r)) != words.DASH for r in records) for c in columns]
    return tuple(
        tuple(column for column, is_known in zip(columns, known, strict=True) if is_known is value)
        for value in (True, False)
    )


def _around(field: str, heading: str, unit: str, form: Callable[[Any], str]) -> Column:
    """A field of the device's state before and after the timing: "41 → 55", or once if they are equal."""

    def of(record: dict[str, Any]) -> tuple[Any, Any] | None:
        conditions = record.get("conditions")
        return conditions and (conditions["before"][field], conditions["after"][field])

    def written(states: tuple[Any, Any] | None) -> str:
        known = [form(value) for value in states or () if value is not None]
        return " → ".join(dict.fromkeys(known)) or words.DASH

    return Column(f"conditions.{field}", heading, unit, written, terminal=False, of=of)


AROUND = (
    _around("temperature_c", "Temp.", "°C", lambda degrees: words.decimals(degrees, 0)),
    _around("clock_mhz", "Clock", "MHz", words.count),
    _around("governor", "Governor", "", str),
)
"""The state of the device before and after."""

DEVICE_COLUMNS = (
    *(column for column in COLUMNS if column.field in ("top1", "p50", "p90")),
    Column("p95", "p95", "ms", words.milliseconds, terminal=False),
    *(column for column in COLUMNS if column.field in ("size_bytes", "peak_rss_mib")),
    Column(
        "conditions.throttled",
        "Throttled",
        "",
        lambda throttled: words.DASH if throttled is None else "yes" if throttled else "no",
        terminal=False,
        of=lambda record: (record.get("conditions") or {}).get("throttled"),
    ),
    *AROUND,
)
"""What a device adds to it: the state that it was in around the timing."""


def rows(
    records: list[dict[str, Any]],
    columns: tuple[Column, ...] = COLUMNS,
    best: Sequence[dict[str, Any]] | None = None,
) -> list[Row]:
    """A row for each record, in the order given; `records` are plain dicts, as from `words.tables`.

    best: those that are marked, by default the student that the headline recommends.
    """
    marked = [words.best_student(records)] if best is None else best
    settings = {tuple(words.runtime_setting(r)) for r in records} - {()}
    return [
        Row(
            r["role"],
            r["model"],
            ", ".join([words.precision(r), *words.runtime_setting(r)] if len(settings) > 1 else [words.precision(r)]),
            any(r is one for one in marked),
            [_cell(column, r) for column in columns],
            setting(r),
            _images(r),
        )
        for r in records
    ]


def setting(record: dict[str, Any]) -> str:
    """Where and how it was timed: "host, LiteRT 2.3.0, 1 thread"; what is null is left out."""
    parts = [record.get("device"), record.get("runtime"), *words.runtime_setting(record)]
    return ", ".join(str(word) for word in parts if word)


def measured(rows: list[Row]) -> str:
    """What is the same of all files: "1,692 test images; host, LiteRT 2.3.0, 1 thread"; or nothing."""
    images = {row.images for row in rows if row.role != TEACHER.name or len(rows) == 1} - {None}
    settings = measured_on(rows)
    parts = [count_of(n, "test image") for n, _ in images] if len(images) == 1 else []
    return "; ".join([*parts, *settings] if len(settings) == 1 else parts)


def measured_on(rows: list[Row]) -> list[str]:
    """Where and how the files were timed, each once; of a teacher only if there is nothing else."""
    settings = list(dict.fromkeys(row.setting for row in rows if row.setting and row.role != TEACHER.name))
    return settings or [row.setting for row in rows[:1] if row.setting]


def numbered(rows: list[Row]) -> dict[str, int]:
    """The number that the table gives each way of timing, from 1; empty if all files were timed in the same."""
    if len(measured_on(rows)) < 2:
        return {}
    settings = dict.fromkeys(row.setting for row in rows if row.setting)
    return {setting: number for number, setting in enumerate(settings, start=1)}


def whys(rows: list[Row], columns: tuple[Column, ...] = COLUMNS) -> list[str]:
    """Why there are dashes in the table, a clause a reason: `teacher (Size, p50): it runs in Keras`."""
    headings_by_reason: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for column, cell in zip(columns, row.cells, strict=True):
            if cell.why:
                headings_by_reason.setdefault((row.role, cell.why), [])
                if column.heading not in headings_by_reason[row.role, cell.why]:
                    headings_by_reason[row.role, cell.why].append(column.heading)
    return [f"{role} ({', '.join(headings)}): {why}" for (role, why), headings in headings_by_reason.items()]


def _cell(column: Column, record: dict[str, Any]) -> Cell:
    text = column.form(column.value(record))
    return Cell(text, words.why_unknown(record, column.field) if text == words.DASH else None)
