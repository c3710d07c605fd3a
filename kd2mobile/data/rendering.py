"""Pictures through their views, in threads of this process or in worker processes.

A worker, `python -m kd2mobile.data.rendering`, is a process of its own that knows NumPy and Pillow alone. It is started
anew, never forked, and does not import the main program again: so it is the same on every system, in a notebook and
in a script without a main guard.
"""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue

import numpy as np
from filelock import FileLock
from PIL import Image

from kd2mobile import pixels
from kd2mobile.backend.children import with_parent
from kd2mobile.errors import Kd2MobileError, WorkerError, raised_elsewhere
from kd2mobile.files import system_errors, temporary_of

Render = Callable[[Sequence[Path], np.ndarray, int], np.ndarray]
_COMMAND = [sys.executable, "-P", "-m", "kd2mobile.data.rendering"]
_APART = {"creationflags": 0x200} if sys.platform == "win32" else {"process_group": 0}
"""A process group of its own (CREATE_NEW_PROCESS_GROUP): Ctrl-C reaches the parent alone, which ends its workers."""
_LAST_WORDS_S = 5


def render_views(paths: Sequence[Path], views: np.ndarray, px: int) -> np.ndarray:
    """Each picture through each of its views, decoded once.

    views: VIEW_DTYPE [pictures, views]. Returns uint8 [pictures, views, px, px, 3]. Raises PictureError.
    """
    seen = np.empty((*views.shape, px, px, 3), np.uint8)
    for target, path, row in zip(seen, paths, views, strict=True):
        with pixels.opened(path) as picture:
            fill_views(target, picture, row)
    return seen


def fill_views(target: np.ndarray, picture: Image.Image, views: np.ndarray) -> None:
    """The picture through its views, VIEW_DTYPE [views], into target, uint8 [views, px, px, 3]."""
    for seen, view in zip(target, views, strict=True):
        seen[:] = pixels.render(picture, pixels.Box(*view["box"].tolist()), target.shape[1], bool(view["flip"]))


@contextmanager
def renderer(workers: int, folder: Path) -> Iterator[Render]:
    """`render_views`, or the same done by that many worker processes, which end with the block.

    folder: where they lock one another out, in a file that goes with the block; what a killed process left of it goes
    with `remove_temporaries`.

    What it yields may be called from as many threads as there are workers; the pixels are the same, bit for bit. It
    raises PictureError, and WorkerError if a worker dies.
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
    """Worker processes, each with one request at a time over its standard input and output."""

    def __init__(self, count: int, folder: Path):
        self._turns = temporary_of(folder.absolute() / "one-large-picture.lock")
        command = [*_COMMAND, str(self._turns)]
        package_home = str(Path(__file__).parents[2])
        python_path = os.pathsep.join(filter(None, (package_home, os.environ.get("PYTHONPATH"))))
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": os.environ | {"PYTHONPATH": python_path}}
        self._processes = [subprocess.Popen(with_parent(command), **pipes, **_APART) for _ in range(count)]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)

    def render(self, paths: Sequence[Path], views: np.ndarray, px: int) -> np.ndarray:
        worker = self._idle.get()
        try:
            pickle.dump((paths, views, px), worker.stdin)
            worker.stdin.flush()
            answer = pickle.load(worker.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError) as fault:
            raise _death(worker, paths, len(self._processes)) from fault
        finally:
            self._idle.put(worker)
        if isinstance(answer, tuple):
            raise raised_elsewhere(*answer)
        return answer

    def close(self) -> None:
        for process in self._processes:
            with suppress(OSError):  # a dead worker's pipe
                process.stdin.close()
        for process in self._processes:
            try:
                process.wait(_LAST_WORDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()
        self._turns.unlink(missing_ok=True)


def _death(worker: subprocess.Popen[bytes], paths: Sequence[Path], workers: int) -> WorkerError:
    with suppress(subprocess.TimeoutExpired):
        worker.wait(_LAST_WORDS_S)
    status = worker.returncode
    cause = f"signal {-status}" if status is not None and status < 0 else f"exit code {status}"
    more = f" or one of the {len(paths) - 1} after it" if len(paths) > 1 else ""
    return WorkerError(
        f"label.workers, one of {workers}",
        "must run until the pass is done",
        f"{cause} at {paths[0]}{more}",
        "Use fewer in case memory ran out, or `--workers 0`. Finished work is kept: run the same command to resume.",
    )


def main() -> None:
    """Answers requests of `render_views` until standard input ends. sys.argv[1]: the lock of large pictures."""
    pixels.take_turns_by(FileLock(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not get between the answers
    with suppress(BrokenPipeError, EOFError):  # the parent is gone, or is done
        while True:
            request = pickle.load(sys.stdin.buffer)
            try:
                with system_errors():
                    answer = render_views(*request)
            except Kd2MobileError as refusal:
                answer = (type(refusal).__name__, refusal.where, refusal.must, refusal.got, refusal.next_step)
            pickle.dump(answer, answers, protocol=5)
            answers.flush()
    with suppress(BrokenPipeError):
        answers.close()


if __name__ == "__main__":
    main()
