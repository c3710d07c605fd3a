"""The page in headless Chromium: what it measures, and what it shows."""

import base64
import re
import socket
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from kd2mobile.errors import DeviceError
from kd2mobile.measure.browser import session
from kd2mobile.measure.browser.device import Options
from kd2mobile.measure.browser.server import own_address
from kd2mobile.measure.browser.session import Patience
from kd2mobile.measure.files import FileToMeasure, Opened
from kd2mobile.measure.host.measure import render_input_forms
from kd2mobile.measure.measured import Truth, measure_files, measured_of
from kd2mobile.measure.protocol import Protocol
from kd2mobile.metrics import top1
from tests.chromium import browser, needs_chromium
from tests.tiny_models import by_hand

from .conftest import needs_litert_js, until_it_ends
from .conftest import opened as opened_as_files

pytestmark = [needs_chromium, needs_litert_js]
LEAST_AGREEMENT = 0.99
QUICK = Protocol(threads=(1,), runs=0)


def opened(paths, protocol, **how) -> list[Opened]:
    return opened_as_files([FileToMeasure(path=path, **how) for path in paths], protocol)


def test_it_answers_as_litert_on_this_host_does(measured_in, digits_in_tflite, chromium):
    """Two threads where the machine has two cores; both clocks, the page's own facts and the records."""
    digits, protocol = digits_in_tflite, Protocol(threads=(1, 2, 4000), runs=100)
    files = opened([digits.files["fp32"], digits.files["int8"]], protocol)
    from_browser = measured_in(files, digits.photos, protocol)
    assert from_browser.skipped == [] and from_browser.evaluated.tolist() == list(range(300))
    assert re.match(r"browser: HeadlessChrome \d+ on Linux \w+, ", from_browser.words) and from_browser.words.endswith(
        (" core", " cores")
    )
    for precision, answered in zip(("fp32", "int8"), from_browser.answered, strict=True):
        assert answered.outputs.dtype == np.float32 and answered.outputs.shape == (300, 10)
        assert (top1(answered.outputs) == digits.here[precision]).mean() >= LEAST_AGREEMENT, precision
        one, two, too_many = answered.profiles
        assert (one.threads, two.threads, too_many.threads) == (1, 2, 4000)
        for profile in answered.profiles:
            assert profile.isolated is True and 0 < profile.clock_step_ms < 0.1, "a fine clock, as isolated"
            assert profile.runtime.startswith("LiteRT.js 2.") and profile.runtime.endswith(", WASM")
            assert profile.decoder.startswith("Pillow ")
            assert {"peak_rss_mib", "conditions"} <= profile.unknown.keys()
        assert one.init_ms > 0 and one.first_run_ms > 0 and one.latency_ms.n >= 100
        assert one.latency_ms.p50 * one.latency_ms.steps >= 50 * one.clock_step_ms * 0.999, "batches of 50 steps"
        assert too_many.latency_ms is None and "cores" in too_many.unknown["latency_ms"]
    record = measured_of(
        files[1],
        from_browser.answered[1],
        from_browser,
        Truth(digits.labels, None, "0" * 16, "2026-11-30T12:00:00Z"),
        protocol,
    ).record
    assert record.device == from_browser.words and record.n == 300 and record.top1 > 0.9 and record.precision == "int8"


def test_images_are_evaluated_with_the_threads_that_come_first(measured_in, digits_in_tflite, chromium):
    """Each file alone then, in as many threads as LiteRT.js has workers for."""
    cores = chromium.value("navigator.hardwareConcurrency")
    if cores < 2:
        pytest.skip("one core has no threads")
    digits, protocol = digits_in_tflite, Protocol(threads=(min(cores, 4), 1), runs=0)
    files = opened([digits.files["fp32"], digits.files["int8"]], protocol)
    from_browser = measured_in(files, digits.photos[:100], protocol)
    for precision, answered in zip(("fp32", "int8"), from_browser.answered, strict=True):
        agreement = (top1(answered.outputs) == digits.here[precision][:100]).mean()
        assert agreement >= LEAST_AGREEMENT, precision
        assert answered.profiles[0].unknown["latency_ms"] == "not requested"
    with pytest.raises(DeviceError, match="^benchmark.threads: must begin with a number .* says that it has"):
        measured_in(files, digits.photos, Protocol(threads=(4000,)))


