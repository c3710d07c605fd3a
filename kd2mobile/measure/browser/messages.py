"""The messages between the page and this host. These types alone validate what the page sends."""

from typing import Annotated

import msgspec
from msgspec import Meta

Text = Annotated[str, Meta(max_length=400)]
Milliseconds = Annotated[float, Meta(ge=0, lt=1e8)]
PositiveMilliseconds = Annotated[float, Meta(gt=0, lt=1e8)]
Index = Annotated[int, Meta(ge=0, lt=2**31)]
Accelerator = Annotated[str, Meta(pattern="^(wasm|webgpu)$")]
Threads = Annotated[int, Meta(ge=1, le=4096)]
MOST_TIMES = 1_000_000
LARGEST_TALK = 64 * 1024
LARGEST_PROFILE = 32 * 2**20
"""Bytes of a posted profile: a million timed values."""


class Hello(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The browser that opened the page. model: the device and its system, or the screen of a phone whose model is
    unknown; cores: their number; both None if the browser does not report them. isolated: whether the page is
    cross-origin isolated and may have threads; clock_step_ms: the smallest observed step of its clock; webgpu: the name
    of its adapter, None without one; features: of its WebAssembly, such as relaxedSimd."""

    user_agent: Text
    model: Text | None
    cores: Annotated[int, Meta(ge=1, le=4096)] | None
    isolated: bool
    clock_step_ms: Annotated[float, Meta(gt=0, le=1000)]
    webgpu: Text | None
    features: Annotated[list[Text], Meta(max_length=20)]


class Work(msgspec.Struct, frozen=True):
    """One file for the page. input_form: index of the form of its pixels in `Job.input_forms`; mean, std: of its
    network; webgpu: whether to try it."""

    name: str
    url: str
    input_form: int
    labels: list[str] | None
    mean: list[float] | None
    std: list[float] | None
    resize: str
    webgpu: bool


class InputForm(msgspec.Struct, frozen=True):
    """The images in the form that one or more files take. px: side of the square; chunks: number of chunks to fetch."""

    px: int
    chunks: int


class Timing(msgspec.Struct, frozen=True):
    """How to time: a Span of the protocol. batch_steps: the least number of clock steps that a timed value spans."""

    runs: int
    seconds: float
    most: int
    batch_steps: int


class Job(msgspec.Struct, frozen=True):
    """The work of the page. visit: a number that is part of each request of this visit; threads: each number to time
    with."""

    visit: int
    files: list[Work]
    input_forms: list[InputForm]
    threads: list[int]
    timing: Timing | None


class Timed(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The timing of one file in one setting. times_ms: the timed values; steps: the number of runs of which each is the
    mean. wholly: whether the whole graph ran on `accelerator`. fault: the reason why this browser cannot time it in
    this setting; the other fields are then at their defaults."""

    accelerator: Accelerator
    threads: Threads
    init_ms: Milliseconds | None = None
    first_run_ms: Milliseconds | None = None
    times_ms: Annotated[list[PositiveMilliseconds], Meta(max_length=MOST_TIMES)] = []
    steps: Annotated[int, Meta(ge=1, lt=2**31)] = 1
    wholly: bool = True
    fault: Text | None = None


class Again(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One file is timed again with one setting. why: the page was hidden, or the runs became too short for the
    clock in their batches."""

    accelerator: Accelerator
    threads: Threads
    why: Annotated[str, Meta(pattern="^(hidden|too short)$")]


class Fault(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The fault that ended the work of the page. file: the index of the file at work, None if none."""

    line: Text
    file: Index | None = None
