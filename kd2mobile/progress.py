"""What a person sees while something runs: lines and bars on stderr; standard output is left to results."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec

PLAIN_LINE_EVERY_S = 15.0
TELL_EVERY_S = 0.5
_plain = False
_tell: Callable[..., None] | None = None


def configure(quiet: bool) -> None:
    """Plain lines instead of bars, even on a terminal."""
    global _plain
    _plain = quiet


def tell_to(tell: Callable[..., None]) -> None:
    """From now on bars and lines are messages, tell(kind, ...), for another process to show: what `retold` takes."""
    global _tell
    _tell = tell


@contextmanager
def retold() -> Iterator[Callable[[dict], None]]:
    """Yields a function that shows the messages of another process, each with a `kind`: `say` a `line`; `stage`, a bar
    of `label`, `total` and `unit`; `done`, how many more by `count`."""
    with ExitStack() as bars:
        advance = None

        def show(message: dict) -> None:
            nonlocal advance
            match message["kind"]:
                case "stage":
                    bars.close()
                    advance = bars.enter_context(bar(message["label"], message["total"], message["unit"]))
                case "done" if advance:
                    advance(message["count"])
                case "say":
                    say(message["line"])

        yield show


def say(line: str) -> None:
    """One line on stderr."""
    if _tell:
        _tell("say", line=line)
        return
    print(line, file=sys.stderr, flush=True)


@contextmanager
def bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left; plain lines now and then where there is no terminal, or no Rich as in the core.

    label: what is being done; total: how many units there are; unit: their name in the plural.
    Yields a function that takes how many more are done.
    """
    if _tell:
        yield from _told(label, total, unit)
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


def _told(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    last, count = time.monotonic(), 0
    _tell("stage", label=label, total=total, unit=unit)

    def advance(done: int) -> None:
        nonlocal last, count
        count += done
        if time.monotonic() - last >= TELL_EVERY_S:
            _tell("done", count=count)
            last, count = time.monotonic(), 0

    yield advance
    _tell("done", count=count)
