"""One measured model as `kd2mobile benchmark --json` writes it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta

from kd2mobile.errors import RecordError
from kd2mobile.measure.accuracy import score
from kd2mobile.measure.conditions import Conditions

Role = Literal["teacher", "student", "baseline", "external"]
ClassOrder = Literal["labels", "sorted folders", "sorted folders after a background"]
"""How class folders were matched with the outputs of someone else's file."""
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds a picture over n timed values: percentiles and mean. p95: None in records from before it was kept.

    steps: how many runs each value is the mean of: 1, but where a device's clock is too coarse; then the percentiles
    are those of means. rounds: the median of each round in which the files were timed in turn, empty where they were
    not; files of one measurement have the same rounds. spread: how well these agree (`rounds.spreads`). busy: whether
    the device did other work meanwhile: p90 is more than twice p50, or the spread stayed too wide.
    """

    p50: float | None
    p90: float | None
    p99: float | None
    mean: float
    n: int
    p95: float | None = None
    steps: int = 1
    rounds: list[float] = []
    spread: float | None = None
    busy: bool | None = None


class OpTime(msgspec.Struct, frozen=True):
    """All operators of one kind: how many a run has, and their mean milliseconds together."""

    kind: str
    count: int
    mean_ms: float


class ToolReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a device's own latency tool says besides: milliseconds of the warm-up's mean run, and of the least, most and
    standard deviation of the timed ones; MiB that its process grew by, by opening the file and in all; and, of another
    run with its profiler, the kinds of operators, the costliest first."""

    tool: str
    warmup_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    std_ms: float | None = None
    init_growth_mib: float | None = None
    growth_mib: float | None = None
    ops: list[OpTime] = []


class BenchmarkRecord(msgspec.Struct, kw_only=True, frozen=True):
    """What was measured of one model; None is what is not known.

    precision, compression: `int8`, `none`, ... of a file made by kd2mobile. device, runtime: in words; decoder: what
    decoded the pictures. n: pictures judged; pictures: which, as `picture_set` names them. top1, top5, ece,
    teacher_agreement: fractions in 0..1; logloss: nats, clipped at 1/512. latency_ms,
    first_run_ms, init_ms: milliseconds. size_bytes: of the file, what is packed behind
    the model included; compressed_bytes: of the file deflated, as an app store ships it. peak_rss_mib: of a process
    that opened and ran this file alone. threads: of the runtime. sha256: of the file. rule: by which it was timed;
    xnnpack: whether LiteRT's XNNPACK kernels were allowed; affinity: the cores that the process could use; conditions:
    the device's state around the timing; clock_step_ms, isolated: of a browser, the step of its clock and whether its
    page may have threads; measured_at: UTC; tool: of a phone; class_order: of someone else's file, how the class
    folders were matched with its outputs; unknown: why what this way cannot measure is None, by field.
    """

    role: Role
    model: str
    precision: str | None = None
    compression: str | None = None
    device: str | None = None
    runtime: str | None = None
    decoder: str | None = None
    n: Count
    pictures: str | None = None
    top1: Fraction | None
    top5: Fraction | None
    logloss: float | None
    ece: Fraction | None
    teacher_agreement: Fraction | None = None
    latency_ms: Latency | None = None
    first_run_ms: float | None = None
    init_ms: float | None = None
    size_bytes: Count | None = None
    compressed_bytes: Count | None = None
    peak_rss_mib: float | None = None
    threads: int | None = None
    sha256: str | None = None
    rule: str | None = None
    xnnpack: bool | None = None
    affinity: list[int] | None = None
    conditions: Conditions | None = None
    clock_step_ms: float | None = None
    isolated: bool | None = None
    measured_at: str | None = None
    tool: ToolReport | None = None
    class_order: ClassOrder | None = None
    unknown: dict[str, str] = {}


JUDGED = ("pictures", "top1", "top5", "logloss", "ece", "teacher_agreement")
"""What only a file's answers tell."""
NOT_TOLD_HERE = "this way of measuring does not tell it"
ELSEWHERE = {
    "pictures": "none was judged",
    "top1": "none was judged",
    "top5": "none was judged",
    "clock_step_ms": "of a browser alone",
    "isolated": "of a browser alone",
    "tool": "of a phone's benchmark_model alone",
    "class_order": "of someone else's file alone",
    "conditions.battery_c": "of a phone alone",
    "teacher_agreement": "no teacher is known",
    "precision": "the file does not say",
    "compression": "the file does not say",
    "logloss": "the file gives scores, not probabilities",
    "ece": "the file gives scores, not probabilities",
    "latency_ms.spread": "not timed in five rounds or more",
}
"""Why a field is None where nothing else is known of it."""


def with_reasons(record: BenchmarkRecord, **why: str) -> BenchmarkRecord:
    """The record with a reason in `unknown` for every None in it: its own, or else that of `why` by field, or else what
    holds of any record. A field within another is named with a dot: `latency_ms.p90`, `conditions.governor`."""
    reasons = ELSEWHERE | why | record.unknown
    return msgspec.structs.replace(record, unknown={name: reasons.get(name, NOT_TOLD_HERE) for name in _nones(record)})


def _nones(record: BenchmarkRecord) -> list[str]:
    found: dict[str, None] = {}

    def look(value: object, name: str) -> None:
        if value is None:
            found[name] = None
        elif isinstance(value, dict):
            for field, one in value.items():
                look(one, name if field in ("before", "after") else f"{name}.{field}")

    for field, value in msgspec.to_builtins(record).items():
        look(value, field)
    return list(found)


def read_records(file: Path) -> list[BenchmarkRecord]:
    """The records in a file that `kd2mobile benchmark` wrote; of a published model's record.json the one in it.

    Raises RecordError for a file that cannot be read, is none of these or holds none.
    """
    must = "must hold records as `kd2mobile benchmark --json` writes them"
    next_step = "Give a benchmark.json, a file of measurements/ or a record.json of models/."
    try:
        held = msgspec.json.decode(file.read_bytes())
        held = [held["benchmark"]] if isinstance(held, dict) and "benchmark" in held else held
        records = msgspec.convert(held, list[BenchmarkRecord])
    except OSError as fault:
        raise RecordError(file, must, fault.strerror, next_step) from fault
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise RecordError(file, must, f"something else: {fault}", next_step) from fault
    if not records:
        raise RecordError(file, must, "an empty list", next_step)
    return records


def picture_set(hashes: Sequence[str], labels: Sequence[int]) -> str:
    """Names labelled pictures, 16 hex digits: equal for the same pictures in the same classes, in whatever order they
    come and whatever output a class is, so that files with other orders of their classes, or with a background, have
    equal ones. hashes: the SHA-256 of each picture's bytes; labels: int [n], its class.
    """
    classes: dict[int, list[str]] = {}
    for sha256, label in zip(hashes, labels, strict=True):
        classes.setdefault(int(label), []).append(sha256)
    named = sorted("\n".join(sorted(own)) for own in classes.values())
    return hashlib.sha256("\n\n".join(named).encode()).hexdigest()[:16]


def record_of_probabilities(
    role: Role,
    model: str,
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    teacher_top1: np.ndarray | None = None,
    are_probabilities: bool = True,
    **known: object,
) -> BenchmarkRecord:
    """A record of answers that may not come from a .tflite, such as the teacher's; `known` are its other fields,
    before those that are computed.

    probabilities: float [n, classes]; labels, teacher_top1: int [n].
    """
    scores = score(probabilities, labels, teacher_top1, are_probabilities=are_probabilities)
    return BenchmarkRecord(role=role, model=model, n=len(labels), **(msgspec.structs.asdict(scores) | known))
