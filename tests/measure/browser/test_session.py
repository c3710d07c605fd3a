"""What a page may say, in what order, and what becomes of a browser that goes away. No browser takes part."""

import json
import random

import numpy as np
import pytest

from kd2mobile.errors import DeviceError, ImageError, ModelFileError
from kd2mobile.measure.browser.messages import Hello
from kd2mobile.measure.browser.server import Refusal
from kd2mobile.measure.browser.session import AGAIN, Done, Evaluated, Patience, Session
from kd2mobile.measure.files import FileToMeasure
from kd2mobile.measure.protocol import Protocol

from .conftest import opened

PROTOCOL = Protocol(threads=(1, 2), runs=3)
HELLO = {
    "user_agent": "a browser",
    "model": None,
    "cores": 2,
    "isolated": True,
    "clock_step_ms": 0.1,
    "webgpu": None,
    "features": ["relaxedSimd"],
}
TIMED = {
    "accelerator": "wasm",
    "threads": 1,
    "init_ms": 1.0,
    "first_run_ms": 2.0,
    "times_ms": [1.0, 2.0, 3.0],
    "steps": 5,
}
"""Batches of 5 ms at least, as a clock of 0.1 ms wants them."""
AGAIN_POSTED = {"accelerator": "wasm", "threads": 1, "why": "too short"}
TOO_SHORT = "More than half of the timed values must span 50 steps of the clock."


class Page:
    """A page's side of a session, without a browser."""

    def __init__(self, session):
        self.session, self.routes, self.visit = session, session.routes(), "0"

    def post(self, path, body=b"", **query):
        route = self.routes["POST", path]
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        assert len(body) <= route.most_bytes or path == "hello"
        reply = route.answer({"visit": self.visit} | {name: str(value) for name, value in query.items()}, body)
        return json.loads(reply.body)

    def get(self, path):
        return self.routes["GET", path].answer({}, b"").body

    def hello(self, **changes):
        job = self.post("hello", HELLO | changes)
        self.visit = str(job["visit"])
        return job

    def refused(self, path, body=b"", **query):
        """Status and line of a post that must be refused."""
        with pytest.raises(Refusal) as refusal:
            self.post(path, body, **query)
        return refusal.value.status, refusal.value.line


@pytest.fixture
def session_of(models, photos):
    """session_of("uint8", ...): a Session of these files on seven images in two chunks."""

    def make(*names, protocol=PROTOCOL, images=None, chunk=4, **how):
        images = images or sorted(photos.rglob("*.png"))
        files = [FileToMeasure(path=models / f"{name}.tflite", mean=127.5, std=127.5) for name in names]
        return Session(opened(files, protocol), images, protocol, most_in_a_chunk=chunk, **how)

    return make


@pytest.fixture
def page(session_of):
    """A page that has said hello, of one file."""
    page = Page(session_of("uint8"))
    page.hello()
    return page


def time_all(page, file=0):
    for threads in (1, 2):
        page.post("timed", TIMED | {"threads": threads}, file=file)


