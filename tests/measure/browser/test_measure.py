"""What becomes of a browser's answers: records, their reasons, and the terminal's lines. A stand-in is the browser."""

import json
from contextlib import closing, suppress
from http.client import HTTPConnection
from itertools import chain
from threading import Thread
from urllib.parse import urlencode, urlsplit

import msgspec
import numpy as np
import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.errors import DeviceError, RecipeError
from kd2mobile.measure.browser import measure
from kd2mobile.measure.browser.device import Options
from kd2mobile.measure.files import FileToMeasure
from kd2mobile.measure.measured import Truth, measured_of
from kd2mobile.measure.protocol import Protocol
from tests.tiny_models import is_explained

from .conftest import opened
from .test_session import HELLO, TIMED

NO_THREADS = "the browser says that it has 2 cores"
NO_KERNEL = "no kernel for it"


class StandIn:
    """A browser without one. faults, again: of its timings, by (accelerator, threads), why they failed or were started
    again; files: those that have them. on_webgpu: what one answer of the last chunk is there."""

    def __init__(self, hello, faults, files=(0, 1), again=(), on_webgpu=None):
        self.again, self.on_webgpu = dict(again), on_webgpu
        self.hello, self.faults, self.files, self.refused, self.job = HELLO | hello, faults, files, [], {}

    def visit(self, url, where):
        Thread(target=self._work, args=(url,), daemon=True).start()

    def _work(self, url):
        try:
            self._measure(url)
        except AssertionError as refused:
            self.refused.append(str(refused))
            with suppress(OSError):  # it may have ended already
                self._ask(url, "POST", "fault", {"line": str(refused)[:400]}, visit=self.job["visit"])

    def _measure(self, url):
        job = self.job = json.loads(self._ask(url, "POST", "hello", self.hello))
        ways = [("wasm", threads) for threads in job["threads"]]
        passes = []
        for file, work in enumerate(job["files"]):
            for way in ways + [("webgpu", 1)] * bool(work["webgpu"] and self.hello["webgpu"]):
                fault = self.faults.get(way) if file in self.files else None
                timed = {"accelerator": way[0], "threads": way[1]}
                times = TIMED["times_ms"] * (job["timing"]["runs"] // 3 + 1)
                if way in self.again and file in self.files:
                    why = {"accelerator": way[0], "threads": way[1], "why": self.again[way]}
                    self._ask(url, "POST", "again", why, visit=job["visit"], file=file)
                timed = timed | {"fault": fault} if fault else TIMED | {"times_ms": times} | timed
                self._ask(url, "POST", "timed", timed, visit=job["visit"], file=file)
                if not fault and way in [("wasm", job["threads"][0]), ("webgpu", 1)]:
                    passes.append((file, way[0]))
        for chunk in range(job["input_forms"][0]["chunks"]):
            pixels = self._ask(url, "GET", f"pixels/0/{chunk}")
            for file, accelerator in passes:
                classes = len(job["files"][file]["labels"] or "bgr")
                answers = np.full((len(pixels) // (8 * 8 * 3), classes), 1 / classes, np.float32)
                if accelerator == "webgpu" and self.on_webgpu and chunk == job["input_forms"][0]["chunks"] - 1:
                    answers[-1, -1] = self.on_webgpu
                answers = answers.tobytes()
                about = {"visit": job["visit"], "file": file, "accelerator": accelerator, "chunk": chunk}
                self._ask(url, "POST", "outputs", answers, **about)
        self._ask(url, "POST", "done", b"", visit=job["visit"])

    def _ask(self, url, method, path, body=b"", **query):
        parts = urlsplit(url)
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        with closing(HTTPConnection(parts.hostname, parts.port)) as connection:
            connection.request(method, f"{parts.path}{path}?{urlencode(query)}", body)
            answer = connection.getresponse()
            held = answer.read()
        assert answer.status == 200, held.decode()
        return held


@pytest.fixture
def measured(models, photos, monkeypatch):
    """measured(protocol, hello, faults): the records of a float file and of a quantized one."""
    monkeypatch.setattr(measure, "litert_js", lambda: ("2.1.0", {}))

    def measured(protocol, hello=(), faults=(), names=("uint8", "full_uint8"), **how):
        images = sorted(photos.rglob("*.png"))
        labels = np.zeros(len(images), int)
        files = opened([FileToMeasure(path=models / f"{name}.tflite") for name in names], protocol)
        browser = StandIn(dict(hello), dict(faults), **how)
        from_browser = measure.measure("", Options(), files, images, protocol, show=browser.visit)
        assert browser.refused == []
        truth = Truth(labels, None, "0123456789abcdef", "2026-11-30T12:00:00Z")
        records = [
            measured_of(one, answered, from_browser, truth, protocol).records
            for one, answered in zip(files, from_browser.answered, strict=True)
        ]
        for record in chain(*records):
            assert is_explained(json.loads(msgspec.json.encode(record)))
        return records

    return measured


def reasons(record):
    """Which of what a page cannot tell is None, each with its reason."""
    fields = ("peak_rss_mib", "conditions", "affinity", "init_ms", "first_run_ms", "latency_ms", "threads", "xnnpack")
    return {field: record.unknown[field] for field in fields if getattr(record, field) is None}


NOT_REPORTED = {
    "peak_rss_mib": "a page cannot read its peak memory",
    "conditions": "a page cannot read governor, temperature or clock",
    "affinity": "a page cannot choose its cores",
}


def test_every_record_has_a_reason_for_each_none(measured):
    protocol = Protocol(threads=(1, 4), xnnpack=(True, False), runs=3)
    on_float, quantized = measured(protocol, {"webgpu": "an adapter"}, {("wasm", 4): NO_THREADS})
    ran, too_many, *without, on_gpu = on_float
    none = dict.fromkeys(("init_ms", "first_run_ms", "latency_ms"))
    assert len(quantized) == 4 and reasons(ran) == NOT_REPORTED and ran.n == 7 and ran.latency_ms.p50 == 2
    assert reasons(too_many) == NOT_REPORTED | dict.fromkeys(none, NO_THREADS)
    for record in without:
        assert reasons(record) == NOT_REPORTED | dict.fromkeys(none, "LiteRT.js has no switch for XNNPACK")
    assert reasons(on_gpu) == NOT_REPORTED | {
        "threads": "WebGPU has no number of threads",
        "xnnpack": "XNNPACK runs on the processor, and this ran on WebGPU",
    }
    assert on_gpu.n == 7 and on_gpu.runtime == "LiteRT.js 2.1.0, WebGPU (an adapter)"


def test_a_webgpu_that_fails_is_a_record_with_its_reason_and_a_line(measured, capsys):
    on_float, quantized = measured(Protocol(runs=3), {"webgpu": "an adapter"}, {("webgpu", 1): f"{NO_KERNEL}\a"})
    wasm, failed = on_float
    assert wasm.n == 7 and len(quantized) == 1
    assert failed.n == 0 and failed.runtime == "LiteRT.js 2.1.0, WebGPU (an adapter)"
    for field in (
        "init_ms",
        "first_run_ms",
        "latency_ms",
        "top1",
        "top5",
        "logloss",
        "ece",
        "teacher_agreement",
        "images",
    ):
        assert getattr(failed, field) is None and failed.unknown[field] == f"{NO_KERNEL}\a"
    stderr = capsys.readouterr().err
    assert stderr.count(f"not measured: uint8.tflite on WebGPU: {NO_KERNEL}\\x07\n") == 1, "escaped for the terminal"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_webgpu_that_answers_no_numbers_keeps_its_times_and_the_rest(value, measured, capsys):
    wasm, on_gpu = measured(Protocol(runs=3), {"webgpu": "an adapter"}, on_webgpu=value)[0]
    why = "its outputs are not finite"
    assert wasm.n == 7 and on_gpu.n == 0 and on_gpu.latency_ms.p50 == 2 and on_gpu.unknown["top1"] == why
    assert f"not evaluated: uint8.tflite on WebGPU: {why}\n" in capsys.readouterr().err


def test_a_browser_without_webgpu_is_reported_once_where_it_matters(measured, capsys):
    without = "this browser has no WebGPU: files are measured on WASM only\n"
    measured(Protocol(runs=3))
    assert capsys.readouterr().err.count(without) == 1
    measured(Protocol(runs=3), names=("full_uint8",))
    assert without not in capsys.readouterr().err


def test_a_setting_that_cannot_run_is_reported_once_for_all_files(measured, capsys):
    measured(Protocol(threads=(1, 4), runs=3), faults={("wasm", 4): NO_THREADS})
    assert capsys.readouterr().err.count(f"not measured: 4 threads in this browser: {NO_THREADS}\n") == 1


def test_a_repeated_timing_is_reported(measured, capsys):
    gpu, wasm = ("webgpu", 1), ("wasm", 2)
    again = {gpu: "hidden", wasm: "too short"}
    measured(Protocol(threads=(1, 2), rule="mlperf"), {"webgpu": "an adapter"}, again=again, files=(0,))
    assert capsys.readouterr().err.splitlines()[1:] == [
        "uint8.tflite, WASM, 2 threads: timed again from the start, because its batches were too short for the "
        "browser's clock",
        "uint8.tflite, WebGPU: timed again from the start, because the page was hidden. Keep it in front",
    ]


def test_cores_are_refused_since_a_page_cannot_choose_them(measured):
    with pytest.raises(RecipeError, match=r"cores: must not be given for a browser, got 0, 1\. A page cannot"):
        measured(Protocol(cores=(0, 1)))


def test_the_first_setting_must_run_since_it_is_evaluated(measured):
    with pytest.raises(DeviceError) as refused:
        measured(Protocol(threads=(4, 1), runs=3), faults={("wasm", 4): NO_THREADS})
    assert str(refused.value) == (
        "benchmark.threads: must begin with a number that this browser supports, because the first is used for "
        "accuracy, got 4: "
        f"{NO_THREADS}. Give a smaller number first, such as --threads 1."
    )


def test_xnnpack_off_alone_is_refused_before_a_browser_is_opened(measured, models, photos, monkeypatch, capsys):
    message = (
        "benchmark.xnnpack: must be on in a browser, got off. LiteRT.js cannot switch it off: leave out --xnnpack, or "
        "measure on another device."
    )
    with pytest.raises(RecipeError) as refused:
        measured(Protocol(xnnpack=(False,)))
    assert str(refused.value) == message
    command = ["benchmark", "--device", "browser", "--no-open", "--model", str(models / "uint8.tflite")]
    assert main_status([*command, "--data", str(photos), "--xnnpack", "off"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model", "labels", "shown"),
    [
        ("uint8", ["blue", "green", "red"], ["blue", "green", "red"]),
        ("uint8", ["Blue", "GREEN", "red"], ["Blue", "GREEN", "red"]),
        ("background", ["3 red", "1 blue", "0 nothing", "2 green"], ["nothing", "blue", "green", "red"]),
        ("uint8", None, ["blue", "green", "red"]),
        ("background", None, ["background", "blue", "green", "red"]),
    ],
)
def test_the_page_shows_the_names_of_the_labels_or_of_the_folders(
    model, labels, shown, models, photos, tmp_path, monkeypatch
):
    browser = StandIn({}, {})
    monkeypatch.setattr(measure, "litert_js", lambda: ("2.1.0", {}))
    monkeypatch.setattr(measure, "show_url", browser.visit)
    flags = []
    if labels:
        (tmp_path / "labels.txt").write_text("\n".join(labels))
        flags = ["--labels", str(tmp_path / "labels.txt")]
    command = ["benchmark", "--device", "browser", "--model", str(models / f"{model}.tflite"), "--data", str(photos)]
    assert main_status([*command, *flags]) == 0
    assert browser.job["files"][0]["labels"] == shown and browser.refused == []
