"""Work on many images at once: Pillow and hashlib let go of Python's lock while they work."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None, ahead: int = 4
) -> Iterator[Result]:
    """work(item) of every item, in order, by `threads` threads (one a core when left out).

    ahead: items in work or waiting, for each thread, so that memory stays flat: 1 where a result is a whole batch.
    Unlike Executor.map it takes items no further ahead of what is asked for, and an error or Ctrl-C waits for what
    is in work, not for all that is left.

    >>> list(in_threads(abs, [-1, -2, -3]))
    [1, 2, 3]
    """
    threads = threads or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
