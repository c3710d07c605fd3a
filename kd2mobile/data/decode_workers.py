"""Images through their views, in threads of this process or in worker processes.

A worker, `python -m kd2mobile.data.decode_workers`, is a process of its own that knows NumPy and Pillow alone. It is
started anew, never forked, and does not import the main program again: so it is the same on every system, in a notebook
and in a script without a main guard.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import msgspec
import numpy as np
from filelock import FileLock
from PIL import Image

from kd2mobile import pixels
from kd2mobile.backend.child import Child, Death, Give, serve
from kd2mobile.data.sources.containers import source_at
from kd2mobile.data.views import VIEW_DTYPE
from kd2mobile.errors import WorkerError
from kd2mobile.files import Address, system_errors, temporary_of

Render = Callable[[Sequence[Address], np.ndarray, int], np.ndarray]
_COMMAND = ["-m", "kd2mobile.data.decode_workers"]


class Views(msgspec.Struct):
    """A request of a worker: `render_views`. paths: the text of each address, as the file system has it; views:
    VIEW_DTYPE [paths, count]. Its result are the pixels as bytes."""

    paths: list[bytes]
    views: bytes
    count: int
    px: int


def render_views(paths: Sequence[Address], views: np.ndarray, px: int) -> np.ndarray:
    """Each image through each of its views, decoded once.

    views: VIEW_DTYPE [images, views]. Returns uint8 [images, views, px, px, 3]. Raises ImageError.
    """
    seen = np.empty((*views.shape, px, px, 3), np.uint8)
    for target, path, row in zip(seen, paths, views, strict=True):
        with pixels.opened(path) as image:
            fill_views(target, image, row)
    return seen


def fill_views(target: np.ndarray, image: Image.Image, views: np.ndarray) -> None:
    """The image through its views, VIEW_DTYPE [views], into target, uint8 [views, px, px, 3]."""
    for seen, view in zip(target, views, strict=True):
        seen[:] = pixels.render(image, pixels.Box(*view["box"].tolist()), target.shape[1], bool(view["flip"]))


@contextmanager
def renderer(workers: int, folder: Path) -> Iterator[Render]:
    """`render_views`, or the same done by that many worker processes, which end with the block.

    folder: where they lock one another out, in a file that goes with the block; what a killed process left of it goes
    with `remove_temporaries`.

    What it yields may be called from as many threads as there are workers; the pixels are the same, bit for bit. It
    raises ImageError, and WorkerError if a worker dies.
    """
    if not workers:
        yield render_views
        return
    pool = _Workers(workers, Path(folder))
    try:
        yield pool.render
    finally:
        pool.close()


class _Workers:
    """Worker processes, each with one request at a time."""

    def __init__(self, count: int, folder: Path):
        self._turns = temporary_of(folder.absolute() / "one-large-image.lock")
        command = [*_COMMAND, str(self._turns)]
        self._all = [_Worker(command, count).start() for _ in range(count)]  # they end with this thread
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._all:
            self._idle.put(worker)

    def render(self, paths: Sequence[Address], views: np.ndarray, px: int) -> np.ndarray:
        worker = self._idle.get()
        try:
            worker.paths = paths
            request = Views([os.fsencode(str(path)) for path in paths], views.tobytes(), views.shape[1], px)
            seen = worker.ask(request, bytes)
        finally:
            self._idle.put(worker)
        return np.frombuffer(seen, np.uint8).reshape(*views.shape, px, px, 3)

    @property
    def pids(self) -> list[int | None]:
        """Their numbers."""
        return [worker.pid for worker in self._all]

    def close(self) -> None:
        for worker in self._all:
            worker.end()
        self._turns.unlink(missing_ok=True)


class _Worker(Child):
    """paths: what it is asked for."""

    paths: Sequence[Address] = ()

    def __init__(self, command: list[str], count: int):
        super().__init__(command, "a worker that decodes", lambda death: _death(death, self.paths, count))


def _death(death: Death, paths: Sequence[Address], workers: int) -> WorkerError:
    more = f" or one of the {len(paths) - 1} after it" if len(paths) > 1 else ""
    return WorkerError(
        f"label.workers, one of {workers}",
        "must run until the pass is done",
        f"one that {death.how} at {paths[0]}{more}",
        "Use fewer in case memory ran out, or `--workers 0`. Finished work is kept: run the same command to resume.",
    )


def main() -> None:
    """Answers requests until the parent wants no more. sys.argv[1]: the lock of large images."""
    pixels.take_turns_by(FileLock(sys.argv[1]))

    def answer(request: Views, give: Give) -> None:
        paths = [source_at(os.fsdecode(path)) for path in request.paths]
        views = np.frombuffer(request.views, VIEW_DTYPE).reshape(len(paths), request.count)
        with system_errors():
            give(memoryview(render_views(paths, views, request.px)).cast("B"))

    serve(answer, Views)


if __name__ == "__main__":
    main()
