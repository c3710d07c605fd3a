"""The suites under benchmarks/ as far as they go without training: what they record, what they do with a refusal."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

REFUSAL = "mobilenet025-prune-int8.tflite: must agree with its student on at least 90 %, got 80 %. Train longer."


@pytest.fixture
def suite(benchmark_script, tmp_path, monkeypatch):
    """benchmarks/compression.py in an empty folder, with two seeds and made-up answers: prune's int8 is refused with
    seed 1."""
    monkeypatch.chdir(tmp_path)
    names = benchmark_script("compression")
    inside = names["run"].__globals__
    commands = []

    def call(command, folder, paths, may_refuse=False):
        commands.append(command)
        made = [v for v in names["VARIANTS"] if folder.name[-1] != "1" or v != "prune-int8"]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps({"exported": made}))
        (folder / "benchmark.json").write_text("[]")
        assert may_refuse == (command[0] == "export"), "nothing else may be refused"
        return REFUSAL if folder.name[-1] == "1" and "prune" in command else None

    changed = {
        "call": call,
        "SEEDS": (0, 1),
        "right": lambda folder, name: np.arange(100) < (80 if name.startswith("student-q") else 90),
        "counted": lambda folder, variant: {"size_bytes": 341_000, "compressed_bytes": 310_000},
        "compared": lambda folder, a, b: {"difference": 0.0},
    }
    for name, value in changed.items():
        monkeypatch.setitem(inside, name, value)
    return names, commands


def test_a_refused_file_costs_the_suite_nothing_but_itself(suite, benchmark_script):
    names, commands = suite
    runs = [names["run"]("mobilenet025", seed, {}) for seed in (0, 1)]
    assert [command[0] for command in commands[:6]] == ["distill", *["export"] * 4, "benchmark"]
    assert [run["refused"] for run in runs] == [{}, {"prune": REFUSAL}]
    assert "prune-int8" in runs[0]["files"] and "prune-int8" not in runs[1]["files"] | runs[1]["against_fp32"]
    over = names["over_seeds"]("mobilenet025")
    prune, qat = over["variants"]["prune-int8"], over["variants"]["qat-int8"]
    assert (prune["top1"], prune["met"], prune["refused_seeds"]) == (None, False, [1])
    assert qat["difference"] == pytest.approx(-0.1) and (qat["met"], qat["refused_seeds"]) == (False, [])
    assert over["variants"]["int8"]["met"] and over["variants"]["cluster-int8"]["met"] is None
    record = {"file": "x.json", "finished": "2026-11-22", "command": "x", "runs": runs, "over_seeds": [over]}
    table = benchmark_script("table")["compression"](record)
    assert "| prune-int8 | – | refused with seed 1 | -0.7, missed | 341 | 310 |" in table
    assert table.endswith(f"\n\nmobilenet025, seed 1, prune refused: {REFUSAL}\n")


def test_without_the_reference_nothing_is_compared(suite, monkeypatch):
    names, _ = suite
    names["run"]("mobilenet025", 0, {})
    names["run"]("mobilenet025", 1, {})
    monkeypatch.setitem(names["run"].__globals__, "exported", lambda folder: ["int8"])
    over = names["over_seeds"]("mobilenet025")
    assert over["top1_fp32"] is None
    assert (over["variants"]["int8"]["top1"], over["variants"]["int8"]["difference"]) == (0.9, None)
    assert over["variants"]["int8"]["met"] is False


def test_a_refusal_is_the_message_of_the_command_and_anything_else_stops(benchmark_script, capfd):
    call = benchmark_script("caltech101")["call"]
    command, run = ["export", "--precision", "auto,$OTHER"], Path("runs/none")
    message = call(command, run, {"$OTHER": "int8"}, may_refuse=True)
    assert message.startswith("--precision: must be auto alone") and message in capfd.readouterr().err
    with pytest.raises(subprocess.CalledProcessError):
        call(command, run, {"$OTHER": "int8"})


def test_a_record_names_the_command_that_made_it(benchmark_script, tmp_path, monkeypatch, capsys):
    write_record = benchmark_script("records")["write_record"]
    monkeypatch.setitem(write_record.__globals__, "RESULTS", tmp_path)
    write_record("startup", "python benchmarks/startup.py", rounds=3)
    (file,) = tmp_path.iterdir()
    assert capsys.readouterr().out == f"Written: {file}. Next: python benchmarks/table.py\n"
    record = json.loads(file.read_text())
    assert list(record) == ["suite", "command", "finished", "made_with", "groups", "rounds"] and record["rounds"] == 3
    assert record["groups"] is True, "near duplicates stay in one split: TABLE.md does not mark the record"
    assert file.name.startswith("startup-2") and record["made_with"]["kd2mobile"]


def test_results_of_before_there_were_groups_are_marked(benchmark_script):
    names = benchmark_script("table")
    section = (
        "## Title\n\n`python x.py`\n\n### Part\n\n| student | top-1 |\n|---|---:|\n| net | 88 |\n\n- fp32: better.\n"
    )
    text = names["marked"](section, {"leaked": 23, "test_images": 1_736})
    assert "| student | top-1 |\n|---|---:|\n| † net | 88 |\n\n- † fp32: better.\n" in text
    assert (
        "`python x.py`\n\n† Measured without groups: 23 of the 1,736 test photos of this draw look like one of" in text
    )
    assert text.partition("by at most ")[2].startswith("1.4 points.")
    old = {"suite": "tuning"}
    assert names["without_groups"](old) and not names["without_groups"](old | {"groups": True})
    assert not names["without_groups"]({"suite": "arm"}), "digits have no near duplicates"
