"""Devices beside each other: made-up records, whose choices were worked out by hand."""

import json
import re

import msgspec
import pytest

from kd2mobile.api.results import as_json
from kd2mobile.pages.choosing import sentence
from kd2mobile.pages.devices import collect_devices, count_settings, render_devices
from kd2mobile.pages.page import render
from kd2mobile.pages.terminal.table import devices_table

HOST, BOARD, PHONE = "host: a laptop, 8 cores", "ssh: a board, 4 cores", "adb: a phone, 9 cores"
HOSTILE = '<img src=x onerror=alert(1)> "quote" $x$ </title></style></svg>'
COOL = {"governor": "performance", "temperature_c": 40.2, "clock_mhz": 2000.0}
HOT = {"governor": "performance", "temperature_c": 81.0, "clock_mhz": 1200.0}


@pytest.fixture
def measured(make_record):
    """A function that makes a record of one of three files, each with a SHA-256 of its own."""

    def make(precision, top1, size_bytes, p50, device=HOST, **more):
        sha256 = {"fp32": "aa", "int8_dynamic": "bb", "int8": "cc"}[precision] * 32
        return make_record(
            precision=precision, top1=top1, size_bytes=size_bytes, p50=p50, device=device, **{"sha256": sha256} | more
        )

    return make


@pytest.fixture
def two_devices(measured):
    """The host is fastest in int8, the board in fp32; dynamic int8 is the smallest and four points worse."""
    return [
        measured("fp32", 0.900, 1000, 2.0),
        measured("int8_dynamic", 0.860, 280, 1.5),
        measured("int8", 0.896, 300, 1.0),
        measured("fp32", 0.900, 1000, 5.0, BOARD),
        measured("int8_dynamic", 0.860, 280, 8.0, BOARD),
        measured("int8", 0.880, 300, 7.0, BOARD),
    ]


def taken(data):
    """Letter, smallest and fastest precision of each choice."""
    return [(c.key, *(one and one["precision"] for one in (c.smallest, c.fastest))) for c in data.choices]


def test_the_smallest_and_the_fastest_within_half_a_point_of_the_best_on_each_device(two_devices):
    data = collect_devices(two_devices)
    assert data.devices == {"A": HOST, "B": BOARD}
    assert taken(data) == [("A", "int8", "int8"), ("B", "fp32", "fp32")]
    assert [(c.evaluated, c.within) for c in data.choices] == [(3, 2), (3, 1)]
    assert data.choices[0].least_top1 == pytest.approx(0.895)
    assert sentence(data.choices[0]) == (
        f"{HOST}: 2 of 3 files reach 89.5 % top-1 on 870 validation images (#9f8e); the smallest of them is the "
        "fastest too: mobilenet025 int8 (1 thread), 89.6 %, 300 bytes, 1.00 ms."
    )


@pytest.mark.parametrize(
    ("within", "min_top1", "expected"),
    [
        (0.0, None, [("A", "fp32", "fp32"), ("B", "fp32", "fp32")]),
        (0.02, None, [("A", "int8", "int8"), ("B", "int8", "fp32")]),
        (0.05, None, [("A", "int8_dynamic", "int8"), ("B", "int8_dynamic", "fp32")]),
        (0.05, 0.87, [("A", "int8", "int8"), ("B", "int8", "fp32")]),
        (None, 0.85, [("A", "int8_dynamic", "int8"), ("B", "int8_dynamic", "fp32")]),
        (None, 0.95, [("A", None, None), ("B", None, None)]),
    ],
)
def test_what_is_asked_of_accuracy_decides(two_devices, within, min_top1, expected):
    assert taken(collect_devices(two_devices, within, min_top1)) == expected


def test_the_smallest_is_the_smallest_download(measured):
    plain = measured("int8", 0.9, 341_000, 1.0, compressed_bytes=310_000)
    pruned = measured("int8", 0.9, 342_000, 2.0, sha256="dd" * 32, compression="prune", compressed_bytes=190_000)
    data = collect_devices([plain, pruned])
    assert (data.choices[0].smallest["compression"], data.choices[0].fastest["compression"]) == ("prune", "none")
    assert "the smallest is mobilenet025 int8, prune (1 thread), 90.0 %, 342 KB (190 KB as a download)" in sentence(
        data.choices[0]
    )
    html = render_devices(data)
    assert html.count("Download <small>KB</small>") == 2 and "Download is the file compressed" in html
    assert "Download" in str(devices_table(data, terminal=False))
    older = msgspec.structs.replace(pruned, compressed_bytes=None)
    assert collect_devices([plain, older]).choices[0].smallest["compression"] == "none"


