"""One measured model as `kd2mobile benchmark --json` writes it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from kd2mobile.errors import RecordError
from kd2mobile.files import read_json
from kd2mobile.measure.conditions import Conditions
from kd2mobile.measure.roles import ROLES

RoleName = Literal[tuple(ROLES)]
ClassOrder = Literal["labels", "sorted folders", "sorted folders after a background"]
"""How class folders were matched with the outputs of someone else's file."""
Fraction = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Milliseconds = Annotated[float, Meta(ge=0, lt=1e9)]
Positive = Annotated[float, Meta(gt=0, lt=1e9)]
Mebibytes = Annotated[float, Meta(ge=0, lt=1e9)]
Nats = Annotated[float, Meta(ge=0, lt=1e9)]
Threads = Annotated[int, Meta(ge=1, le=4096)]
Cores = Annotated[list[Annotated[int, Meta(ge=0, lt=2**20)]], Meta(max_length=4096)]


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds an image over n timed values: percentiles and mean. p95: None in records from before it was kept.

    steps: how many runs each value is the mean of: 1, but where a device's clock is too coarse; then the percentiles
    are those of means. rounds: the median of each round in which the files were timed in turn, empty where they were
    not; files of one measurement have the same rounds. spread: how well these agree (`rounds.spreads`). busy: whether
    the device did other work meanwhile: of a file that took turns p90 is more than twice p50, or a spread stayed too
    wide.
    """

    p50: Milliseconds | None
    p90: Milliseconds | None
    p99: Milliseconds | None
    mean: Milliseconds
    n: Count
    p95: Milliseconds | None = None
    steps: Annotated[int, Meta(ge=1, lt=2**53)] = 1
    rounds: Annotated[list[Positive], Meta(max_length=10_000)] = []
    spread: Annotated[float, Meta(ge=0, lt=1e9)] | None = None
    busy: bool | None = None


class OpTime(msgspec.Struct, frozen=True):
    """All operators of one kind: how many a run has, and their mean milliseconds together."""

    kind: str
    count: Count
    mean_ms: Milliseconds


class ToolReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a device's own latency tool says besides: milliseconds of the warm-up's mean run, and of the least, most and
    standard deviation of the timed ones; MiB that its process grew by, by opening the file and in all; and, of another
    run with its profiler, the kinds of operators, the costliest first."""

    tool: str
    warmup_ms: Milliseconds | None = None
    min_ms: Milliseconds | None = None
    max_ms: Milliseconds | None = None
    std_ms: Milliseconds | None = None
    init_growth_mib: Mebibytes | None = None
    growth_mib: Mebibytes | None = None
    ops: list[OpTime] = []


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """How a file does on the validation images, by which files are chosen: `export` evaluates it beside its student.

    top1: a fraction, ties by expected rank; n: images; images: which, as `image_set` names them.
    """

    top1: Fraction
    n: Count
    images: str


class BenchmarkRecord(msgspec.Struct, kw_only=True, frozen=True):
    """What was measured of one model; None is what is not known.

    precision, compression: `int8`, `none`, ... of a file made by kd2mobile. device, runtime: in words; decoder: what
    decoded the images. n: images evaluated; images: which, as `image_set` names them. top1, top5, ece,
    teacher_agreement: fractions in 0..1; logloss: nats, clipped at 1/512. val: on validation images. latency_ms,
    first_run_ms, init_ms: milliseconds. size_bytes: of the file, what is packed behind
    the model included; compressed_bytes: of the file deflated, as an app store ships it. peak_rss_mib: of a process
    that opened and ran this file alone. threads: of the runtime. sha256: of the file. rule: by which it was timed;
    xnnpack: whether LiteRT's XNNPACK kernels were allowed; affinity: the cores that the process could use; conditions:
    the device's state around the timing; clock_step_ms, isolated: of a browser, the step of its clock and whether its
    page may have threads; measured_at: UTC; tool: of a phone; class_order: of someone else's file, how the class
    folders were matched with its outputs; recommended: why this file of a run is the one to ship; leaked: test images
    that were also in train or val, or in a group with one of them (decision 0006); top1_without_leaked: top-1 of the
    others; unknown: why what this way cannot measure is None, by field.
    """

    role: RoleName
    model: str
    precision: str | None = None
    compression: str | None = None
    device: str | None = None
    runtime: str | None = None
    decoder: str | None = None
    n: Count
    images: str | None = None
    top1: Fraction | None
    top5: Fraction | None
    logloss: Nats | None
    ece: Fraction | None
    teacher_agreement: Fraction | None = None
    val: Validation | None = None
    latency_ms: Latency | None = None
    first_run_ms: Milliseconds | None = None
    init_ms: Milliseconds | None = None
    size_bytes: Count | None = None
    compressed_bytes: Count | None = None
    peak_rss_mib: Mebibytes | None = None
    threads: Threads | None = None
    sha256: str | None = None
    rule: str | None = None
    xnnpack: bool | None = None
    affinity: Cores | None = None
    conditions: Conditions | None = None
    clock_step_ms: Milliseconds | None = None
    isolated: bool | None = None
    measured_at: str | None = None
    tool: ToolReport | None = None
    class_order: ClassOrder | None = None
    recommended: str | None = None
    leaked: Count | None = None
    top1_without_leaked: Fraction | None = None
    unknown: dict[str, str] = {}


