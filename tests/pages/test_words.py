import pytest

from kd2mobile.pages import columns, words
from kd2mobile.pages.recommending import with_recommendation


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (0.00012, "p < 0.001"),
        (0.0041, "p = 0.004"),
        (0.0496, "p = 0.0496"),
        (0.04999, "p = 0.04999"),
        (0.05, "p = 0.050"),
        (0.0502, "p = 0.050"),
        (0.212, "p = 0.21"),
        (1.0, "p = 1.00"),
    ],
)
def test_a_p_value_never_rounds_across_005(p_value, text):
    assert words.p_words(p_value) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(0.0312, "0.031"), (0.31, "0.31"), (3.1, "3.10"), (31, "31.0"), (1310, "1,310"), (None, "–")]
)
def test_milliseconds(ms, text):
    assert words.milliseconds(ms) == text


def test_what_is_not_a_number_is_a_dash():
    assert [words.percent(float("nan")), words.decimals(None), words.size(None), words.count(None)] == ["–"] * 4


def test_the_headline(make_record, make_pair):
    records = words.tables(with_recommendation([make_record(top1=0.831, top5=0.965, size_bytes=312_000, p50=0.31)]))
    assert words.headline(records, [make_pair(difference=0.023, p_value=0.004)]) == (
        "mobilenet025 int8: 83.1 % top-1 (96.5 % top-5) in 312 KB, 0.31 ms per image; "
        "with the teacher 2.3 points more than on labels alone (McNemar p = 0.004)."
    )
    assert words.headline(records, []).endswith("0.31 ms per image.")
    assert "(fp32 files, McNemar" in words.headline(records, [make_pair(precision="fp32")])
    assert "McNemar p = 0.30, within chance" in words.headline(records, [make_pair(p_value=0.3)])
    assert "1.2 points less than" in words.headline(records, [make_pair(difference=-0.012)])
    assert "the same as on labels alone" in words.headline(records, [make_pair(difference=0.0, p_value=1.0)])


def test_the_headline_leaves_out_what_is_not_known(make_record):
    bare = make_record(precision=None, compression=None, top5=None, size_bytes=None, p50=None)
    assert words.headline(words.tables([bare]), []) == "mobilenet025: 83.0 % top-1."
    assert words.headline([], []) == "No student has been measured yet: run kd2mobile benchmark."


def test_the_headline_of_external_files_alone(make_record):
    other = {"precision": None, "compression": None}
    one = make_record("external", "theirs", top1=0.831, top5=0.965, size_bytes=312_000, p50=0.31, **other)
    said = "theirs: 83.1 % top-1 (96.5 % top-5) in 312 KB, 0.31 ms per image"
    assert words.headline(words.tables([one]), []) == f"{said}."
    two = make_record("external", "zeros", top1=0.01, top5=None, size_bytes=None, p50=None, **other)
    assert words.headline(words.tables([two, one]), []) == f"{said}; zeros: 1.0 % top-1."
    assert words.headline(words.tables([one, make_record(top1=0.5)]), []).startswith("mobilenet025 int8: 50.0 %")


def test_the_headline_takes_the_pair_of_its_own_precision(make_record, make_pair):
    pairs = [make_pair(precision="fp32", difference=0.09), make_pair(precision="int8", difference=0.023)]
    assert "2.3 points" in words.headline(words.tables(with_recommendation([make_record()])), pairs)


def test_only_a_small_p_value_is_called_significant(make_pair):
    assert "is significant at 0.05 for these images and this seed" in words.verdict(make_pair(p_value=0.0499))
    unsure = words.verdict(make_pair(p_value=0.05))
    assert "significant" not in unsure and "can be chance" in unsure


def test_a_loss_is_said_plainly(make_pair):
    worse = words.verdict(make_pair(difference=-0.02, only_a=50, only_b=90, p_value=0.001))
    assert "top-1 with the teacher is 2.0 points lower than on labels alone" in worse
    assert "worse with the teacher" in worse


def test_a_tie_is_said_plainly(make_pair):
    tie = words.verdict(make_pair(difference=0.0, only_a=50, only_b=50, p_value=1.0))
    assert "exactly as many test images are right with the teacher as on labels alone" in tie


def test_records_are_ordered_by_role_then_precision(make_report):
    found = [(r["role"], r["precision"]) for r in words.tables(make_report().records)]
    four = ["fp32", "fp16", "int8_dynamic", "int8"]
    assert found == [("teacher", "fp32"), *(("student", p) for p in four), *(("baseline", p) for p in four)]


def test_an_uncompressed_file_stands_before_the_others(make_record):
    given = [make_record(compression=c, precision=p) for c in ("cluster", "qat", "none") for p in ("int8", "fp32")]
    found = [(r["compression"], r["precision"]) for r in words.tables(given)]
    assert found == [(c, p) for c in ("none", "qat", "cluster") for p in ("fp32", "int8")]


def test_a_dash_says_why(make_record):
    teacher = make_record("teacher", size_bytes=None, p50=None)
    (row,) = columns.rows(words.tables([teacher]))
    assert {cell.why for cell in row.cells if cell.text == "–"} == {
        "it runs in Keras, not as a .tflite on the device",
        "it is the teacher itself",
    }


def test_where_a_device_has_several_settings_each_row_says_its_own(make_record):
    threads = make_record(threads=1, runtime="LiteRT.js 2.5.3, WASM", xnnpack=True)
    gpu = make_record(threads=None, runtime="LiteRT.js 2.5.3, WebGPU (intel gen-12lp)", xnnpack=None)
    rows = columns.rows(words.tables([threads, gpu]))
    assert [row.precision for row in rows] == ["int8, 1 thread", "int8, WebGPU"]
    assert [row.precision for row in columns.rows(words.tables([threads]))] == ["int8"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"threads": 1, "xnnpack": True}, " ms per image."),
        ({"xnnpack": False}, " ms per image (no XNNPACK)."),
        ({"threads": 4, "rule": "mlperf"}, " ms per image (4 threads, MLPerf's rule)."),
    ],
)
def test_the_headline_names_a_setting_that_is_not_the_default(make_record, setting, said):
    assert words.headline(words.tables([make_record(**setting)]), []).endswith(said)


def test_compressions_stand_beside_the_precision(make_record):
    (record,) = words.tables([make_record(compression="prune")])
    assert words.name(record) == "mobilenet025 int8, prune"
