"""Which file of a run to ship, and why: validation images choose, the device it is for decides about speed."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.measure.roles import STUDENT
from kd2mobile.pages import timings, words
from kd2mobile.text import count_of

if TYPE_CHECKING:
    from kd2mobile.measure.record import BenchmarkRecord

Record = dict[str, Any]
ANOTHER, NO_STUDENT = "another file is", "only a student is"
"""Why a record has no reason to be recommended."""


def with_recommendation(
    records: "list[BenchmarkRecord]", everywhere: "Iterable[BenchmarkRecord]" = ()
) -> "list[BenchmarkRecord]":
    """The records, that of the file to ship with the reason as `recommended`, the others without one.

    records: of one run. everywhere: what was measured of the same files on any device, in any order.
    """
    plain = [msgspec.to_builtins(record) for record in records]
    found = recommend(plain, [msgspec.to_builtins(record) for record in everywhere])
    if found is None:
        return records
    best, reason = found
    marked = []
    for record, one in zip(records, plain, strict=True):
        why = {} if one is best else {"recommended": ANOTHER if record.role == STUDENT.name else NO_STUDENT}
        unknown = {name: text for name, text in record.unknown.items() if name != "recommended"} | why
        marked.append(msgspec.structs.replace(record, recommended=reason if one is best else None, unknown=unknown))
    return marked


def recommend(records: list[Record], everywhere: list[Record]) -> tuple[Record, str] | None:
    """The record of the file to ship and the reason, one sentence; None where no student has a known accuracy.

    Of the files within half a point of the most accurate one: the smallest download, or where the device that the file
    is for was measured, the fastest there; of those that the timings there do not tell apart the smallest download. A
    host is where files are made: its times decide nothing. The device measured last is taken for the one that it is
    for. records, everywhere: plain dicts, as from `words.tables`.
    """
    students = [r for r in records if r["role"] == STUDENT.name]
    files = list({words.file_of(r): r for r in reversed(students)}.values())[::-1]
    known = [r for r in files if words.accuracy(r, files) is not None]
    if not known:
        return None
    top = max(words.accuracy(r, files) for r in known)
    near = [r for r in known if words.accuracy(r, files) >= top - words.CLOSE_ENOUGH - words.ROUNDING]
    of_near = f"of the {len(near)} files {words.CLOSE} on {_images(near[0], files)}"
    if len(known) == 1:
        return known[0], f"{words.precision(known[0])} is the only student that was evaluated."
    if len(near) == 1:
        text = f"no other file is {words.CLOSE} on {_images(near[0], files)}"
        return near[0], f"{words.precision(near[0])} is recommended: {text}."
    there = _on_target([*everywhere, *students], near)
    if not there:
        best = words.smallest_download(near, lambda r: words.accuracy(r, files))
        return best, (
            f"{words.precision(best)} is recommended: the smallest download {of_near}. No target device was "
            "measured, and the latencies of the host that exported it do not count."
        )
    level = timings.equally_fast(there)
    taken = words.smallest_download(level, lambda r: words.accuracy(r, files))
    best = next((r for r in students if r is taken), None) or next(
        r for r in near if words.file_of(r) == words.file_of(taken)
    )
    on = f"on {taken['device']}"
    named = list(dict.fromkeys(words.precision(r) for r in level))
    if len(named) == 1:
        ms = words.milliseconds(words.typical_latency(taken))
        return best, f"{words.precision(best)} is recommended: the fastest {on} ({ms} ms) {of_near}."
    return best, (
        f"{words.precision(best)} is recommended: the smallest download of the {len(named)} fastest {on} "
        f"({', '.join(named)}), whose timings do not differ clearly, {of_near}."
    )


def _images(record: Record, files: list[Record]) -> str:
    """What the files were compared on, in words."""
    if words.known_validation(files):
        return f"the {count_of(record['val']['n'], 'validation image')}"
    return f"the {count_of(record['n'], 'test image')}, because their accuracy on validation images is unknown"


def _on_target(everywhere: list[Record], near: list[Record]) -> list[Record]:
    """The newest records of these files on the device that was measured last, in every setting; none of a host."""
    near_files = {words.file_of(r) for r in near}
    timed = [
        r
        for r in everywhere
        if words.file_of(r) in near_files and not words.is_host(r) and words.typical_latency(r) is not None
    ]
    if not timed:
        return []
    last = max(timed, key=lambda r: r["measured_at"] or "")
    there = [r for r in timed if r["device"] == last["device"]]
    newest = {(words.file_of(r), *words.runtime_setting(r)): r for r in sorted(there, key=_measured_at)}
    return list(newest.values())


def _measured_at(record: Record) -> str:
    return record["measured_at"] or ""