def test_a_whole_measurement_in_order(session_of):
    page = Page(session_of("uint8", "float"))
    job = page.hello(webgpu="an adapter")
    assert [file["name"] for file in job["files"]] == ["uint8.tflite", "float.tflite"]
    assert [(file["mean"], file["webgpu"]) for file in job["files"]] == [(None, True), ([127.5], True)]
    assert job["input_forms"] == [{"px": 8, "chunks": 2}] and job["threads"] == [1, 2]
    assert job["timing"] == {"runs": 3, "seconds": 1.0, "most": 20000, "batch_steps": 50}
    assert page.get(job["files"][0]["url"])[4:8] == b"TFL3"
    for file in (0, 1):
        time_all(page, file)
        fault = {"fault": "no kernel for it"} if file else {}
        page.post("timed", TIMED | {"accelerator": "webgpu"} | fault, file=file)
    assert sorted(page.session.passes()) == [(0, "wasm"), (0, "webgpu"), (1, "wasm")]
    for chunk, count in enumerate((4, 3)):
        assert len(page.get(f"pixels/0/{chunk}")) == count * 8 * 8 * 3
        for file, accelerator in page.session.passes():
            answers = np.full((count, 3), file, np.float32)
            page.post("outputs", answers.tobytes(), file=file, accelerator=accelerator, chunk=chunk)
    page.post("done")
    events = [page.session.next() for _ in range(1 + 6 + 6 + 1)]
    assert isinstance(events[0], Hello) and isinstance(events[-1], Done)
    assert sum(event.count for event in events if isinstance(event, Evaluated)) == 3 * 7
    assert (page.session.outputs[1, "wasm"][1] == 1).all() and page.session.outputs[1, "wasm"][1].shape == (3, 3)
    assert page.session.evaluated == {0: [0, 1, 2, 3], 1: [4, 5, 6]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cores": 0}, "cores: must be a whole number, at least 1, got 0"),
        ({"cores": "many"}, 'cores: must be a whole number or null, got "many"'),
        ({"clock_step_ms": 0}, "clock_step_ms: must be a number, above 0, got 0"),
        ({"user_agent": "x" * 401}, "user_agent: must be text of length at most 400"),
        ({"features": ["x"] * 21}, "features: must be a list of length at most 20"),
        ({"more": 1}, "more: must be a known field"),
    ],
)
def test_a_hello_of_another_kind_is_refused(session_of, change, why):
    status, line = Page(session_of("uint8")).refused("hello", HELLO | change)
    assert status == 400 and line.startswith("Hello: ") and why in line


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\xff\xfe", "Timed: "),
        (b"{", "Timed: must be JSON in UTF-8, with finite numbers, got one that ends too early"),
        (b"[1]", "Timed: must be an object, got a list of 1"),
        (TIMED | {"times_ms": [1.0, -1.0, 1.0]}, "times_ms[1]: must be a number, above 0, got -1.0"),
        (TIMED | {"times_ms": [0.0] * 300}, "times_ms[0]: must be a number, above 0, got 0.0"),
        (TIMED | {"init_ms": -1.0}, "init_ms: must be a number, at least 0, got -1.0"),
        (TIMED | {"times_ms": [1e-9] * 300}, TOO_SHORT),
        (TIMED | {"steps": 1}, TOO_SHORT),
        (TIMED | {"times_ms": [0.9, 0.9, 1.0, 1.0]}, TOO_SHORT),
        (TIMED | {"times_ms": [1.0, "x", 1.0]}, 'times_ms[1]: must be a number, got "x"'),
        (b'{"accelerator": "wasm", "threads": 1, "init_ms": NaN}', "Timed: "),
        (b'{"accelerator": "wasm", "threads": 1, "init_ms": 1e999}', "Timed: "),
        (TIMED | {"accelerator": "gpu"}, 'accelerator: must be text of its form, got "gpu"'),
        (TIMED | {"times_ms": [1.0]}, "A timing must have all its times."),
        (TIMED | {"init_ms": None}, "A timing must have all its times."),
        (TIMED | {"threads": 3}, "A timing must be one that was requested, and be sent once."),
        (TIMED | {"accelerator": "webgpu"}, "A timing must be one that was requested, and be sent once."),
    ],
)
def test_a_corrupt_or_unexpected_timing_is_refused(page, body, why):
    status, line = page.refused("timed", body, file=0)
    assert status == 400 and why in line and not page.session.timed
    time_all(page)
    assert page.refused("timed", TIMED, file=0)[1] == "A timing must be one that was requested, and be sent once."


def test_half_of_the_values_and_one_more_span_fifty_steps(page):
    page.post("timed", TIMED | {"times_ms": [0.2, 0.9995, 1.0]}, file=0)


def test_what_is_timed_again_is_being_timed_and_has_a_reason(page):
    again = {"accelerator": "wasm", "threads": 1, "why": "too short"}
    page.post("again", again, file=0)
    assert page.session.next() == page.session.hello
    file, repeated = page.session.next()
    assert (file, repeated.why) == (0, "too short")
    assert "why: must be text of its form" in page.refused("again", again | {"why": "\x1b[2J"}, file=0)[1]
    refused = (400, "Only the file that is being timed can be timed again.")
    assert page.refused("again", again | {"threads": 3}, file=0) == refused
    page.post("timed", TIMED, file=0)
    assert page.refused("again", again, file=0) == refused