EVALUATED = ("images", "top1", "top5", "logloss", "ece", "teacher_agreement")
"""What only a file's answers tell."""
NOT_REPORTED_HERE = "not reported by this device"
ELSEWHERE = {
    "images": "no image was evaluated",
    "top1": "no image was evaluated",
    "top5": "no image was evaluated",
    "clock_step_ms": "only for a browser",
    "isolated": "only for a browser",
    "tool": "only for benchmark_model on a phone",
    "class_order": "only for a file that kd2mobile did not make",
    "conditions.battery_c": "only for a phone",
    "teacher_agreement": "its teacher is unknown",
    "precision": "not in the file's metadata",
    "compression": "not in the file's metadata",
    "logloss": "the file outputs scores, not probabilities",
    "ece": "the file outputs scores, not probabilities",
    "val": "its validation images are unknown",
    "recommended": "there was no choice",
    "leaked": "its training images are unknown",
    "top1_without_leaked": "its training images are unknown",
    "latency_ms.spread": "not timed in five rounds or more",
    "latency_ms.busy": "it needs p90 and p95",
}
"""Why a field is None where nothing else is known of it."""


def with_reasons(record: BenchmarkRecord, **why: str) -> BenchmarkRecord:
    """The record with a reason in `unknown` for every None in it: its own, or else that of `why` by field, or else what
    holds of any record. A field within another is named with a dot: `latency_ms.p90`, `conditions.governor`."""
    reasons = ELSEWHERE | why | record.unknown
    return msgspec.structs.replace(
        record, unknown={name: reasons.get(name, NOT_REPORTED_HERE) for name in _nones(record)}
    )


def _nones(record: BenchmarkRecord) -> list[str]:
    nones: dict[str, None] = {}

    def look(value: object, name: str) -> None:
        if value is None:
            nones[name] = None
        elif isinstance(value, dict):
            for field, one in value.items():
                look(one, name if field in ("before", "after") else f"{name}.{field}")

    for field, value in msgspec.to_builtins(record).items():
        look(value, field)
    return list(nones)


class _Holder(msgspec.Struct):
    """A published model's record.json, of which only this is looked at here."""

    benchmark: BenchmarkRecord


NO_RECORDS = "Give a benchmark.json, a file of measurements/ or a record.json of models/."


def read_records(file: Path, next_step: str = NO_RECORDS) -> list[BenchmarkRecord]:
    """The records in a file that `kd2mobile benchmark` wrote; of a published model's record.json the one in it.

    next_step: what to do about another file. Raises RecordError for a file that cannot be read, is none of these or
    holds none.
    """
    held = read_json(file, list[BenchmarkRecord] | _Holder, next_step)
    records = [held.benchmark] if isinstance(held, _Holder) else held
    if not records:
        raise RecordError(file, "must hold records in the format of `kd2mobile benchmark --json`", "none", next_step)
    return records


def image_set(hashes: Sequence[str], labels: Sequence[int]) -> str:
    """Names labelled images, 16 hex digits: equal for the same images in the same classes, in whatever order they
    come and whatever output a class is, so that files with other orders of their classes, or with a background, have
    equal ones. hashes: the SHA-256 of each image's bytes; labels: int [n], its class.
    """
    classes: dict[int, list[str]] = {}
    for sha256, label in zip(hashes, labels, strict=True):
        classes.setdefault(int(label), []).append(sha256)
    groups = sorted("\n".join(sorted(own)) for own in classes.values())
    return hashlib.sha256("\n\n".join(groups).encode()).hexdigest()[:16]
