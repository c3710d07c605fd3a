"""`kd2mobile report --records`: files of records from anywhere on one page, and what is no such file."""

import copy
import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from kd2mobile.api.measurement import read_measurements
from kd2mobile.api.results import as_json
from kd2mobile.cli.commands import main_status
from kd2mobile.errors import RecordError
from kd2mobile.files import sha256_of
from kd2mobile.measure.record import read_records
from kd2mobile.pages.choosing import sentence
from kd2mobile.pages.devices import collect_devices
from kd2mobile.pages.recommending import with_recommendation
from kd2mobile.pages.terminal.table import devices_table, text_table
from kd2mobile.pages.view import Measurements

PUBLISHED = Path(__file__).parents[2] / "models" / "mobilenet025-digits-int8" / "record.json"


@pytest.fixture
def records(tmp_path, monkeypatch):
    """Two files of records, of the published model as it was measured and on another device."""
    monkeypatch.chdir(tmp_path)
    record = json.loads(PUBLISHED.read_text("utf-8"))["benchmark"]
    elsewhere = record | {"device": "ssh: a board", "latency_ms": record["latency_ms"] | {"p50": 9.5}}
    Path("host.json").write_text(json.dumps([record]))
    Path("board.json").write_text(json.dumps([elsewhere, record | {"role": "teacher", "device": None}]))


def refused(capsys, *arguments):
    assert main_status(["report", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    return err.splitlines()[-1]


def test_files_of_records_make_one_page_a_table_and_json(records, capsys):
    words = ["--records", "host.json", "board.json", "--json=both.json", "--within", "1"]
    assert main_status(["report", *words, "--out", "both.html"]) == 0
    out = capsys.readouterr().out
    assert "ssh: a board: 1 of 1 file reaches" in out and "Written: both.html, both.json." in out
    found = json.loads(Path("both.json").read_text("utf-8"))
    assert list(found["devices"]["devices"]) == ["A", "B"] and found["devices"]["within"] == 0.01
    assert [choice["fastest"]["latency_ms"]["p50"] for choice in found["devices"]["choices"]][1] == 9.5
    assert "1 file on 2 devices" in Path("both.html").read_text("utf-8")


def test_a_published_models_record_and_the_option_again(records, capsys):
    assert main_status(["report", "--records", str(PUBLISHED), "--records", "board.json", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["devices"]["devices"]) == 2
    assert Path("devices.html").is_file()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "x.json: must be a readable file, got no such file or directory."),
        ("", "x.json: must be JSON in UTF-8, with finite numbers, got an empty file."),
        ("[]", "x.json: must hold records in the format of `kd2mobile benchmark --json`, got none."),
        ("{}", "x.json: benchmark: must be there."),
        ("null", "x.json: must be an object or a list, got null."),
        ("[1]", "x.json: [0]: must be an object, got 1."),
        ('[{"role": "student"}]', "x.json: [0].model: must be there."),
        (
            '[{"role": "student", "model": "m", "n": 5, "top1": 83.1}]',
            "[0].top1: must be a number, at most 1, got 83.1",
        ),
        ('[{"role": "student", "model": "m", "n": -1}]', "x.json: [0].n: must be a whole number, at least 0, got -1."),
        ('[{"role": "student", "model": "m", "n": 1e300}]', "x.json: [0].n: must be a whole number, got 1e+300."),
        (
            '[{"role": "student", "model": "m", "n": 1, "top1": NaN}]',
            "with finite numbers, got something else from byte",
        ),
        ("[" * 100_000, "x.json: must be nested at most 64 levels deep, got more."),
        ("PNG", "x.json: must be JSON in UTF-8, with finite numbers, got something else from byte 0 on."),
    ],
)
def test_a_file_that_holds_no_records(content, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("x.json").write_text(content)
    line = refused(capsys, "--records", "x.json")
    assert said in line
    assert line.endswith("Give a benchmark.json, a file of measurements/ or a record.json of models/.")
    assert not Path("devices.html").exists()


def test_bytes_that_are_no_text_and_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("x.json").write_bytes(b"\xff\xfe\x00")
    assert "x.json: must be JSON in UTF-8, with finite numbers, got bytes that are not" in refused(
        capsys, "--records", "x.json"
    )
    assert ".: must be a file, got a folder." in refused(capsys, "--records", ".")


@pytest.mark.parametrize(
    ("field", "value"), [("p50", 1e300), ("mean", -1.0), ("rounds", [0.0]), ("spread", 1e12), ("n", 2**60)]
)
def test_times_that_cannot_be(records, capsys, field, value):
    record = json.loads(Path("host.json").read_text("utf-8"))
    record[0]["latency_ms"][field] = value
    Path("host.json").write_text(json.dumps(record))
    assert f"host.json: [0].latency_ms.{field}" in refused(capsys, "--records", "host.json")


def test_any_change_of_a_record_is_shown_or_refused(records):
    """Each value of a record in turn is replaced, or its key left out, by what could stand there: 2,000 files."""
    draw = random.Random(13)
    whole = json.loads(PUBLISHED.read_text("utf-8"))["benchmark"]
    shown = refused = 0
    for _ in range(2000):
        changed = copy.deepcopy(whole)
        for _ in range(draw.choice((1, 1, 1, 3))):
            change(changed, draw)
        Path("fuzz.json").write_text(json.dumps([changed]))
        try:
            given = read_records(Path("fuzz.json"))
        except RecordError as fault:
            refused += 1
            assert "\n" not in str(fault) and str(fault).startswith("fuzz.json")
            continue
        shown += 1
        data = collect_devices(given)
        assert as_json(data) and all(sentence(choice) for choice in data.choices)
        assert devices_table(data, terminal=False) and text_table(with_recommendation(given), terminal=False)
    assert shown > 200 and refused > 200


def change(value, draw):
    """One change somewhere in nested JSON."""
    key = draw.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if isinstance(value[key], dict | list) and value[key] and draw.random() < 0.8:
        change(value[key], draw)
    elif isinstance(value, dict) and draw.random() < 0.2:
        del value[key]
    else:
        value[key] = draw.choice(
            (None, True, -1, 0, 1, 2**62, 0.5, -0.5, 1e308, "", "x", "\x00\ud800", [], [None], {}, {"a": 1})
        )


def test_a_teacher_alone_is_no_file(records, capsys):
    teacher = json.loads(Path("board.json").read_text())[1:]
    Path("teacher.json").write_text(json.dumps(teacher))
    assert "teacher.json: must hold records of files, got only records of a teacher." in refused(
        capsys, "--records", "teacher.json"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--records", "host.json", "--within", "-1"], "--within: must be points of top-1 from 0 to 100, got -1.0."),
        (["--records", "host.json", "--min-top1", "0.9"], "--min-top1: must be a percentage above 1, at most 100, got"),
        (["--records", "host.json", "--min-top1", "101"], "at most 100, got 101.0. For example `--min-top1 90`"),
        (["--records", "host.json", "--out", "no/x.html"], "--out: must be a file in an existing folder"),
        (["--records", "host.json", "--json=no/x.json"], "--json: must be a file in an existing folder"),
        (["--records", "host.json", "--run", "runs/x"], "--run must be given without --records."),
        (["host.json"], "FILE, --within and --min-top1 must be given with --records."),
        (["--within", "1"], "FILE, --within and --min-top1 must be given with --records."),
    ],
)
def test_options_that_do_not_go_together(records, arguments, said, capsys):
    assert said in refused(capsys, *arguments)
    assert not Path("devices.html").exists()


