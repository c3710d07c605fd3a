"""One measurement in a browser, on the side of this host: the routes of the page, and the results that it has sent."""

import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import RLock
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from kd2mobile.errors import DeviceError, ImageError, ModelFileError, RecordError
from kd2mobile.files import decode_json
from kd2mobile.inspection.graph import read_model
from kd2mobile.measure.browser.messages import (
    LARGEST_PROFILE,
    LARGEST_TALK,
    MOST_TIMES,
    Again,
    Fault,
    Hello,
    InputForm,
    Job,
    Timed,
    Timing,
    Work,
)
from kd2mobile.measure.browser.server import Refusal, Reply, Route
from kd2mobile.measure.files import Opened
from kd2mobile.measure.host.measure import render_input_forms
from kd2mobile.measure.protocol import Protocol

BATCH_STEPS = 50
"""Steps of the browser's clock that more than half of the timed values span, so that each percentile from the median on
is off by 2 % at most."""
ROUNDED = 0.999
"""The least part of such a span that remains after the rounding of the posted values."""
CHUNK_BYTES = 2 * 2**20
MOST_IN_A_CHUNK = 128
AGAIN = "Run the command again, and keep the page open and in front until it is done."
T = TypeVar("T")


class Patience(NamedTuple):
    """Seconds to wait: for the first browser, for the next message of a working page, and after a page was closed."""

    first: float = 900.0
    silence: float = 60.0
    closed: float = 5.0


PATIENCE = Patience()


class Evaluated(NamedTuple):
    """Images on which one file has been evaluated."""

    count: int


class Repeated(NamedTuple):
    """One file is timed again."""

    file: int
    again: Again


class Done(NamedTuple):
    """All results have arrived."""


class Hurry(NamedTuple):
    """The deadline has become earlier."""


Event = Hello | Timed | Repeated | Evaluated | Done | Hurry | Exception


