"""Numbers and comparisons as a person reads them. Shared by the page and by the terminal's table."""

import math
from collections.abc import Callable
from string import ascii_uppercase
from typing import Any

import msgspec

from kd2mobile.measure.roles import EXTERNAL, ROLES, STUDENT, TEACHER
from kd2mobile.recipe.schema import COMPRESSIONS, PRECISIONS
from kd2mobile.recipe.variants import Variant
from kd2mobile.text import count_of, one_line, size_of
from kd2mobile.tflite.results import AgainstStudent

DASH = "–"
ALPHA = 0.05
"""A p-value below it is called significant; none other is."""
CLOSE_ENOUGH = 0.005
"""The recommended file may lose this much top-1 to the most accurate one."""
CLOSE = f"within {100 * CLOSE_ENOUGH:g} points of the most accurate one"
ROUNDING = 1e-12
"""Differences of top-1 below it are none."""
EQUAL = "the smallest download of those whose timings do not differ clearly from it"
PERCENTILES = ("p50", "p90", "p95", "p99")


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction as percent without the sign: 0.8312 is "83.1"; what is not known is a dash."""
    return DASH if _unknown(fraction) else f"{100 * fraction:.{digits}f}"


def decimals(value: float | None, digits: int = 3) -> str:
    """A number with that many decimals."""
    return DASH if _unknown(value) else f"{value:.{digits}f}"


def count(value: int | None) -> str:
    """A whole number with commas."""
    return DASH if _unknown(value) else f"{value:,.0f}"


def size(size_bytes: float | None) -> str:
    """Bytes in KB of 1,000 bytes: 312,432 is "312"."""
    return DASH if _unknown(size_bytes) else f"{size_bytes / 1000:,.0f}"


def milliseconds(ms: float | None) -> str:
    """A latency with two or three digits that mean something: "0.031", "0.31", "3.10", "31.0", "310"."""
    if _unknown(ms):
        return DASH
    return f"{ms:,.{0 if ms >= 99.95 else 1 if ms >= 9.995 else 2 if ms >= 0.0995 else 3}f}"


def points(difference: float) -> str:
    """The size of a difference of fractions in percentage points, without its sign: 0.023 and -0.023 are "2.3"."""
    return f"{100 * abs(difference):.1f}"


def signed(value: float, digits: int = 0) -> str:
    """A difference with its sign: 2 is "+2", -0.5 with one digit is "-0.5"; what rounds to nothing is "0"."""
    text = f"{value:+,.{digits}f}"
    return text[1:] if float(text.replace(",", "")) == 0 else text


def p_words(p_value: float) -> str:
    """A p-value that never rounds to the other side of 0.05: "p = 0.004", "p < 0.001", "p = 0.0496"."""
    if p_value < 0.001:
        return "p < 0.001"
    digits = 2 if p_value >= 0.0995 else 3
    while (float(f"{p_value:.{digits}f}") < ALPHA) != (p_value < ALPHA) and digits < 16:
        digits += 1
    return f"p = {p_value:.{digits}f}"


def tables(records: list) -> list[dict[str, Any]]:
    """The records as plain dicts, sorted: teacher, student, baseline, external; each from fp32 to int8."""

    def sort_key(record: dict[str, Any]) -> tuple:
        role = record["role"]
        return (
            list(ROLES).index(role) if role in ROLES else len(ROLES),
            str(record["model"]),
            compression_order(record.get("compression")),
            precision_order(record["precision"])[0],
        )

    return sorted((msgspec.to_builtins(record) for record in records), key=sort_key)


def compression_order(compression: str | None) -> tuple[int, str]:
    """The position of a compression among others, as a key to sort by: none first, unknown ones last, by name."""
    return COMPRESSIONS.index(compression) if compression in COMPRESSIONS else len(COMPRESSIONS), str(compression)


def precision_order(precision: str | None) -> tuple[int, str]:
    """The position of a precision among others, as a key to sort by: fp32 first, unknown ones last, by name."""
    return PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS), str(precision)


def variant_name(record: dict[str, Any]) -> str:
    """The name of the variant that a record of a file of ours is of, such as `qat-int8`."""
    return Variant(record["compression"], record["precision"]).name


def runtime_setting(record: dict[str, Any]) -> list[str]:
    """How the runtime was set, where several settings were measured: ["2 threads", "no XNNPACK"], ["WebGPU"]."""
    threads = record.get("threads")
    settings = [count_of(threads, "thread")] if threads else []
    settings += ["WebGPU"] * ("WebGPU" in (record.get("runtime") or ""))
    settings += ["no XNNPACK"] * (record.get("xnnpack") is False)
    settings += ["MLPerf's rule"] * (record.get("rule") == "mlperf")
    return settings + ["not isolated"] * (record.get("isolated") is False)


def whole_setting(record: dict[str, Any]) -> str:
    """`1 thread, XNNPACK`: how the runtime was set, what is usual too."""
    return ", ".join([*runtime_setting(record), *["XNNPACK"] * (record.get("xnnpack") is True)])


def unusual_setting(record: dict[str, Any]) -> list[str]:
    """What of `runtime_setting` is not the default, which is one thread and XNNPACK."""
    return [setting for setting in runtime_setting(record) if setting != "1 thread"]


def image_set(n: int, name: str | None) -> str:
    """Test images, short: `359 #0a1b`, with the beginning of their name in the records, or `359 #?` without one."""
    return f"{count(n)} #{name[:4] if name else '?'}"


def test_images(n: int, name: str | None) -> str:
    """`359 test images (#0a1b)`."""
    return f"{count_of(n, 'test image')} ({image_set(n, name).partition(' ')[2]})"


def best_student(records: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The record of the file to ship, which says why (`recommending`); None without one."""
    return next((r for r in records if r.get("recommended")), None)