@pytest.mark.parametrize("file", ["1", "-1", "x", "", "²", "9" * 30])
def test_a_file_that_there_is_not_is_refused(page, file):
    assert page.refused("timed", TIMED, file=file) == (400, "file must be a number below 1.")


def test_outputs_are_accepted_only_at_their_turn_and_in_their_size(page):
    answers = np.ones((4, 3), np.float32).tobytes()
    sent = {"file": 0, "accelerator": "wasm", "chunk": 0}
    awaited = (400, "Outputs must be the expected ones, and be sent once.")
    assert page.refused("outputs", answers, **sent) == awaited, "not before all is timed"
    time_all(page)
    assert page.refused("outputs", answers, **sent) == (400, "Outputs must belong to pixels that were fetched.")
    page.get("pixels/0/0")
    assert page.refused("outputs", answers, **sent | {"accelerator": "webgpu"}) == awaited
    assert page.refused("outputs", answers, **sent | {"chunk": 2}) == (400, "chunk must be a number below 2.")
    line = "Outputs must be 4 x 3 float32 numbers, got 44 bytes."
    assert page.refused("outputs", answers[:-4], **sent) == (400, line)
    assert page.refused("done") == (400, "The measurement is incomplete.")
    page.post("outputs", answers, **sent)
    assert page.refused("outputs", answers, **sent) == awaited


def test_more_outputs_than_a_chunk_has_are_never_read(session_of):
    assert session_of("uint8", "background").routes()["POST", "outputs"].most_bytes == 4 * 4 * 4