def test_open_outputs_floats_and_backgrounds_are_read_as_on_this_host(measured_in, models, photos):
    names = ["logits", "float", "full_uint8", "sigmoid", "pooled", "background"]
    images, labels = sorted(photos.rglob("*.png")), np.zeros(7, int)
    files = [FileToMeasure(path=models / f"{name}.tflite", mean=127.5, std=127.5) for name in names]
    host = measure_files(files, images, labels, protocol=QUICK)
    from_browser = measured_in(opened_as_files(files, QUICK), images, QUICK)
    for name, here, there in zip(names, host, from_browser.answered, strict=True):
        (one,) = opened_as_files([files[names.index(name)]], QUICK)
        measured = measured_of(one, there, from_browser, Truth(labels, None, "0" * 16, "2026-11-30T12:00:00Z"), QUICK)
        step = 1 / 256 if name == "full_uint8" else 1e-5
        assert np.abs(measured.probabilities - here.probabilities).max() <= step, name
        assert there.profiles[0].latency_ms is None and there.profiles[0].init_ms > 0


def test_a_page_that_is_closed_ends_it(measured_in, models, photos):
    images, a_minute = sorted(photos.rglob("*.png")), Protocol(rule="mlperf")

    def leave(page):
        page.until("document.getElementById('doing').textContent !== 'Starting'")
        page.open("about:blank")

    with pytest.raises(DeviceError, match="must keep the page open until it is done, got a page that was closed"):
        files = opened([models / "uint8.tflite"], a_minute)
        measured_in(files, images, a_minute, look=leave, patience=Patience(closed=0.2))


def test_a_page_that_is_reloaded_goes_on(measured_in, models, photos, chromium, monkeypatch):
    """It is reloaded while it waits for the pixels."""
    images, reloaded = sorted(photos.rglob("*.png")), Event()
    files = opened([models / "uint8.tflite"], QUICK)

    def held(path, input_forms):
        reloaded.wait()
        return render_input_forms(path, input_forms)

    monkeypatch.setattr(session, "render_input_forms", held)

    def reload(page):
        """As a phone whose browser keeps its model to itself; the address without its last slash."""
        page.send("Emulation.setTouchEmulationEnabled", enabled=True)
        page.until("document.getElementById('doing').textContent !== 'Starting'")
        page.open(page.value("location.href").rstrip("/"))
        reloaded.set()
        until_it_ends(page)

    from_browser = measured_in(files, images, QUICK, look=reload)
    assert len(from_browser.evaluated) == 7 and re.search(r", screen \d+ x \d+ at 1\.00, ", from_browser.words)


@pytest.mark.parametrize("secure", [False, True])
def test_on_the_network_a_plain_address_gets_no_threads_and_a_certificate_gives_them(
    secure, request, measured_in, models, photos, tmp_path
):
    """By this host's address in the network, as a phone would come."""
    try:
        with socket.create_server(("", 0)) as server:
            socket.create_connection((own_address(), server.getsockname()[1]), timeout=5).close()
    except OSError as fault:
        pytest.skip(f"this host has no address in a network: {fault}")
    protocol, images = Protocol(threads=(1, 2), runs=20), sorted(photos.rglob("*.png"))
    options = Options(lan=True)
    if secure:
        certificate, key = request.getfixturevalue("certificate")
        options = Options(lan=True, tls=(certificate, key))
    with browser(tmp_path, "--ignore-certificate-errors") as phone:
        files = opened([models / "uint8.tflite"], protocol)
        from_browser = measured_in(files, images, protocol, page=phone, options=options)
        facts = phone.value("document.getElementById('facts').textContent")
    one, two = from_browser.answered[0].profiles
    assert one.isolated is two.isolated is secure and one.latency_ms.n >= 20
    assert one.latency_ms.p50 * one.latency_ms.steps >= 50 * one.clock_step_ms * 0.999
    if secure:
        assert two.latency_ms.n >= 20 and "cross-origin isolated: threads" in facts
    else:
        assert two.latency_ms is None and "not cross-origin isolated" in two.unknown["latency_ms"]
        assert one.clock_step_ms >= 0.05 and one.latency_ms.steps > 1, "a coarse clock, so batches"
        assert "a plain http address: no threads, no WebGPU, no camera" in facts


