"""Devices and models beside each other: the newest record of each, and which file to take on each device."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.errors import MissingExtraError, count_of
from kd2mobile.report import columns, words
from kd2mobile.report.templates import fill, write_page
from kd2mobile.report.view import Choice, DevicesData

if TYPE_CHECKING:
    from kd2mobile.measure.record import BenchmarkRecord

Record = dict[str, Any]
MOST_KINDS = 12
ROUNDING = 1e-12
"""Differences of top-1 below it are none."""


def collect_devices(
    records: "Iterable[BenchmarkRecord]", within: float | None = None, min_top1: float | None = None
) -> DevicesData:
    """Of each file on each device, in each setting, the newest record; and what to take where.

    A setting is threads, XNNPACK and the rule of timing; a file is its SHA-256. within: the fraction of top-1 that a
    choice may lose to the best file on its device; min_top1: the one that it must reach; without both, within is half
    a point. A file that a device gave no answers for is as accurate as the same file on another.
    """
    within = words.CLOSE_ENOUGH if within is None and min_top1 is None else within
    given = [msgspec.to_builtins(record) for record in records]
    teachers = {(r["model"], r["top1"]): r for r in given if r["role"] == "teacher"}
    files = [r for r in given if r["role"] != "teacher"]
    kept = _named_apart(_newest(files))
    devices = {words.letters(place): word for place, word in enumerate(dict.fromkeys(map(_device, kept)))}
    by_device = {key: words.tables([r for r in kept if _device(r) == word]) for key, word in devices.items()}
    judged = _judged(by_device)
    return DevicesData(
        devices=devices,
        records=judged,
        teachers=list(teachers.values()),
        choices=[_choice(key, devices[key], rows, within, min_top1) for key, rows in judged.items()],
        within=within,
        min_top1=min_top1,
        notes=_notes(judged, len(files) - len(kept)),
    )


def places(data: DevicesData) -> int:
    """How many different devices, and settings on them, there are."""
    return len({(key, *_setting(r)) for key, rows in data.records.items() for r in rows})


def devices_json(data: DevicesData) -> str:
    """Everything but the teachers as JSON: devices by letter, what was asked, the choices, the records, the notes."""
    whole = msgspec.to_builtins(data)
    del whole["teachers"]
    return msgspec.json.format(msgspec.json.encode(whole), indent=1).decode()


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

        from kd2mobile.report import accuracy_plots
    except ModuleNotFoundError as fault:
        raise MissingExtraError("report", fault.name or "jinja2", "train") from fault

    shown = columns.shown([record for own in data.records.values() for record in own], columns.DEVICE_COLUMNS)
    keyed, rows = keyed_rows(data, shown)
    chosen = [r for choice in data.choices for r in (choice.smallest, choice.fastest) if r]
    plot = accuracy_plots.device_plot(data.records, chosen, data.teachers)
    return {
        "data": data,
        "rows": keyed,
        "columns": shown,
        "downloads": columns.DOWNLOAD in shown,
        "equal": words.EQUAL,
        "numbers": columns.numbered(rows),
        "settings": columns.measured_on(rows),
        "whys": columns.whys([replace(row, role=key) for key, row in keyed], shown),
        "places": {key: place for place, key in enumerate(data.devices)},
        "asked": asked(data),
        "choices": [_taken(c, what, r) for c in data.choices for what, r in _both(c).items() if r],
        "sentences": {choice.key: sentence(choice) for choice in data.choices},
        "operators": [_operators(key, r) for key, own in data.records.items() for r in own if _ops(r)],
        "plot": plot and Markup(plot),
    }


def keyed_rows(
    data: DevicesData, shown: tuple[columns.Column, ...]
) -> tuple[list[tuple[str, columns.Row]], list[columns.Row]]:
    """A row for each record with its device's letter, those marked that are the fastest choice; and the rows alone."""
    records = [(key, r) for key, own in data.records.items() for r in own]
    fastest = [choice.fastest for choice in data.choices if choice.fastest]
    rows = columns.rows([r for _, r in records], shown, fastest)
    return [(key, row) for (key, _), row in zip(records, rows, strict=True)], rows


def asked(data: DevicesData) -> str:
    """What a choice had to be, in words: "within 0.5 points of the best file on its device"."""
    within = f"within {100 * data.within:g} points of the most accurate file there" if data.within is not None else ""
    least = f"at {100 * data.min_top1:g} % top-1 or above" if data.min_top1 is not None else ""
    return " and ".join(filter(None, (within, least)))


def sentence(choice: Choice) -> str:
    """What to take on a device, or why there is nothing to take."""
    if choice.best_top1 is None:
        return f"{choice.device}: no file there has a known accuracy, so there is nothing to choose by."
    least = f"{words.percent(choice.least_top1)} % top-1"
    if not choice.within:
        best = words.percent(choice.best_top1)
        return f"{choice.device}: no file reaches {least}; the most accurate one has {best} %."
    said = {what: _named(r) for what, r in _both(choice).items() if r}
    reach = "reaches" if choice.within == 1 else "reach"
    of = f"{choice.device}: {choice.within:,} of {count_of(choice.judged, 'file')} {reach} {least}"
    if not said:
        return f"{of}, and neither size nor latency is known of any."
    if len(said) == 2 and choice.smallest["sha256"] == choice.fastest["sha256"]:
        return f"{of}; the smallest of them is the fastest too: {said['fastest']}."
    return f"{of}; the {'; the '.join(f'{what} is {text}' for what, text in said.items())}."


