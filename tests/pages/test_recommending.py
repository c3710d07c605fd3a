"""Which file is recommended and why: golden cases, worked out by hand from made-up records."""

import msgspec
import pytest

from kd2mobile.pages import timings
from kd2mobile.pages.recommending import with_recommendation
from kd2mobile.pages.words import tables

HOST, PHONE, BOARD = "host: a laptop, 8 cores", "adb: Google Pixel 8, 9 cores", "ssh: a board, 4 cores"
VAL = {"n": 870, "images": "9f8e7d6c5b4a3f2e"}
NO_DEVICE = ". No target device was measured, and the latencies of the host that exported it do not count."


@pytest.fixture
def of(make_record):
    """A function that makes a record of one precision's file. val: its top-1 on the validation images."""

    def make(precision, val, size_bytes, p50, device=HOST, **more):
        known = None if val is None else VAL | {"top1": val}
        fields = {"precision": precision, "sha256": precision, "device": device, "val": known, "top1": 0.8}
        return make_record(**fields | {"size_bytes": size_bytes, "p50": p50, "measured_at": "2026-11-30"} | more)

    return make


def reason(records, everywhere=()):
    """The precision of the one record that is recommended, and why."""
    found = with_recommendation(records, everywhere)
    (best,) = [r for r in found if r.recommended]
    assert all(r.unknown["recommended"] for r in found if r is not best) and "recommended" not in best.unknown
    return best.precision, best.recommended


def test_on_a_busy_host_the_smallest_download_is_recommended_as_on_a_quiet_one(of):
    """The issue's case: p90 at ten times p50, fp16 of 468 KB in front of int8 of 316 KB by chance."""

    def on_host(slow):
        busy = {"p90": 10.0, "p99": 20.0, "mean": 2.0, "n": 300, "busy": True}
        return [
            of("fp32", 0.830, 900_000, 0.62, latency_ms={"p50": 0.62} | busy),
            of("fp16", 0.830, 468_000, 0.40 * slow, latency_ms={"p50": 0.40 * slow} | busy),
            of("int8", 0.828, 316_000, 0.84, latency_ms={"p50": 0.84} | busy),
        ]

    said = "int8 is recommended: the smallest download of the 3 files within 0.5 points of the most accurate one on "
    assert reason(on_host(1)) == reason(on_host(9)) == ("int8", f"{said}the 870 validation images{NO_DEVICE}")


def test_validation_chooses_though_the_test_says_otherwise(of):
    """On the test images int8 is 3 points worse and fp32 the best; on validation int8 is within half a point."""
    records = [of("fp32", 0.830, 900, 1.0, top1=0.85), of("int8", 0.826, 300, 1.0, top1=0.82)]
    assert reason(records)[0] == "int8"
    lost = [of("fp32", 0.830, 900, 1.0, top1=0.80), of("int8", 0.824, 300, 1.0, top1=0.85)]
    assert reason(lost) == (
        "fp32",
        "fp32 is recommended: no other file is within 0.5 points of the most accurate one on the 870 validation "
        "images.",
    )


def test_half_a_point_is_within_half_a_point(of):
    assert reason([of("fp32", 0.83, 900, 1.0), of("int8", 0.825, 300, 1.0)])[0] == "int8"


def test_without_validation_the_test_images_choose_and_that_is_said(of):
    records = [of("fp32", 0.5, 900, 1.0, top1=0.85), of("int8", None, 300, 1.0, top1=0.82)]
    best, why = reason(records)
    assert best == "fp32" and "on the 1,692 test images, because their accuracy on validation images is unknown" in why
    other = msgspec.structs.replace(records[0].val, images="0" * 16)
    assert "test images, because" in reason([records[0], msgspec.structs.replace(records[1], val=other)])[1]


def test_with_a_record_from_the_device_its_latency_decides(of):
    """The issue's case: an x86 without VNNI, where int8 takes 1.36 of fp32's time."""
    here = [of("fp32", 0.830, 900_000, 2.0), of("int8", 0.828, 316_000, 1.0)]
    there = [of("fp32", 0.830, 900_000, 0.62, BOARD), of("int8", 0.828, 316_000, 0.84, BOARD)]
    said = f"fp32 is recommended: the fastest on {BOARD} (0.62 ms) of the 2 files within 0.5 points of the most "
    assert reason(here, there) == ("fp32", f"{said}accurate one on the 870 validation images.")
    assert reason(there, here) == reason(here, there), "of a measurement on the board alone"
    worse = [of("fp32", 0.80, 900_000, 0.1, BOARD), *there[1:]]
    assert reason([of("fp32", 0.80, 900_000, 2.0), here[1]], worse)[0] == "int8", "accuracy comes first"