class Session:
    """The routes of the page and the results that it has posted. The routes run in the server's threads.

    hello: of the browser at work; ways: the settings to time, (file, accelerator, threads); timed: the results by
    setting; outputs: by file and accelerator, float32 [evaluated, classes] per chunk; chunks: the indices of the images
    of each; evaluated, skipped: per chunk that was rendered.
    """

    def __init__(
        self,
        opened: Sequence[Opened],
        images: Sequence[Path],
        protocol: Protocol,
        *,
        skip_unreadable: bool = False,
        patience: Patience = PATIENCE,
        most_in_a_chunk: int = MOST_IN_A_CHUNK,
    ):
        """most_in_a_chunk: the largest number of images in a chunk. Raises ModelFileError for a file that LiteRT.js
        cannot run."""
        self._opened, self._images, self._skipped_unreadable = opened, images, skip_unreadable
        self._patience, self._lock, self._events = patience, RLock(), SimpleQueue[Event]()
        self._models = [one.file.path.read_bytes() for one in opened]
        forms = [(one.classifier.input_px, one.resize) for one in opened]
        self._input_forms = list(dict.fromkeys(forms))
        largest = max(px for px, _ in self._input_forms) ** 2 * 3
        size = max(1, min(most_in_a_chunk, CHUNK_BYTES // largest))
        self.chunks = [range(first, min(first + size, len(images))) for first in range(0, len(images), size)]
        self.files = [
            _work(index, one, model, self._input_forms.index(input_form))
            for index, (one, model, input_form) in enumerate(zip(opened, self._models, forms, strict=True))
        ]
        self.threads = list(dict.fromkeys(setting.threads for setting in protocol.settings if setting.xnnpack))
        runs, seconds, most = protocol.span
        self.timing = Timing(runs, seconds, min(most or MOST_TIMES, MOST_TIMES), BATCH_STEPS) if runs else None
        self.hello: Hello | None = None
        self.ways: set[tuple[int, str, int]] = set()
        self.evaluated: dict[int, list[int]] = {}
        self.skipped: dict[int, list[tuple[Path, str]]] = {}
        self.timed: dict[tuple[int, str, int], Timed] = {}
        self.outputs: dict[tuple[int, str], dict[int, np.ndarray]] = {}
        self._visit, self._deadline, self._closed = 0, time.monotonic() + patience.first, False

    # Requests of the page.

    def routes(self) -> dict[tuple[str, str], Route]:
        """The routes of this measurement by method and path."""
        largest = max(len(chunk) for chunk in self.chunks) * max(one.classifier.classes for one in self._opened) * 4
        posts = {
            "hello": (self._on_hello, LARGEST_TALK),
            "timed": (self._on_timed, LARGEST_PROFILE),
            "again": (self._on_again, LARGEST_TALK),
            "outputs": (self._on_outputs, largest),
            "done": (self._on_done, 0),
            "fault": (self._on_fault, LARGEST_TALK),
            "beat": (self._on_beat, 0),
            "bye": (self._on_bye, 0),
        }
        routes = {("POST", path): Route(self._guarded(answer), most) for path, (answer, most) in posts.items()}
        for index, model in enumerate(self._models):
            routes["GET", f"models/{index}.tflite"] = Route(_constant("application/octet-stream", model))
        for input_form in range(len(self._input_forms)):
            for chunk in range(len(self.chunks)):
                answer = self._guarded(lambda query, body, at=(input_form, chunk): self._pixels(*at))
                routes["GET", f"pixels/{input_form}/{chunk}"] = Route(answer)
        return routes

    def _guarded(self, answer: Callable[[dict[str, str], bytes], Reply]) -> Callable[[dict[str, str], bytes], Reply]:
        """Runs one answer at a time. An exception other than a refusal ends the measurement and is raised by `next`."""

        def guarded(query: dict[str, str], body: bytes) -> Reply:
            try:
                with self._lock:
                    return answer(query, body)
            except Refusal:
                raise
            except Exception as fault:
                self._events.put(fault)
                raise Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(fault).__name__}: see the terminal.") from fault

        return guarded

    def _on_hello(self, query: dict[str, str], body: bytes) -> Reply:
        hello = _decoded(body, Hello)
        if self._visit and not self._closed and time.monotonic() < self._deadline:
            raise Refusal(HTTPStatus.CONFLICT, "Another page is running this measurement. Waiting until it is closed.")
        self._visit, self._closed = self._visit + 1, False
        self.hello, self.timed, self.outputs = hello, {}, {}
        self.ways = {(file, "wasm", count) for file in range(len(self.files)) for count in self.threads}
        self.ways |= {(file, "webgpu", 1) for file, work in enumerate(self.files) if work.webgpu and hello.webgpu}
        self._sign_of_life()
        self._events.put(hello)
        input_forms = [InputForm(px, len(self.chunks)) for px, _ in self._input_forms]
        return _json(Job(self._visit, self.files, input_forms, self.threads, self.timing))

    def _on_timed(self, query: dict[str, str], body: bytes) -> Reply:
        file = self._at(query, "file", len(self.files))
        timed = _decoded(body, Timed)
        way = file, timed.accelerator, timed.threads
        if way not in self.ways or way in self.timed:
            raise Refusal(HTTPStatus.BAD_REQUEST, "A timing must be one that was requested, and be sent once.")
        if timed.fault is None and (timed.init_ms is None or timed.first_run_ms is None or not self._enough(timed)):
            raise Refusal(HTTPStatus.BAD_REQUEST, "A timing must have all its times.")
        if not self._long_enough(timed):
            line = f"More than half of the timed values must span {BATCH_STEPS} steps of the clock."
            raise Refusal(HTTPStatus.BAD_REQUEST, line)
        if timed.fault and way[1:] == ("wasm", self.threads[0]):
            must = "must begin with a number that this browser supports, because the first is used for accuracy"
            got = f"{timed.threads}: {timed.fault}"
            raise DeviceError("benchmark.threads", must, got, "Give a smaller number first, such as --threads 1.")
        self.timed[way] = timed
        self._events.put(timed)
        return _json({})

    def _enough(self, timed: Timed) -> bool:
        return len(timed.times_ms) >= self.timing.runs if self.timing else not timed.times_ms

    def _long_enough(self, timed: Timed) -> bool:
        """Whether more than half of the values span enough steps of the clock."""
        span = ROUNDED * BATCH_STEPS * self.hello.clock_step_ms
        return not timed.times_ms or 2 * sum(one * timed.steps >= span for one in timed.times_ms) > len(timed.times_ms)

    def _on_again(self, query: dict[str, str], body: bytes) -> Reply:
        file = self._at(query, "file", len(self.files))
        again = _decoded(body, Again)
        way = file, again.accelerator, again.threads
        if way not in self.ways or way in self.timed:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Only the file that is being timed can be timed again.")
        self._events.put(Repeated(file, again))
        return _json({})

    def passes(self) -> list[tuple[int, str]]:
        """The (file, accelerator) pairs to evaluate on the images; known once everything is timed."""
        timed = {(file, accelerator) for (file, accelerator, _), one in self.timed.items() if not one.fault}
        return [(file, "wasm") for file in range(len(self.files))] + [one for one in timed if one[1] == "webgpu"]

    def _on_outputs(self, query: dict[str, str], body: bytes) -> Reply:
        file, chunk = self._at(query, "file", len(self.files)), self._at(query, "chunk", len(self.chunks))
        accelerator = query.get("accelerator", "")
        answers = self.outputs.get((file, accelerator), {})
        if len(self.timed) < len(self.ways) or (file, accelerator) not in self.passes() or chunk in answers:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Outputs must be the expected ones, and be sent once.")
        if chunk not in self.evaluated:
            raise Refusal(HTTPStatus.BAD_REQUEST, "Outputs must belong to pixels that were fetched.")
        shape = len(self.evaluated[chunk]), self._opened[file].classifier.classes
        if len(body) != shape[0] * shape[1] * 4:
            line = f"Outputs must be {shape[0]} x {shape[1]} float32 numbers, got {len(body)} bytes."
            raise Refusal(HTTPStatus.BAD_REQUEST, line)
        sent = np.frombuffer(body, "<f4").astype(np.float32).reshape(shape)
        if accelerator == "wasm" and not np.isfinite(sent).all():
            must = "must output finite numbers in the browser (WASM)"
            got = "NaN" if np.isnan(sent).any() else "infinity"
            raise ModelFileError(self._opened[file].file.path, must, got, "Measure it on another device to compare.")
        self.outputs.setdefault((file, accelerator), {})[chunk] = sent
        self._events.put(Evaluated(len(self.chunks[chunk])))
        return _json({})

    def _on_done(self, query: dict[str, str], body: bytes) -> Reply:
        self._at(query)
        answered = [len(self.outputs.get(one, ())) == len(self.chunks) for one in self.passes()]
        if len(self.timed) < len(self.ways) or not all(answered):
            raise Refusal(HTTPStatus.BAD_REQUEST, "The measurement is incomplete.")
        self._events.put(Done())
        return _json({})

    def _on_fault(self, query: dict[str, str], body: bytes) -> Reply:
        self._at(query)
        fault = _decoded(body, Fault)
        if fault.file is not None and fault.file < len(self._opened):
            path = self._opened[fault.file].file.path
            self._events.put(ModelFileError(path, "must run in the browser", fault.line, "See docs/how-to/browser.md."))
        else:
            self._events.put(DeviceError("--device browser", "must work on the page", fault.line, AGAIN))
        return _json({})

    def _on_beat(self, query: dict[str, str], body: bytes) -> Reply:
        self._at(query)
        return _json({})

    def _on_bye(self, query: dict[str, str], body: bytes) -> Reply:
        self._at(query)
        self._closed, self._deadline = True, time.monotonic() + self._patience.closed
        self._events.put(Hurry())
        return _json({})

    def _pixels(self, input_form: int, chunk: int) -> Reply:
        """The pixels of the images of a chunk that can be decoded, uint8 [evaluated, px, px, 3]."""
        self._sign_of_life()
        paths = [self._images[index] for index in self.chunks[chunk]]
        evaluated, skipped, pixels = [], [], []
        rendered = [render_input_forms(path, {self._input_forms[input_form]}) for path in paths]
        for index, path, by_form in zip(self.chunks[chunk], paths, rendered, strict=True):
            if isinstance(by_form, ImageError):
                if not self._skipped_unreadable:
                    raise by_form
                skipped.append((path, str(by_form.got)))
            else:
                evaluated.append(index)
                pixels.append(by_form[self._input_forms[input_form]])
        self.evaluated[chunk], self.skipped[chunk] = evaluated, skipped
        self._sign_of_life()
        return Reply("application/octet-stream", b"".join(one.tobytes() for one in pixels))

    def _at(self, query: dict[str, str], field: str | None = None, below: int = 0) -> int:
        """The index in that field of the query, 0 without a field. Raises Refusal for another visit or a bad index."""
        if query.get("visit") != str(self._visit):
            raise Refusal(HTTPStatus.CONFLICT, "Another page is running the measurement. Close this one, or reload it.")
        self._sign_of_life()
        text = query.get(field, "") if field else "0"
        if field and not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < below):
            raise Refusal(HTTPStatus.BAD_REQUEST, f"{field} must be a number below {below}.")
        return int(text)

    def _sign_of_life(self) -> None:
        """A message that was under way when the page closed may arrive after its last one: it keeps nothing open."""
        if not self._closed:
            self._deadline = time.monotonic() + self._patience.silence

    # Events for this host.

    def next(self) -> Hello | Timed | Repeated | Evaluated | Done:
        """The next event from the page. Raises the error that ended the measurement, or DeviceError if the browser is
        lost."""
        while True:
            try:
                event = self._events.get(timeout=max(0.01, self._deadline - time.monotonic()))
            except Empty:
                with self._lock:
                    if time.monotonic() >= self._deadline:
                        raise self._gone() from None
                continue
            if isinstance(event, Exception):
                raise event
            if not isinstance(event, Hurry):
                return event

    def _gone(self) -> DeviceError:
        if not self._visit:
            must, got = "must be opened in a browser", f"none in {self._patience.first:g} s"
            return DeviceError("--device browser", must, got, "Run the command again and open the URL that it prints.")
        got = "a page that was closed" if self._closed else f"no message from it for {self._patience.silence:g} s"
        return DeviceError("--device browser", "must keep the page open until it is done", got, AGAIN)