def test_nothing_is_accurate_enough_is_said(two_devices):
    data = collect_devices(two_devices, None, 0.95)
    assert sentence(data.choices[0]) == (
        f"{HOST}: no file reaches 95.0 % top-1 on 870 validation images (#9f8e); the most accurate one has 90.0 %."
    )
    assert "at 95 % top-1 or above" in render_devices(data)


def test_the_newest_of_each_file_device_and_setting_is_shown(measured):
    times = [f"2026-11-21T1{hour}:00:00Z" for hour in range(4)]
    records = [
        measured("int8", 0.9, 300, 1.0, measured_at=times[1]),
        measured("int8", 0.9, 300, 2.0, measured_at=times[2]),
        measured("int8", 0.9, 300, 3.0, measured_at=times[0]),
        measured("int8", 0.9, 300, 4.0, threads=4, measured_at=times[0]),
        measured("int8", 0.9, 300, 5.0, xnnpack=False, measured_at=times[0]),
        measured("int8", 0.9, 300, 6.0, rule="mlperf", measured_at=times[0]),
        measured("int8", 0.9, 300, 7.0, BOARD, measured_at=times[0]),
    ]
    data = collect_devices(records)
    assert {key: sorted(r["latency_ms"]["p50"] for r in own) for key, own in data.records.items()} == {
        "A": [2.0, 4.0, 5.0, 6.0],
        "B": [7.0],
    }
    assert count_settings(data) == 5 and "2 older records of the same file, device and setting left out." in data.notes
    page = render_devices(data)
    for setting in ("int8, 4 threads", "1 thread, no XNNPACK", "1 thread, MLPerf&#39;s rule"):
        assert setting in page


def test_a_device_without_answers_has_the_accuracy_of_the_same_file(two_devices, measured):
    nothing = {"top1": None, "n": 0, "unknown": {"top1": "it classifies nothing"}}
    phone = [measured("fp32", size_bytes=1000, p50=3.0, device=PHONE, **nothing)]
    phone += [measured("int8", size_bytes=300, p50=2.0, device=PHONE, **nothing)]
    data = collect_devices([*two_devices, *phone])
    assert taken(data)[2] == ("C", "int8", "int8") and data.choices[2].fastest["evaluated_on"] == "A"
    assert data.records["C"][0]["top1"] is None
    assert "C evaluated no images: the choice and the plot use the accuracy on A." in data.notes
    page = render_devices(data)
    assert "C (Top-1): it classifies nothing" in page and "C, mobilenet025 int8, 1 thread: 89.6 % at 2.00" in page
    alone = collect_devices(phone)
    assert taken(alone) == [("A", None, None)] and "none is recommended" in sentence(alone.choices[0])
    assert "<svg" not in render_devices(alone).partition("</header>")[2].replace('<svg class="key', "")


def plain(data):
    return devices_table(data, terminal=False)


def test_what_distorts_a_latency_is_said(measured):
    hot = {"before": COOL, "after": HOT, "throttled": True}
    coarse = {"p50": 1.0, "p90": 1.0, "p99": 1.0, "mean": 1.0, "n": 40, "steps": 50}
    no_median = {"p50": None, "p90": None, "p99": None, "mean": 1.25, "n": 40}
    data = collect_devices(
        [
            measured("int8", 0.9, 300, 1.0, conditions=hot),
            measured("int8", 0.9, 300, 1.0, BOARD, latency_ms=coarse),
            measured("int8", 0.9, 300, 1.0, PHONE, latency_ms=no_median),
        ]
    )
    assert data.notes == [
        "A throttled while it was timed (mobilenet025 int8): cool it down and measure again.",
        "The clock of B is coarse: its percentiles are of means over 50 runs.",
        "C reports no median: the choice and the plot use its mean.",
    ]
    page = render_devices(data)
    cells = re.findall(r'<td class="num">(.*?)</td>', page)
    assert "yes" in cells and "40 → 81" in cells and "2,000 → 1,200" in cells and "performance" in cells
    assert data.choices[2].fastest["latency_ms"]["mean"] == 1.25 and "1.25 ms." in sentence(data.choices[2])