def test_a_float_file_runs_on_webgpu_too_with_answers_of_its_own(measured_in, models, photos, tmp_path):
    """Chromium's own WebGPU in software; skipped where this build has none."""
    flags = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]
    protocol, images = Protocol(threads=(1,), runs=3), sorted(photos.rglob("*.png"))
    with browser(tmp_path, *flags, without=["--disable-gpu"]) as software:
        files = opened([models / "uint8.tflite", models / "full_uint8.tflite"], protocol)
        from_browser = measured_in(files, images, protocol, page=software)
        if software.value("document.getElementById('facts').textContent").endswith("no WebGPU"):
            pytest.skip("this Chromium has no WebGPU in software")
    on_float, on_quantized = from_browser.answered
    assert on_quantized.others == []
    (other,) = on_float.others
    assert other.profiles[0].runtime.startswith("LiteRT.js") and "WebGPU (" in other.profiles[0].runtime
    assert other.profiles[0].threads is None and other.profiles[0].latency_ms.n >= 3
    assert other.outputs.shape == (7, 3) and np.abs(other.outputs - on_float.outputs).max() < 0.01
    measured = measured_of(
        files[0], on_float, from_browser, Truth(np.zeros(7, int), None, "0" * 16, "2026-11-30T12:00:00Z"), protocol
    )
    assert [record.threads for record in measured.records] == [1, None] and measured.records[1].n == 7


def drop(chromium, path: Path):
    """Drops the file onto the page, and waits for its classes."""
    content = base64.b64encode(path.read_bytes()).decode()
    chromium.value("for (const id of ['classes', 'took']) document.getElementById(id).replaceChildren()")
    chromium.value(f"""{{
        const bytes = Uint8Array.from(atob('{content}'), (c) => c.charCodeAt(0));
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([bytes], 'an image'));
        document.getElementById('drop').dispatchEvent(new DragEvent('drop', {{dataTransfer, cancelable: true}}));
    }}""")
    chromium.until("document.querySelector('#classes li') || document.getElementById('took').textContent")


CLASSES = "[...document.querySelectorAll('#classes li')].map((line) => line.textContent.trim())"


def test_a_person_tries_images_when_it_is_done_and_names_are_text(measured_in, own, photos, tmp_path, chromium):
    names = ["<img src=x onerror=alert(1)>", "a&amp;b", "red"]
    file = own("uint8", classes=names)
    (photos.parent / "renamed").mkdir()
    images = sorted(photos.rglob("*.png"))
    measured_in(opened([file], QUICK), images, QUICK, width=360)
    assert chromium.value("document.documentElement.scrollWidth") == 360, "a phone sees no sideways scrolling"
    drop(chromium, photos / "blue" / "plain.png")
    shown = chromium.value(CLASSES)
    assert [line[: len(name)] for line, name in zip(shown, names, strict=True)] == names
    assert chromium.value("document.querySelectorAll('#classes img').length") == 0
    assert shown[0].endswith(f"{by_hand((0, 0, 255))[0]:.1%}".replace("%", " %"))
    (tmp_path / "text.png").write_text("no image")
    drop(chromium, tmp_path / "text.png")
    assert chromium.value("document.getElementById('took').textContent").startswith("This browser cannot read")
    heard = chromium.heard()
    assert ("button", "Use the camera") in heard and any(role == "progressbar" and name for role, name in heard)


def test_only_litert_js_writes_to_the_console(measured_in, models, photos, chromium):
    measured_in(opened([models / "uint8.tflite"], QUICK), sorted(photos.rglob("*.png")), QUICK)
    faults = [event for event in chromium.said if "exceptionDetails" in event]
    refused = [event["entry"]["text"] for event in chromium.said if "entry" in event]
    assert faults == [] and not any("Content Security Policy" in line or "404" in line for line in refused)
