"""The settings of a protocol, and that each reaches the process that times."""

import json

import msgspec
import numpy as np
import pytest

from kd2mobile.api.measurement import protocol_of
from kd2mobile.cli.commands import main_status
from kd2mobile.errors import DeviceError, RecipeError, UnknownNameError
from kd2mobile.measure.files import FileToMeasure
from kd2mobile.measure.litert import worker
from kd2mobile.measure.measured import measure_files
from kd2mobile.measure.protocol import Protocol, Setting, Span
from kd2mobile.recipe.compose import compose
from tests.tiny_models import COLOURS, is_explained

from .conftest import image


def test_a_recipe_defines_the_protocol():
    table = {"threads": [1, 2], "xnnpack": "both", "cores": [0], "rule": "mlperf", "latency_runs": 200}
    recipe = compose(settings={f"benchmark.{field}": value for field, value in table.items()})
    protocol = protocol_of(recipe.benchmark)
    assert protocol.settings == [Setting(1, True), Setting(2, True), Setting(1, False), Setting(2, False)]
    assert protocol.span == Span(1024, 60.0, None) and protocol.cores == (0,)
    plain = protocol_of(compose().benchmark)
    assert plain.settings == [Setting(1, True)] and plain.span.runs == 300


@pytest.mark.parametrize(("field", "value"), [("threads", 0), ("threads", [1, 0]), ("threads", []), ("cores", [-1])])
def test_numbers_that_cannot_be(field, value):
    with pytest.raises(RecipeError, match=f"settings, benchmark.{field}"):
        compose(settings={f"benchmark.{field}": value})


def test_each_setting_is_a_record_and_the_first_is_evaluated(models, tmp_path):
    red = image(tmp_path / "red.png", COLOURS["red"])
    protocol = Protocol(threads=(1, 2), xnnpack=(True, False), cores=(0,))
    (measured,) = measure_files([FileToMeasure(path=models / "uint8.tflite")], [red], np.array([2]), protocol=protocol)
    assert [(r.threads, r.xnnpack) for r in measured.records] == [(1, True), (2, True), (1, False), (2, False)]
    assert ["XNNPACK" in r.runtime for r in measured.records] == [True, True, False, False]
    assert measured.record is measured.records[0] and (measured.record.n, measured.record.top1) == (1, 1.0)
    for other in measured.records[1:]:
        assert (other.n, other.top1, other.top5, other.logloss, other.ece, other.teacher_agreement) == (0, *[None] * 5)
        assert other.unknown["top1"] == "evaluated with the first setting alone: 1 thread, XNNPACK on"
    for record in measured.records:
        as_json = json.loads(msgspec.json.encode(record))
        assert is_explained(as_json)
        assert record.affinity == [0] and record.rule == "kd2mobile" and record.latency_ms.p95 > 0
        assert record.conditions.before.load is not None and record.measured_at.endswith("Z")


def test_memory_is_the_files_however_long_it_is_timed(models):
    """A list of a million times would be tens of MiB."""
    short, long = (worker.profile_file(models / "uint8.tflite", span=Span(runs, 0.0, None)) for runs in (1, 1_000_000))
    assert long.latency_ms.n == 1_000_000 and long.peak_rss_mib < short.peak_rss_mib + 10


def test_cores_that_are_not_there(models):
    with pytest.raises(DeviceError, match=r"benchmark.cores: must be among the cores .*, got 0, 4096\. Leave --cores"):
        worker.profile_file(models / "uint8.tflite", cores=(0, 4096))


def test_an_unknown_device(models, tmp_path):
    red = image(tmp_path / "red.png", COLOURS["red"])
    with pytest.raises(UnknownNameError, match=r"benchmark.device: must be one of host.*, got 'fridge:4'"):
        measure_files([FileToMeasure(path=models / "uint8.tflite")], [red], np.array([2]), device="fridge:4")
    with pytest.raises(DeviceError, match=r"--device host: must have no address, got host:1"):
        measure_files([FileToMeasure(path=models / "uint8.tflite")], [red], np.array([2]), device="host:1")


def test_a_sweep_on_the_command_line(models, tmp_path, capsys):
    for name, colour in COLOURS.items():
        image(tmp_path / "data" / name / "a.png", colour)
    (tmp_path / "labels.txt").write_text("\n".join(sorted(COLOURS)))
    model = ["--model", str(models / "uint8.tflite"), "--data", str(tmp_path / "data")]
    assert main_status(["benchmark", *model, "--labels", str(tmp_path / "labels.txt"), "--threads", "1,2"]) == 0
    table = capsys.readouterr().out
    assert "1 thread" in table and "2 threads" in table
    assert main_status(["benchmark", *model, "--threads", "1,x"]) == 2
    assert "--threads, benchmark.threads: must be" in capsys.readouterr().err
    assert main_status(["benchmark", *model, "--device", "fridge"]) == 2
    assert "benchmark.device: must be one of host" in capsys.readouterr().err