def _named(record: Record) -> str:
    """`mobilenet025 int8 (4 threads), 83.1 %, 352 KB, 0.23 ms`."""
    setting = ", ".join(words.runtime_setting(record))
    size, ms = record["size_bytes"], words.typical_latency(record)
    costs = [words.size_said(record)] if size is not None else []
    costs += [f"{words.milliseconds(ms)} ms"] if ms is not None else []
    name = f"{words.name(record)} ({setting})" if setting else words.name(record)
    return ", ".join([name, f"{words.percent(record['judged_top1'])} %", *costs])


def _both(choice: Choice) -> dict[str, Record | None]:
    return {"smallest": choice.smallest, "fastest": choice.fastest}


def _taken(choice: Choice, what: str, record: Record) -> dict[str, Any]:
    """A row of the table of choices."""
    return {
        "key": choice.key,
        "what": what,
        "model": record["model"],
        "precision": ", ".join([words.precision(record), *words.runtime_setting(record)]),
        "top1": words.percent(record["judged_top1"]),
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
        "name": ", ".join([words.name(record), *words.runtime_setting(record)]),
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
    return record["device"] or "a device that is not said"


def _file(record: Record) -> tuple:
    return (record["sha256"],) if record["sha256"] else tuple(record[f] for f in ("model", "precision", "compression"))


def _setting(record: Record) -> tuple:
    return record["threads"], record["xnnpack"], record["rule"]


def _newest(records: list[Record]) -> list[Record]:
    """In the order given, the newest of each device, file and setting; of two of one time the later one."""
    newest: dict[tuple, Record] = {}
    for r in records:
        key = (_device(r), *_file(r), *_setting(r))
        if key not in newest or (r["measured_at"] or "") >= (newest[key]["measured_at"] or ""):
            newest[key] = r
    return list(newest.values())


def _named_apart(records: list[Record]) -> list[Record]:
    """The records with the beginning of the SHA-256 in the names of different files of one name."""
    named = Counter(words.name(r) for r in {_file(r): r for r in records}.values())
    return [
        r | {"model": f"{r['model']} {r['sha256'][:8]}"} if named[words.name(r)] > 1 and r["sha256"] else r
        for r in records
    ]


def _judged(by_device: dict[str, list[Record]]) -> dict[str, list[Record]]:
    """The records with judged_top1 and judged_n, and in judged_on the letter of the device where they were judged."""
    judged: dict[tuple, tuple[str, Record]] = {}
    for key, own in by_device.items():
        for r in own:
            if r["top1"] is not None:
                judged.setdefault(_file(r), (key, r))

    def found(key: str, r: Record) -> Record:
        on, source = (key, r) if r["top1"] is not None else judged.get(_file(r), (None, r))
        return r | {"judged_top1": source["top1"], "judged_n": source["n"], "judged_on": on}

    return {key: [found(key, r) for r in own] for key, own in by_device.items()}


def _choice(key: str, device: str, rows: list[Record], within: float | None, min_top1: float | None) -> Choice:
    """The smallest is the smallest download; of equally small ones the faster, then the more accurate."""
    known = [r for r in rows if r["judged_top1"] is not None]
    best = max((r["judged_top1"] for r in known), default=None)
    limits = (0.0, None if within is None or best is None else best - within, min_top1)
    least = None if best is None else max(limit for limit in limits if limit is not None)
    near = [r for r in known if r["judged_top1"] >= least - ROUNDING]
    sized = [r for r in near if r["size_bytes"] is not None]
    timed = [r for r in near if words.typical_latency(r) is not None]
    size, ms = words.download_field(sized), (lambda r: words.or_inf(words.typical_latency(r)))
    return Choice(
        key=key,
        device=device,
        best_top1=best,
        least_top1=least,
        judged=len({_file(r) for r in known}),
        within=len({_file(r) for r in near}),
        smallest=min(sized, key=lambda r: (r[size], ms(r), -r["judged_top1"]), default=None),
        fastest=words.fastest(timed, "judged_top1") if timed else None,
    )


def _notes(by_device: dict[str, list[Record]], older: int) -> list[str]:
    keyed = [(key, r) for key, own in by_device.items() for r in own]
    judged_on: dict[int, list[str]] = {}
    for key, r in keyed:
        if r["top1"] is not None and key not in judged_on.setdefault(r["n"], []):
            judged_on[r["n"]].append(key)
    notes = []
    if len(judged_on) > 1:
        counts = "; ".join(f"{words.count(n)} ({', '.join(keys)})" for n, keys in judged_on.items())
        notes.append(f"Not all were judged on the same test pictures: {counts}. Their top-1 does not compare.")
    for key, own in by_device.items():
        elsewhere = dict.fromkeys(r["judged_on"] for r in own if r["judged_on"] not in (None, key))
        if elsewhere:
            on = ", ".join(elsewhere)
            notes.append(f"{key} gave no answers: in the choice and in the plot its files are as accurate as on {on}.")
        slow = [words.name(r) for r in own if (r.get("conditions") or {}).get("throttled")]
        if slow:
            names = ", ".join(dict.fromkeys(slow))
            notes.append(f"{key} throttled while it was timed ({names}): cool it down and measure again.")
        if steps := {r["latency_ms"]["steps"] for r in own if r["latency_ms"] and r["latency_ms"]["steps"] > 1}:
            of = ", ".join(f"{words.count(many)}" for many in sorted(steps))
            notes.append(f"The clock of {key} is coarse: its percentiles are of means over {of} runs each.")
        if any(words.latency(r, "p50") is None and words.typical_latency(r) is not None for r in own):
            notes.append(f"{key} tells no median: its mean stands for it in the choice and in the plot.")
    if older:
        notes.append(f"{count_of(older, 'older record', 'of the same file, device and setting')} left out.")
    return notes