def _work(index: int, opened: Opened, model: bytes, input_form: int) -> Work:
    file, classifier, resize = opened
    try:
        graph = read_model(model).graphs[0]
        image = graph.tensors[graph.inputs[0]]
    except (ValueError, IndexError) as fault:
        again = "Export or download it again."
        raise ModelFileError(file.path, "must be a complete TensorFlow Lite model", fault, again) from fault
    for does, tensor in (("take", image), ("answer with", graph.tensors[graph.outputs[0]])):
        if tensor.dtype not in ("uint8", "float32"):
            other = "Measure it on another device, or export it with uint8 or float32."
            raise ModelFileError(file.path, f"must {does} uint8 or float32 to run in LiteRT.js", tensor.dtype, other)
    if image.shape[0] != 1:
        fixed = "Measure it on another device, or export it with a batch of 1."
        raise ModelFileError(file.path, "must have a fixed batch of 1 to run in LiteRT.js", f"{image.shape}", fixed)
    mean, std = (None if value is None else value.tolist() for value in (classifier.mean, classifier.std))
    return Work(
        name=file.path.name,
        url=f"models/{index}.tflite",
        input_form=input_form,
        labels=file.labels or classifier.metadata.classes,
        mean=mean,
        std=std,
        resize=resize,
        webgpu=not any(tensor.scales for tensor in graph.tensors),
    )


def _constant(kind: str, body: bytes) -> Callable[[dict[str, str], bytes], Reply]:
    return lambda query, posted: Reply(kind, body)


def _json(value: object) -> Reply:
    return Reply("application/json", msgspec.json.encode(value))


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return decode_json(body, kind, kind.__name__, "See docs/how-to/browser.md.")
    except RecordError as fault:
        raise Refusal(HTTPStatus.BAD_REQUEST, str(fault)) from fault