def test_columns_that_no_record_fills_are_left_out_and_named(measured):
    why = {"conditions": "the page cannot see it", "peak_rss_mib": "the page cannot see it"}
    data = collect_devices([measured("int8", 0.9, 300, 1.0, peak_rss_mib=None, unknown=why)])
    page = render_devices(data)
    unseen = "A (Peak RSS, Throttled, Temp., Clock, Governor): the page cannot see it."
    assert f"Left out, because no file has it: A (p95): not measured; {unseen}" in page
    assert '<th scope="col" class="num">Peak RSS' not in page and "before the timing" not in page
    told = {"before": COOL | {"temperature_c": None}, "after": HOT | {"temperature_c": None}, "throttled": None}
    page = render_devices(collect_devices([measured("int8", 0.9, 300, 1.0, conditions=told)]))
    assert "Clock, Governor: immediately before and after the timing." in page and "Temp.)" in page


def test_a_phones_operators_are_shown_the_costliest_first(measured):
    ops = [{"kind": f"KIND_{i}", "count": 2, "mean_ms": 3.0 / 2**i} for i in range(14)]
    tool = {"tool": "benchmark_model", "ops": [ops[0] | {"kind": HOSTILE}, *ops[1:]]}
    data = collect_devices([measured("int8", 0.9, 300, 1.0, PHONE, tool=tool), measured("fp32", 0.9, 900, 2.0)])
    page = render_devices(data)
    assert page.count("<details>") == 1 and "A, mobilenet025 int8 (1 thread): time by operator" in page
    shares = re.findall(r'<td class="num">3.00</td><td class="num">([\d.]+)</td>', page)
    assert shares == ["50.0"] and "KIND_11" in page and "KIND_12" not in page and "2 faster kinds are left out" in page
    assert "<img" not in page


def test_files_of_one_name_are_told_apart(measured):
    data = collect_devices([measured("int8", 0.9, 300, 1.0), measured("int8", 0.8, 300, 1.0, sha256="0123456789" * 6)])
    assert sorted(r["model"] for r in data.records["A"]) == ["mobilenet025 01234567", "mobilenet025 cccccccc"]


def test_the_terminals_table_fits_and_names_every_device(two_devices):
    text = plain(collect_devices(two_devices))
    assert max(map(len, text.splitlines())) <= 100
    starred = [line.split()[1:5] for line in text.splitlines() if line.startswith("* ") and "mobilenet" in line]
    assert starred == [["A", "student", "mobilenet025", "int8"], ["B", "student", "mobilenet025", "fp32"]]
    assert f"B {BOARD}: 1 of 3 files reaches 89.5 % top-1 on" in " ".join(text.split())


def test_the_json_holds_what_the_page_shows(two_devices, make_record):
    found = json.loads(as_json(collect_devices([*two_devices, make_record("teacher", p50=None)], 0.02)))
    assert list(found) == ["devices", "records", "teachers", "choices", "within", "min_top1", "notes"]
    assert [len(rows) for rows in found["records"].values()] == [3, 3]
    assert found["choices"][1]["smallest"]["precision"] == "int8" and found["within"] == 0.02


def test_everything_from_outside_is_escaped(measured):
    hostile = measured(
        "int8", 0.9, 300, 1.0, HOSTILE, model=HOSTILE, runtime=HOSTILE, unknown={"latency_ms.p95": HOSTILE}
    )
    data = collect_devices([hostile, measured("fp32", 0.9, 900, 1.0, conditions={"before": COOL | {"governor": HOSTILE},
                            "after": COOL, "throttled": None})])  # fmt: skip
    html = render_devices(data)
    assert "<img" not in html and html.count("&lt;img src=x") >= 8
    assert html.count("<title>") == 1 and html.count("<svg") == html.count("</svg>")


def test_a_run_shows_its_devices_where_there_is_more_than_one(make_report, two_devices):
    page = render(make_report(measurements=two_devices))
    assert '<section id="devices"' in page and '<a href="#devices">Devices</a>' in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert 'class="plot"' in page.partition('<section id="devices"')[2].partition("</section>")[0]
    alone = [record for record in two_devices if record.device == HOST]
    assert '<section id="devices"' not in render(make_report(measurements=alone))
    sweep = [*alone, msgspec.structs.replace(alone[0], threads=2)]
    assert '<section id="devices"' in render(make_report(measurements=sweep))
