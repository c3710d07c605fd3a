"""Devices and models beside each other: the newest record of each, and which file to take on each device."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.errors import MissingExtraError
from kd2mobile.measure.roles import TEACHER
from kd2mobile.pages import choosing, columns, timings, words
from kd2mobile.pages.choosing import both
from kd2mobile.pages.templates import fill, write_page
from kd2mobile.pages.view import Choice, DevicesData
from kd2mobile.pages.words import file_of
from kd2mobile.text import count_of

if TYPE_CHECKING:
    from kd2mobile.measure.record import BenchmarkRecord

Record = dict[str, Any]
MOST_KINDS = 12


def collect_devices(
    records: "Iterable[BenchmarkRecord]", within: float | None = None, min_top1: float | None = None
) -> DevicesData:
    """Of each file on each device, in each setting, the newest record; and what to take where.

    A setting is threads, XNNPACK, the rule of timing and whether a browser's page is isolated; a file is its SHA-256.
    within: the fraction of top-1 that a choice may lose to the best file on its device; min_top1: the one that it must
    reach; without both, within is half a point. `choosing` says whose accuracy a record has that was not evaluated
    itself.
    """
    within = words.CLOSE_ENOUGH if within is None and min_top1 is None else within
    given = [msgspec.to_builtins(record) for record in records]
    teachers = {(r["model"], r["top1"], r["images"]): r for r in given if r["role"] == TEACHER.name}
    named = _named_apart([r for r in given if r["role"] != TEACHER.name])
    kept = _newest(named)
    devices = {words.letters(index): word for index, word in enumerate(dict.fromkeys(map(_device, named)))}
    by_device = {key: words.tables([r for r in kept if _device(r) == word]) for key, word in devices.items()}
    keys = {word: key for key, word in devices.items()}
    evaluated = choosing.with_accuracies(by_device, [(keys[_device(r)], r) for r in named])
    return DevicesData(
        devices=devices,
        records=evaluated,
        teachers=list(teachers.values()),
        choices=[choosing.choose(key, devices[key], rows, within, min_top1) for key, rows in evaluated.items()],
        within=within,
        min_top1=min_top1,
        notes=_notes(evaluated, len(named) - len(kept)),
    )


def count_settings(data: DevicesData) -> int:
    """The number of different devices and settings on them."""
    return len({(key, *_setting(r)) for key, rows in data.records.items() for r in rows})


def write_devices(out: Path, data: DevicesData) -> None:
    """The page at `out`, a file in UTF-8. Raises ArtifactError, MissingExtraError as `write_report` does."""
    write_page(out, render_devices(data))


def render_devices(data: DevicesData) -> str:
    """The page as text. Everything in `data` is escaped on its way in, in HTML and in the plot."""
    models = len({(r["model"], r["precision"], r["compression"]) for own in data.records.values() for r in own})
    title = f"{count_of(models, 'file')} on {count_of(len(data.devices), 'device')}"
    return fill("records.html.j2", title=title, devices=devices_view(data))


def devices_view(data: DevicesData) -> dict[str, Any]:
    """What devices.html.j2 shows. Raises MissingExtraError where matplotlib is not installed."""
    try:
        from markupsafe import Markup

        from kd2mobile.pages.plots import accuracy
    except ModuleNotFoundError as fault:
        raise MissingExtraError("report", fault.name or "jinja2", "train") from fault

    every = [record for own in data.records.values() for record in own]
    shown, empty = columns.without_empty(every, columns.shown(every, columns.DEVICE_COLUMNS))
    keyed, rows = keyed_rows(data, shown)
    chosen = [r for choice in data.choices for r in (choice.smallest, choice.fastest) if r]
    plots = accuracy.device_plots(data.records, chosen, data.teachers)
    return {
        "data": data,
        "rows": keyed,
        "columns": shown,
        "downloads": columns.DOWNLOAD in shown,
        "equal": words.EQUAL,
        "numbers": columns.numbered(rows),
        "measured": columns.measured(rows),
        "whys": _whys(keyed, shown),
        "empty": _whys(keyed_rows(data, empty)[0], empty),
        "around": ", ".join(column.heading for column in shown if column in columns.AROUND),
        "order": {key: index for index, key in enumerate(data.devices)},
        "requirement": choosing.requirement(data.within, data.min_top1),
        "choices": [_taken(c, what, r) for c in data.choices for what, r in both(c).items() if r],
        "sentences": {choice.key: choosing.sentence(choice) for choice in data.choices},
        "operators": [_operators(key, r) for key, own in data.records.items() for r in own if _ops(r)],
        "plots": [Markup(plot) for plot in plots],
    }


def _whys(keyed: list[tuple[str, columns.Row]], shown: tuple[columns.Column, ...]) -> list[str]:
    return columns.whys([replace(row, role=key) for key, row in keyed], shown)


def keyed_rows(
    data: DevicesData, shown: tuple[columns.Column, ...]
) -> tuple[list[tuple[str, columns.Row]], list[columns.Row]]:
    """A row for each record with its device's letter, those marked that are the fastest choice; and the rows alone."""
    records = [(key, r) for key, own in data.records.items() for r in own]
    fastest = [choice.fastest for choice in data.choices if choice.fastest]
    rows = columns.rows([r for _, r in records], shown, fastest)
    return [(key, row) for (key, _), row in zip(records, rows, strict=True)], rows