@pytest.mark.parametrize(("value", "number"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_an_answer_that_is_no_number_ends_it(page, value, number):
    time_all(page)
    page.get("pixels/0/1")
    answers = np.full((3, 3), value, np.float32).tobytes()
    assert page.refused("outputs", answers, file=0, accelerator="wasm", chunk=1)[0] == 500
    with pytest.raises(ModelFileError, match=f"must output finite numbers in the browser \\(WASM\\), got {number}"):
        all_events(page.session)


def all_events(session):
    while not isinstance(session.next(), Done):
        pass


def test_what_a_page_complains_of_ends_it(page):
    page.post("fault", {"line": "no op\nfor it", "file": 0})
    with pytest.raises(ModelFileError, match=r"uint8.tflite: must run in the browser, got no op\\nfor it\."):
        all_events(page.session)
    page.post("fault", {"line": "out of memory"})
    with pytest.raises(DeviceError, match="^--device browser: must work on the page, got out of memory. Run the comm"):
        all_events(page.session)


def test_a_browser_that_never_comes_is_an_error(session_of):
    with pytest.raises(DeviceError, match=r"^--device browser: must be opened in a browser, got none in 0 s\. Run the"):
        session_of("uint8", patience=Patience(first=0)).next()


def test_a_browser_that_falls_silent_is_an_error(session_of):
    page = Page(session_of("uint8", patience=Patience(silence=0)))
    page.hello()
    page.post("beat")
    with pytest.raises(DeviceError) as gone:
        all_events(page.session)
    assert str(gone.value) == (
        f"--device browser: must keep the page open until it is done, got no message from it for 0 s. {AGAIN}"
    )


def test_a_page_that_is_closed_is_an_error(session_of):
    page = Page(session_of("uint8", patience=Patience(closed=0)))
    page.hello()
    page.post("bye")
    with pytest.raises(DeviceError, match="must keep the page open until it is done, got a page that was closed"):
        all_events(page.session)


def test_a_message_that_arrives_after_the_page_closed_keeps_nothing_open(session_of):
    page = Page(session_of("uint8", patience=Patience(closed=0)))
    page.hello()
    page.post("bye")
    page.post("beat")
    page.get("pixels/0/0")
    with pytest.raises(DeviceError, match="got a page that was closed"):
        all_events(page.session)


def test_a_page_that_is_reloaded_starts_over_and_a_second_one_waits(page):
    time_all(page)
    second = Page(page.session)
    assert second.refused("hello", HELLO) == (
        409,
        "Another page is running this measurement. Waiting until it is closed.",
    )
    page.post("bye")
    second.hello()
    assert page.session.timed == {}
    stale = (409, "Another page is running the measurement. Close this one, or reload it.")
    for path in ("timed", "outputs", "done", "fault", "beat", "bye"):
        assert page.refused(path, file=0) == stale
    time_all(second)


def test_an_image_that_cannot_be_decoded_ends_it_or_is_skipped(session_of, photos):
    broken = photos / "red" / "a broken.png"
    broken.write_text("no image")
    page = Page(session_of("uint8"))
    page.hello()
    with pytest.raises(Refusal):
        page.get("pixels/0/1")
    with pytest.raises(ImageError, match="a broken.png: must be a readable image"):
        all_events(page.session)
    page = Page(session_of("uint8", skip_unreadable=True))
    assert len(page.get("pixels/0/0")) == 4 * 8 * 8 * 3 and len(page.get("pixels/0/1")) == 3 * 8 * 8 * 3
    assert page.session.evaluated[1] == [5, 6, 7] and page.session.skipped[1][0][0] == broken


@pytest.mark.parametrize(
    ("name", "must"),
    [
        ("full_int8", "must take uint8 or float32 to run in LiteRT.js, got int8"),
        ("open_batch", r"must have a fixed batch of 1 to run in LiteRT.js, got \[-1, 8, 8, 3\]"),
    ],
)
def test_a_file_that_litert_js_cannot_run_is_refused_before_a_browser_comes(session_of, name, must):
    with pytest.raises(ModelFileError, match=f"{name}.tflite: {must}. Measure it on another device"):
        session_of(name)


def test_other_input_forms_get_other_pixels_and_quantized_files_no_webgpu(session_of, models, photos):
    session = session_of("uint8", "full_uint8")
    assert [(file.input_form, file.webgpu) for file in session.files] == [(0, True), (0, False)]
    file = FileToMeasure(path=models / "uint8.tflite", resize="pad")
    files = opened([FileToMeasure(path=models / "uint8.tflite"), file], PROTOCOL)
    page = Page(Session(files, sorted(photos.rglob("*.png")), PROTOCOL))
    assert [file.input_form for file in page.session.files] == [0, 1]
    assert page.get("pixels/0/0") != page.get("pixels/1/0"), "12 x 10 images are cropped, or padded with black"


def test_without_timed_runs_only_opening_and_the_first_run_are_requested(session_of):
    page = Page(session_of("uint8", protocol=Protocol(runs=0)))
    assert page.hello()["timing"] is None
    assert page.refused("timed", TIMED, file=0)[1] == "A timing must have all its times."
    page.post("timed", TIMED | {"times_ms": []}, file=0)


@pytest.mark.parametrize("path", ["hello", "timed", "again", "fault"])
def test_whatever_is_posted_is_taken_or_refused_in_one_line(session_of, path):
    draw = random.Random(13)
    page, taken = Page(session_of("uint8")), 0
    page.hello()
    whole = {"hello": HELLO, "timed": TIMED, "again": AGAIN_POSTED, "fault": {"line": "x", "file": 0}}[path]
    bodies = [b"[" * 10_000, b'{"a":' * 10_000, b"", b"null", b'"' + b"x" * 5000 + b'"']
    for _ in range(300):
        bad = bytearray(json.dumps(whole).encode())
        for _ in range(draw.choice((1, 2, 5))):
            index = draw.randrange(len(bad))
            bad[index : index + draw.randrange(3)] = draw.choice(
                (b"", b"9", b"1e999", b'"', b"[", b"{}", b"\xff", b"null")
            )
        bodies.append(bytes(bad))
    for body in bodies:
        page.session.timed.clear()
        try:
            page.post(path, body, file=0)
            taken += 1
        except Refusal as refusal:
            assert refusal.status in (400, 409) and refusal.line and "\n" not in refusal.line
        except DeviceError:
            taken += 1  # a first setting that this browser says it cannot run ends the measurement
    assert taken < len(bodies)
