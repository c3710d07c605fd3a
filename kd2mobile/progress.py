"""What a person sees while something runs: lines and bars on stderr; standard output is left to results."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Annotated

import msgspec
from msgspec import Meta

PLAIN_LINE_EVERY_S = 15.0
TELL_EVERY_S = 0.5
Count = Annotated[int, Meta(ge=0, lt=2**53)]
_plain = False
_tell: Callable[["Progress"], None] | None = None


class Say(msgspec.Struct, frozen=True, tag_field="kind", tag="say"):
    """One line."""

    line: str


class Stage(msgspec.Struct, frozen=True, tag_field="kind", tag="stage"):
    """A bar begins: as `bar` takes it."""

    label: str
    total: Count
    unit: str


class Done(msgspec.Struct, frozen=True, tag_field="kind", tag="done"):
    """So many more units of the bar are done."""

    count: Count


Progress = Say | Stage | Done
"""What another process shows by this one."""


def configure(quiet: bool) -> None:
    """Plain lines instead of bars, even on a terminal."""
    global _plain
    _plain = quiet


def tell_to(tell: Callable[[Progress], None]) -> None:
    """From now on bars and lines are messages for another process to show: what `retold` takes."""
    global _tell
    _tell = tell


@contextmanager
def retold() -> Iterator[Callable[[Progress], None]]:
    """Yields a function that shows the messages of another process."""
    with ExitStack() as bars:
        advance = None

        def show(message: Progress) -> None:
            nonlocal advance
            match message:
                case Stage(label, total, unit):
                    bars.close()
                    advance = bars.enter_context(bar(label, total, unit))
                case Done(count) if advance:
                    advance(count)
                case Say(line):
                    say(line)

        yield show


def tell(message: Progress) -> None:
    """Passes a message on to the process that shows it; nothing where `tell_to` was not called."""
    if _tell:
        _tell(message)


def say(line: str) -> None:
    """One line on stderr."""
    if _tell:
        _tell(Say(line))
        return
    print(line, file=sys.stderr, flush=True)


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left; plain lines now and then where there is no terminal, or no Rich as in the core.

    label: what is being done; total: how many units there are; unit: their name in the plural.
    Yields a function that takes how many more are done.
    """
    if _tell:
        yield from _reported(label, total, unit)
        return
    if _plain or not sys.stderr.isatty() or not find_spec("rich"):
        yield from _lines(label, total, unit)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task):
            rate = task.finished_speed or task.speed
            return Text(f"{rate:,.1f} {unit}/s" if rate else "", style="progress.data.speed")

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"), Rate()
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.advance(task, done)


def _lines(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    start = last = time.monotonic()
    count = 0

    def advance(done: int) -> None:
        nonlocal count, last
        count += done
        now = time.monotonic()
        if now - last >= PLAIN_LINE_EVERY_S and count < total:
            last = now
            rate = count / (now - start)
            say(f"{label}: {count}/{total} {unit}, {rate:,.1f} {unit}/s, {(total - count) / rate:,.0f} s left")

    yield advance
    seconds = time.monotonic() - start
    if seconds >= 1:
        say(f"{label}: {count} {unit} in {seconds:,.1f} s, {count / seconds:,.1f} {unit}/s")


def _reported(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    last, count = time.monotonic(), 0
    _tell(Stage(label, total, unit))

    def advance(done: int) -> None:
        nonlocal last, count
        count += done
        if time.monotonic() - last >= TELL_EVERY_S:
            _tell(Done(count))
            last, count = time.monotonic(), 0

    yield advance
    _tell(Done(count))