def test_a_runs_measurements_are_those_of_its_files_as_they_are(tmp_path):
    record = json.loads(PUBLISHED.read_text("utf-8"))["benchmark"]
    file = PUBLISHED.with_name("model.tflite")
    assert record["sha256"] == sha256_of(file)
    folder = tmp_path / "measurements"
    folder.mkdir()
    (folder / "20260102-000000-host.json").write_text(json.dumps([record | {"threads": 2}]))
    (folder / "20260101-000000-adb.json").write_text(
        json.dumps([record | {"threads": 1}, record | {"sha256": "ab" * 32}])
    )
    run, files = SimpleNamespace(folder=tmp_path), {("student", "int8"): file}
    assert [found.threads for found in read_measurements(run, files, {}).records] == [1, 2]
    assert read_measurements(SimpleNamespace(folder=tmp_path / "new"), files, {}) == Measurements([], [])


def test_a_damaged_file_of_a_runs_measurements_is_left_out_and_named(tmp_path, capsys):
    record = json.loads(PUBLISHED.read_text("utf-8"))["benchmark"]
    folder = tmp_path / "measurements"
    folder.mkdir()
    for day, content in enumerate(("{", json.dumps([record]), "[]"), 1):
        (folder / f"2026010{day}-000000-host.json").write_text(content)
    (folder / ".20260104-000000-host.json.0a1b2c3d.tmp.json").write_text("[")  # another process is at it
    run, files = SimpleNamespace(folder=tmp_path), {("student", "int8"): PUBLISHED.with_name("model.tflite")}
    found = read_measurements(run, files, {})
    assert len(found.records) == 1
    whole, must = (
        "must be JSON in UTF-8, with finite numbers",
        "must hold records in the format of `kd2mobile benchmark --json`",
    )
    assert found.left_out == [
        f"measurements/20260101-000000-host.json is left out: it {whole}, got one that ends too early.",
        f"measurements/20260103-000000-host.json is left out: it {must}, got none.",
    ]
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix(f"{tmp_path.as_posix()}/") + "." for line in lines] == found.left_out