def _taken(choice: Choice, what: str, record: Record) -> dict[str, Any]:
    """A row of the table of choices."""
    return {
        "key": choice.key,
        "what": what,
        "model": record["model"],
        "precision": ", ".join([words.precision(record), *words.runtime_setting(record)]),
        "top1": words.percent(choosing.chosen_top1(choice, record)),
        "size": words.size(record["size_bytes"]),
        "download": words.size(record["compressed_bytes"]),
        "latency": words.milliseconds(words.typical_latency(record)),
    }


def _ops(record: Record) -> list[dict[str, Any]]:
    return (record["tool"] or {}).get("ops", [])


def _operators(key: str, record: Record) -> dict[str, Any]:
    """What devices.html.j2 shows of the operators of one record: kind, count, milliseconds, and the share of all."""
    ops = _ops(record)
    whole = sum(op["mean_ms"] for op in ops)
    return {
        "key": key,
        "name": words.name_and_setting(record),
        "kinds": len(ops),
        "rows": [
            (
                op["kind"],
                words.count(op["count"]),
                words.milliseconds(op["mean_ms"]),
                words.percent(op["mean_ms"] / whole if whole else None),
            )
            for op in ops[:MOST_KINDS]
        ],
    }


def _device(record: Record) -> str:
    return record["device"] or "an unknown device"


def _setting(record: Record) -> tuple:
    return record["threads"], record["xnnpack"], record["rule"], record["isolated"]


def _newest(records: list[Record]) -> list[Record]:
    """The newest of each device, file and setting, in the order given; of two of one time the later one.

    Beside it stay those that were evaluated on other test images, where both say on which.
    """
    kept: dict[tuple, dict[str | None, Record]] = {}
    for r in sorted(records, key=lambda r: r["measured_at"] or ""):
        of_one = kept.setdefault((_device(r), file_of(r), _setting(r)), {})
        if r["images"] is None:
            of_one.clear()
        of_one.pop(None, None)
        of_one[r["images"]] = r
    kept_ids = {id(r) for of_one in kept.values() for r in of_one.values()}
    return [r for r in records if id(r) in kept_ids]


def _named_apart(records: list[Record]) -> list[Record]:
    """The records with the beginning of the SHA-256 in the names of different files of one name."""
    named = Counter(words.name(r) for r in {file_of(r): r for r in records}.values())
    return [
        r | {"model": f"{r['model']} {r['sha256'][:8]}"} if named[words.name(r)] > 1 and r["sha256"] else r
        for r in records
    ]


def _notes(by_device: dict[str, list[Record]], older: int) -> list[str]:
    notes = choosing.notes(by_device)
    for key, own in by_device.items():
        notes += timings.busy([r | {"device": key} for r in own])
        slow = [words.name(r) for r in own if (r.get("conditions") or {}).get("throttled")]
        if slow:
            names = ", ".join(dict.fromkeys(slow))
            notes.append(f"{key} throttled while it was timed ({names}): cool it down and measure again.")
        if steps := {r["latency_ms"]["steps"] for r in own if r["latency_ms"] and r["latency_ms"]["steps"] > 1}:
            of = ", ".join(f"{words.count(many)}" for many in sorted(steps))
            notes.append(f"The clock of {key} is coarse: its percentiles are of means over {of} runs.")
        if any(words.latency(r, "p50") is None and words.typical_latency(r) is not None for r in own):
            notes.append(f"{key} reports no median: the choice and the plot use its mean.")
    if older:
        notes.append(f"{count_of(older, 'older record', 'of the same file, device and setting')} left out.")
    return notes
