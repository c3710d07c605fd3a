"""The columns of the table of models: what each shows of a record, on the page and on a terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kd2mobile.report import words


@dataclass(frozen=True)
class Column:
    """A numeric column. field: the key in the record, or p50/p90 of its latency. unit: shown below the heading."""

    field: str
    heading: str
    unit: str
    form: Callable[[Any], str]
    terminal: bool = True

    def value(self, record: dict[str, Any]) -> Any:
        """What the record holds there, None if it is not known."""
        return words.latency(record, self.field) if self.field in ("p50", "p90") else record[self.field]


@dataclass(frozen=True)
class Cell:
    """A number in words, and why it is a dash if it is one."""

    text: str
    why: str | None = None


@dataclass(frozen=True)
class Row:
    """One measured model. best: whether it is the student that the headline recommends."""

    role: str
    model: str
    precision: str
    best: bool
    cells: list[Cell]
    setting: str


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


def rows(records: list[dict[str, Any]], columns: tuple[Column, ...] = COLUMNS) -> list[Row]:
    """A row for each record, in the order given; `records` are plain dicts, as from `words.tables`."""
    best = words.best_student(records)
    settings = {(r.get("threads"), r.get("xnnpack")) for r in records if r.get("threads")}
    return [
        Row(
            r["role"],
            r["model"],
            ", ".join([words.precision(r), *words.runtime_setting(r)] if len(settings) > 1 else [words.precision(r)]),
            r is best,
            [_cell(column, r) for column in columns],
            setting(r),
        )
        for r in records
    ]


def setting(record: dict[str, Any]) -> str:
    """Where and how it was measured: "1,692 test pictures; host, LiteRT 2.3.0, 1 thread"; what is null is left out."""
    said = [record.get("device"), record.get("runtime"), *words.runtime_setting(record)]
    place = ", ".join(str(word) for word in said if word)
    pictures = f"{words.count(record['n'])} test pictures" if record.get("n") else ""
    return "; ".join(word for word in (pictures, place) if word)


def _cell(column: Column, record: dict[str, Any]) -> Cell:
    text = column.form(column.value(record))
    return Cell(text, words.why_unknown(record, column.field) if text == words.DASH else None)
