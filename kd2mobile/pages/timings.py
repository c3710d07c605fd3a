"""What timings say of files beside each other: which is slower, which are level, and whether the device was busy."""

from typing import Any

from kd2mobile.measure.roles import STUDENT
from kd2mobile.measure.rounds import ratio
from kd2mobile.pages import words

Record = dict[str, Any]
EQUALLY_FAST = 0.05
"""Latencies that differ by less than this part of the smaller one count as equal: two runs in a row differ so."""
FEWEST_COMPARED = 5
"""Rounds: the ratios of fewer have no interval."""


def is_slower(record: Record, other: Record) -> bool:
    """Whether the timings tell that a file takes longer than the other: by more than EQUALLY_FAST, and by more than
    what their own spread explains. Both have a latency.

    Files that took turns are compared round by round: the interval of their ratio must not hold 1. Others must differ
    by more than the distance from the median to p90 of either; one of which no spread is known is never slower.
    """
    mine, others = words.typical_latency(record), words.typical_latency(other)
    if took_turns(record, other):
        middle, least, _ = ratio(record["latency_ms"]["rounds"], other["latency_ms"]["rounds"])
        return middle > 1 + EQUALLY_FAST and least > 1
    return mine - others > max(EQUALLY_FAST * others, _spread_ms(record), _spread_ms(other))


def took_turns(record: Record, other: Record) -> bool:
    """Whether both are of one measurement, in the same setting, in rounds enough to compare."""
    rounds = [one["latency_ms"].get("rounds", []) for one in (record, other)]
    same = all(
        record.get(field) == other.get(field) for field in ("device", "measured_at", "threads", "xnnpack", "rule")
    )
    return same and record["measured_at"] is not None and len(rounds[0]) == len(rounds[1]) >= FEWEST_COMPARED


def _spread_ms(record: Record) -> float:
    """How far the timed runs lie above their median: to p90, else to p95, else their standard deviation."""
    p50, p90, p95 = (words.latency(record, which) for which in ("p50", "p90", "p95"))
    if p50 is not None and (high := p95 if p90 is None else p90) is not None:
        return high - p50
    return words.or_inf((record.get("tool") or {}).get("std_ms"))


def equally_fast(records: list[Record]) -> list[Record]:
    """The record with the least latency, and those that the timings do not tell apart from it. records: not none, each
    with a latency."""
    first = min(records, key=words.typical_latency)
    return [r for r in records if not is_slower(r, first)]


def notes(records: list[Record]) -> list[str]:
    """What a reader of the latencies should know: of which files the device was busy, and the ratios of those that took
    turns. records: plain dicts, as from `words.tables`."""
    return [*busy(records), *ratios(records)]


def busy(records: list[Record]) -> list[str]:
    """A sentence for each device that did other work while it timed these files; or nothing."""
    names_by_device: dict[str, list[str]] = {}
    for r in records:
        if (r["latency_ms"] or {}).get("busy"):
            names_by_device.setdefault(r["device"] or "the device", []).append(words.precision(r))
    return [
        f"{device} was busy while it timed {', '.join(dict.fromkeys(names))}: these latencies are "
        "too high. Compare files by their ratios, or measure again."
        for device, names in names_by_device.items()
    ]


def ratios(records: list[Record]) -> list[str]:
    """What each file of a student takes of the time of its first one, where they took turns: a sentence per setting."""
    by_setting: dict[tuple, list[Record]] = {}
    for r in records:
        if r["role"] == STUDENT.name and (r["latency_ms"] or {}).get("rounds"):
            by_setting.setdefault((r["device"], r["model"], *words.runtime_setting(r)), []).append(r)
    sentences = []
    for (_, model, *setting), (first, *others) in by_setting.items():
        parts = [f"{words.precision(r)} takes {_ratio(r, first)}" for r in others if took_turns(r, first)]
        if parts:
            where = ", ".join([model, *setting])
            rounds = len(first["latency_ms"]["rounds"])
            sentences.append(
                f"{where}, in {rounds} rounds: {', '.join(parts)} of the time of {words.precision(first)}."
            )
    return sentences


def _ratio(record: Record, first: Record) -> str:
    """`0.70 (0.69 to 0.72)`: the median and its interval."""
    middle, low, high = ratio(record["latency_ms"]["rounds"], first["latency_ms"]["rounds"])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