def why_recommended(records: list[dict[str, Any]]) -> str | None:
    """Why the file to ship is that, one sentence; None where none is recommended."""
    best = best_student(records)
    return best and best["recommended"]


def file_of(record: dict[str, Any]) -> tuple:
    """Which file a record is of: its SHA-256, or what else tells it."""
    return (record["sha256"],) if record["sha256"] else tuple(record[f] for f in ("model", "precision", "compression"))


def known_validation(records: list[dict[str, Any]]) -> bool:
    """Whether all these files were evaluated on the same validation images."""
    images = [(one["images"], one["n"]) if (one := r.get("val")) else None for r in records]
    return None not in images and len(set(images)) == 1


def accuracy(record: dict[str, Any], files: list[dict[str, Any]]) -> float | None:
    """By what a file is chosen among these: top-1 on validation images where it is known of all, else on the test's."""
    value = record["val"]["top1"] if known_validation(files) else record["top1"]
    return None if _unknown(value) else value


def is_host(record: dict[str, Any]) -> bool:
    """Whether it was measured on the machine that ran the command, or nobody says where."""
    return (record["device"] or "host:").startswith("host:")


def smallest_download(
    records: list[dict[str, Any]], accuracy: Callable[[dict[str, Any]], float | None]
) -> dict[str, Any]:
    """The smallest download; of equal ones the more accurate, then the first."""
    size = download_field(records)
    return min(records, key=lambda r: (or_inf(r[size]), -(accuracy(r) or 0.0)))


def download_field(records: list[dict[str, Any]]) -> str:
    """By what the downloads of these files compare: compressed, as an app store ships them, where all records know it,
    else by their bytes as they are."""
    known = all(r["compressed_bytes"] is not None for r in records if not _unknown(r["size_bytes"]))
    return "compressed_bytes" if known else "size_bytes"


def size_words(record: dict[str, Any]) -> str:
    """`341 KB`, of a compressed student's file `341 KB (198 KB as a download)`."""
    packed = record["compressed_bytes"] if is_compressed(record) else None
    download = "" if packed is None else f" ({size_of(packed)} as a download)"
    return size_of(record["size_bytes"]) + download


def is_compressed(record: dict[str, Any]) -> bool:
    """Whether the record is of a student that was quantized in training, pruned or clustered."""
    return record.get("compression") not in (None, "", "none")


def latency(record: dict[str, Any], which: str) -> float | None:
    """`p50`, `p90`, `p95`, `p99` or `mean` of a record's latency in milliseconds, None if it was not measured."""
    return (record.get("latency_ms") or {}).get(which)


def typical_latency(record: dict[str, Any]) -> float | None:
    """The median in milliseconds, or the mean where a device tells no median, or None."""
    p50 = latency(record, "p50")
    return latency(record, "mean") if _unknown(p50) else p50


def precision(record: dict[str, Any]) -> str:
    """`int8`, or with a compression `int8, prune`."""
    return variant_title(record["precision"], record["compression"])


def variant_title(precision: str | None, compression: str | None) -> str:
    """The same of a file that is no record."""
    words = [precision, compression if compression != "none" else None]
    return ", ".join(filter(None, words)) or DASH


def name(record: dict[str, Any]) -> str:
    """`mobilenet025 int8`."""
    text = precision(record)
    return record["model"] if text == DASH else f"{record['model']} {text}"


def name_and_setting(record: dict[str, Any]) -> str:
    """`mobilenet025 int8 (4 threads)`."""
    settings = ", ".join(runtime_setting(record))
    return f"{name(record)} ({settings})" if settings else name(record)


def headline(records: list[dict[str, Any]], paired: list) -> str:
    """The result of the run in one sentence, or what is missing for one; without a run, of the external files."""
    best = best_student(records)
    if best is None:
        files = [_result(r) for r in records if r["role"] in (STUDENT.name, EXTERNAL.name)]
        return "; ".join(files) + "." if files else "No student has been measured yet: run kd2mobile benchmark."
    text = _result(best)
    pair = pair_of(records, paired)
    if pair is None:
        return text + "."
    files = f"{pair.precision} files, " if pair.precision and pair.precision != best["precision"] else ""
    doubt = "" if pair.p_value < ALPHA else ", within chance"
    move = points(pair.difference)
    than = "the same as" if move == "0.0" else f"{move} points {'more' if pair.difference > 0 else 'less'} than"
    return f"{text}; {pair.a} {than} {pair.b} ({files}McNemar {p_words(pair.p_value)}{doubt})."


