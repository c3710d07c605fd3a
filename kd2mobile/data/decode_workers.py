"""Decodes images and renders their views, in threads of this process or in worker processes.

A worker, `python -m kd2mobile.data.decode_workers`, is a separate process that imports NumPy and Pillow alone. It is
never forked and does not import the user's main program, so it behaves the same on every system, in a notebook and in a
script without a main guard.
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
    """A request to a worker: the arguments of `render_views`. The worker answers with the pixels as bytes.

    paths: each address as the bytes of its text in the file system's encoding; views: the bytes of VIEW_DTYPE [paths,
    count]; px: side of the rendered square in pixels.
    """

    paths: list[bytes]
    views: bytes
    count: int
    px: int


def render_views(paths: Sequence[Address], views: np.ndarray, px: int) -> np.ndarray:
    """Renders each image through each of its views; an image is decoded once.

    views: VIEW_DTYPE [images, views]; px: side of the rendered square in pixels. Returns uint8 [images, views, px, px,
    3]. Raises ImageError for an image that cannot be decoded.
    """
    rendered = np.empty((*views.shape, px, px, 3), np.uint8)
    for target, path, row in zip(rendered, paths, views, strict=True):
        with pixels.opened(path) as image:
            fill_views(target, image, row)
    return rendered


def fill_views(target: np.ndarray, image: Image.Image, views: np.ndarray) -> None:
    """Renders the image through its views, VIEW_DTYPE [views], into target, uint8 [views, px, px, 3]."""
    for view_pixels, view in zip(target, views, strict=True):
        view_pixels[:] = pixels.render(image, pixels.Box(*view["box"].tolist()), target.shape[1], bool(view["flip"]))


@contextmanager
def renderer(workers: int, folder: Path) -> Iterator[Render]:
    """Yields a function with the arguments and the result of `render_views`, to be called within the block.

    workers: number of processes that do the work; 0 renders in the calling thread. With workers the function may be
    called from as many threads as there are workers, and the pixels are the same, bit for bit.
    folder: for the lock file by which workers take turns with large images. It is removed at the end of the block; one
    that a killed process left is removed by `remove_temporaries`.
    The yielded function raises ImageError, and WorkerError if a worker dies.
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
    """A pool of worker processes; each handles one request at a time."""

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
            rendered = worker.ask(request, bytes)
        finally:
            self._idle.put(worker)
        return np.frombuffer(rendered, np.uint8).reshape(*views.shape, px, px, 3)

    @property
    def pids(self) -> list[int | None]:
        """The process ids of the workers."""
        return [worker.pid for worker in self._all]

    def close(self) -> None:
        for worker in self._all:
            worker.end()
        self._turns.unlink(missing_ok=True)


class _Worker(Child):
    """A worker process. paths: the images of its current request, for the message if it dies."""

    paths: Sequence[Address] = ()

    def __init__(self, command: list[str], count: int):
        super().__init__(command, "a worker that decodes", lambda death: _death(death, self.paths, count))


def _death(death: Death, paths: Sequence[Address], workers: int) -> WorkerError:
    others = f" or one of the {len(paths) - 1} after it" if len(paths) > 1 else ""
    return WorkerError(
        f"label.workers, one of {workers}",
        "must run until the pass is done",
        f"one that {death.how} at {paths[0]}{others}",
        "Use fewer in case memory ran out, or `--workers 0`. Finished work is kept: run the same command to resume.",
    )


def main() -> None:
    """Answers requests until the parent process ends them. sys.argv[1]: the lock file for large images."""
    pixels.take_turns_by(FileLock(sys.argv[1]))

    def answer(request: Views, give: Give) -> None:
        paths = [source_at(os.fsdecode(path)) for path in request.paths]
        views = np.frombuffer(request.views, VIEW_DTYPE).reshape(len(paths), request.count)
        with system_errors():
            give(memoryview(render_views(paths, views, request.px)).cast("B"))

    serve(answer, Views)


if __name__ == "__main__":
    main()