def test_timings_within_their_own_spread_do_not_decide(of):
    """p90 is 0.3 above p50 in both: 0.84 and 0.62 are 0.22 apart."""
    wide = [
        of(p, 0.83, size, p50, PHONE, latency_ms={"p50": p50, "p90": p50 + 0.3, "p99": 2, "mean": p50, "n": 300})
        for p, size, p50 in (("fp32", 900, 0.62), ("int8", 316, 0.84))
    ]
    assert reason(wide) == (
        "int8",
        f"int8 is recommended: the smallest download of the 2 fastest on {PHONE} (fp32, int8), whose timings do not "
        "differ clearly, of the 2 files within 0.5 points of the most accurate one on the 870 validation images.",
    )


def test_files_that_took_turns_are_told_apart_by_their_ratios_on_a_busy_device(of):
    """Each file's own spread is 10 times its median, but in every round int8 takes 1.355 of fp32's time."""

    def rounds(base, of_rounds):
        latency = {
            "p50": base,
            "p90": 10 * base,
            "p99": 20,
            "mean": 1,
            "n": 300,
            "rounds": [base * r for r in of_rounds],
        }
        return latency | {"busy": True}

    slow = [1, 10, 3, 7, 2]
    turns = [
        of("fp32", 0.83, 900, 0.62, BOARD, latency_ms=rounds(0.62, slow)),
        of("int8", 0.83, 316, 0.84, BOARD, latency_ms=rounds(0.84, slow)),
    ]
    assert reason(turns)[0] == "fp32"
    earlier = [msgspec.structs.replace(turns[0], measured_at="2026-11-29"), turns[1]]
    assert reason(earlier)[0] == "int8", "of two measurements the rounds are not the same ones"
    unsteady = [turns[0], of("int8", 0.83, 316, 0.84, BOARD, latency_ms=rounds(0.84, [1, 10, 3, 7, 1]))]
    assert reason(unsteady)[0] == "int8", "in one round of five int8 was the faster one"


def test_ratios_near_one_are_level(of):
    latency = {"p50": 1.0, "p90": 1.0, "p99": 1.0, "mean": 1, "n": 300}

    def pair(by):
        first, other = (
            of(p, 0.83, 1, base, BOARD, latency_ms=latency | {"p50": base, "rounds": [base] * 5})
            for p, base in (("fp32", 1.0), ("int8", by))
        )
        return tables([first, other])

    assert [timings.is_slower(*reversed(pair(by))) for by in (1.04, 1.06)] == [False, True]
    assert timings.ratios(pair(1.06)) == [
        "mobilenet025, 1 thread, in 5 rounds: int8 takes 1.06 (1.06 to 1.06) of the time of fp32."
    ]


def test_a_latency_of_unknown_spread_decides_nothing(of):
    mean = {"p50": None, "p90": None, "p99": None, "n": 300}
    told = [
        of(p, 0.83, size, 1.0, PHONE, latency_ms=mean | {"mean": ms})
        for p, size, ms in (("fp32", 900, 1.0), ("int8", 300, 9.0))
    ]
    assert reason(told)[0] == "int8"
    tool = {"tool": {"tool": "benchmark_model", "std_ms": 0.1}}
    known = [msgspec.convert(msgspec.to_builtins(r) | tool, type(r)) for r in told]
    assert reason(known)[0] == "fp32"


def test_of_several_devices_the_one_measured_last_decides(of):
    phone = [of("fp32", 0.83, 900, 1.0, PHONE), of("int8", 0.83, 300, 9.0, PHONE)]
    board = [
        of(p, 0.83, size, ms, BOARD, measured_at="2026-12-01")
        for p, size, ms in (("fp32", 900, 9.0), ("int8", 300, 1.0))
    ]
    assert reason(phone, board)[1].startswith(f"int8 is recommended: the fastest on {BOARD} (1.00 ms)")


def test_a_host_is_no_device_even_if_it_is_the_only_one_timed(of):
    assert NO_DEVICE in reason([of("fp32", 0.83, 900, 0.1), of("int8", 0.83, 300, 9.0)])[1]


def test_one_student_alone_and_none(of, make_record):
    assert reason([of("int8", 0.5, 300, 1.0)]) == ("int8", "int8 is the only student that was evaluated.")
    external = [make_record("external")]
    assert with_recommendation(external) is external


def test_of_equal_downloads_the_more_accurate_on_validation(of):
    assert reason([of("int8", 0.83, 300, 1.0, top1=0.9), of("fp16", 0.831, 300, 1.0)])[0] == "fp16"


def test_downloads_count_compressed_where_all_are_known(of):
    pruned = {"compression": "prune", "compressed_bytes": 190_000}
    records = [of("fp16", 0.83, 341_000, 1.0, compressed_bytes=310_000), of("int8", 0.83, 342_000, 1.0, **pruned)]
    assert reason(records)[0] == "int8"
    assert reason([records[0], msgspec.structs.replace(records[1], compressed_bytes=None)])[0] == "fp16"


def test_of_several_settings_the_first_is_marked(of):
    sweep = [of("int8", 0.83, 300, 1.0), of("int8", 0.83, 300, 0.5, threads=4), of("fp32", 0.83, 900, 1.0)]
    assert [bool(r.recommended) for r in with_recommendation(sweep)] == [True, False, False]