def pair_of(records: list[dict[str, Any]], paired: list) -> Any:
    """The paired comparison of the recommended file, else the first; None without any."""
    best = best_student(records)
    names = [variant_name(best), best["precision"]] if best else []
    return next((p for name in names for p in paired if p.precision == name), paired[0] if paired else None)


def _result(record: dict[str, Any]) -> str:
    """What a file does and costs: `mobilenet025 int8: 83.1 % top-1 (96.5 % top-5) in 312 KB, 0.31 ms an image`."""
    text = name(record)
    if not _unknown(record["top1"]):
        text += f": {percent(record['top1'])} % top-1"
    if not _unknown(record["top5"]):
        text += f" ({percent(record['top5'])} % top-5)"
    if not _unknown(record["size_bytes"]):
        text += f" in {size_words(record)}"
    if not _unknown(latency(record, "p50")):
        unusual = ", ".join(unusual_setting(record))
        text += f", {milliseconds(latency(record, 'p50'))} ms per image" + (f" ({unusual})" if unusual else "")
    return text


def verdict(pair: Any) -> str:
    """What a paired comparison says, in whole sentences that claim no more than one seed and n images allow."""
    higher = "higher" if pair.difference > 0 else "lower"
    result = f"top-1 {pair.a} is {points(pair.difference)} points {higher} than {pair.b}"
    if pair.only_a == pair.only_b:
        result = f"exactly as many test images are right {pair.a} as {pair.b}"
    text = (
        f"{pair.label}: {result}. Of {count(pair.n)} test images, {count(pair.only_a)} are right only {pair.a} and "
        f"{count(pair.only_b)} only {pair.b} (McNemar's paired test, {p_words(pair.p_value)}). "
    )
    if pair.p_value >= ALPHA:
        return text + "A difference of this size can be chance: the test does not exclude it."
    if pair.difference < 0:
        return text + "That is significant at 0.05: here the student is worse with the teacher."
    return text + "That is significant at 0.05 for these images and this seed; another seed may differ."


def lost(against_student: AgainstStudent | None) -> str:
    """What top-1 a file gains or loses against its student, in points with the interval: "-0.12 (-0.58 to +0.35)"."""
    if not against_student:
        return DASH
    low, high = (signed(100 * end, 2) for end in against_student.interval_95)
    return f"{signed(100 * against_student.difference, 2)} ({low} to {high})"


def class_sums(scores: list) -> str:
    """How many classes gain and lose by the teacher, and how little one alone says. scores: ClassScores, not none."""
    moves = [score.right - score.other_right for score in scores]
    gain, lose = (sum(move * sign > 0 for move in moves) for sign in (1, -1))
    sizes = sorted(score.n for score in scores)
    middle = sizes[len(sizes) // 2]
    return (
        f"Of {count(len(scores))} classes with test images, {count(gain)} gain with the teacher, {count(lose)} lose "
        f"and {count(len(scores) - gain - lose)} stay the same. Single classes are noise: a class of 10 images "
        f"moves by 10 points with every image, and half of these classes have {count(middle)} images or fewer. Only "
        "the test over all images, above, says whether the teacher helps."
    )


def why_unknown(record: dict[str, Any], field: str) -> str:
    """Why a field of a record is null, as a short clause: as the record says, else as its role does."""
    reasons = record.get("unknown") or {}
    path = f"latency_ms.{field}" if field in PERCENTILES else field
    for name in (path, path.partition(".")[0]):
        if name in reasons:
            return one_line(reasons[name])
    teacher = record["role"] == TEACHER.name
    if field == "teacher_agreement":
        return "it is the teacher itself" if teacher else "no teacher's logits for these images"
    if teacher and field in ("size_bytes", "compressed_bytes", "p50", "p90", "peak_rss_mib"):
        return "it runs in Keras, not as a .tflite on the device"
    if field == "conditions.throttled" and record.get("conditions"):
        return "not reported by the device"
    return "not measured"


def letters(index: int) -> str:
    """The name of the run or the device at that index: A to Z, then A2 to Z2.

    >>> [letters(index) for index in (0, 25, 26)]
    ['A', 'Z', 'A2']
    """
    around, index = divmod(index, len(ascii_uppercase))
    return f"{ascii_uppercase[index]}{around + 1 if around else ''}"


def _unknown(value: float | None) -> bool:
    return value is None or not math.isfinite(value)


def or_inf(value: float | None) -> float:
    """The value, or infinity where it is not known: what is not known is never the least."""
    return math.inf if _unknown(value) else value
