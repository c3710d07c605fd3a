"""The table that a terminal prints at the end. Standard library, msgspec and Rich alone: the core has no more."""

import sys
import textwrap
from importlib.util import find_spec
from typing import Any

import msgspec

from kd2mobile.pages import choosing, columns, timings, words
from kd2mobile.pages.devices import keyed_rows
from kd2mobile.pages.view import DevicesData, Paired
from kd2mobile.text import count_of, one_line

WIDEST = 100
"""Of a paragraph below the table."""


def text_table(records: list, paired: list = (), terminal: bool | None = None) -> Any:
    """The measured models and the paired comparison; where a download is shown, it stands for the logloss.

    A terminal's table is as wide as the terminal, plain text as wide as its longest names: it is for a file or a pipe.
    records: BenchmarkRecords. paired: Paired comparisons, or dicts with their fields, one per variant of the same two
    networks: a paragraph tells that of the recommended one, the page of the report all of them. terminal:
    whether a person's terminal shows it; by default whether standard output is one. Returns a Rich renderable for a
    terminal, else plain text that ends without a newline.
    """
    plain, pairs = words.tables(records), [msgspec.convert(msgspec.to_builtins(pair), Paired) for pair in paired]
    shown = [column for column in columns.shown(plain, columns.COLUMNS) if column.terminal]
    if columns.DOWNLOAD in shown:
        shown = [column for column in shown if column.field != "logloss"]
    heads = ["Role", "Model", "Precision", *(f"{c.heading}, {c.unit}" for c in shown)]
    rows = columns.rows(plain, tuple(shown))
    best = [row.best for row in rows]
    lines = [[one_line(t) for t in (r.role, r.model, r.precision, *(c.text for c in r.cells))] for r in rows]
    reason, pair = words.why_recommended(plain), words.pair_of(plain, pairs)
    notes = [f"* {reason}"] if reason else []
    notes += [words.headline(plain, []), *([_verdict(pair, pairs)] if pair else []), *timings.notes(plain)]
    return _table(heads, lines, best, [one_line(text) for text in notes], terminal)


def _verdict(pair: Paired, pairs: list[Paired]) -> str:
    more = f" The report has the same test of {count_of(len(pairs) - 1, 'more file')}." if len(pairs) > 1 else ""
    return words.verdict(pair) + more


def devices_table(data: DevicesData, terminal: bool | None = None) -> Any:
    """The files on each device, and what to take there, as `text_table` lays them out."""
    measured = [record for own in data.records.values() for record in own]
    shown = tuple(column for column in columns.shown(measured, columns.DEVICE_COLUMNS) if column.terminal)
    heads = [
        "Device",
        "Role",
        "Model",
        "Precision",
        *(f"{c.heading}, {c.unit}" if c.unit else c.heading for c in shown),
    ]
    rows, _ = keyed_rows(data, shown)
    best = [row.best for _, row in rows]
    lines = [[one_line(t) for t in (key, r.role, r.model, r.precision, *(c.text for c in r.cells))] for key, r in rows]
    choices = [f"{key} {choosing.sentence(choice)}" for key, choice in zip(data.devices, data.choices, strict=True)]
    mark = f"* the fastest file on its device {choosing.requirement(data.within, data.min_top1)}, and {words.EQUAL}"
    return _table(
        heads, lines, best, [mark] * any(best) + [one_line(text) for text in [*choices, *data.notes]], terminal
    )


def _table(heads: list[str], lines: list[list[str]], best: list[bool], after: list[str], terminal: bool | None) -> Any:
    if terminal if terminal is not None else sys.stdout.isatty() and bool(find_spec("rich")):
        return _rich(heads, lines, best, after)
    return _plain(heads, lines, best, after)


def _rich(heads: list[str], lines: list[list[str]], best: list[bool], after: list[str]) -> Any:
    from rich import box
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    words_at_left = 1 + heads.index("Precision")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for index, head in enumerate(heads):
        words_side = {"justify": "left", "overflow": "fold"}  # narrow terminals fold words, so that numbers stay whole
        number_side = {"justify": "right", "no_wrap": True, "overflow": "ellipsis"}
        table.add_column(Text(head.replace(", ", "\n")), **(words_side if index < words_at_left else number_side))
    for line, chosen in zip(lines, best, strict=True):
        line = [f"{text} *" if chosen and head == "Model" else text for head, text in zip(heads, line, strict=True)]
        table.add_row(*(Text(text) for text in line), style="bold green" if chosen else None)
    return Padding(Group(table, *(Text(text + "\n") for text in after)), (0, 0), expand=False)


def _plain(heads: list[str], lines: list[list[str]], best: list[bool], after: list[str]) -> str:
    split = [head.partition(", ")[::2] for head in heads]
    body = [[first for first, _ in split], [second for _, second in split], *lines]
    widths = [max(len(line[column]) for line in body) for column in range(len(heads))]

    def aligned(line: list[str], mark: str) -> str:
        cells = [
            t.ljust(w) if i <= heads.index("Precision") else t.rjust(w)
            for i, (t, w) in enumerate(zip(line, widths, strict=True))
        ]
        return f"{mark} {'  '.join(cells)}".rstrip()

    rule = "-" * (2 + sum(widths) + 2 * (len(widths) - 1))
    marks = ["*" if chosen else " " for chosen in best]
    table = [aligned(body[0], " "), aligned(body[1], " "), rule]
    table += [aligned(line, mark) for line, mark in zip(lines, marks, strict=True)]
    return "\n\n".join(["\n".join(table), *(textwrap.fill(text, WIDEST) for text in after)])
