"""Work on many images in parallel threads: Pillow and hashlib release Python's global lock while they work."""

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
    """Yields work(item) for every item, in order, computed by a pool of threads.

    threads: size of the pool; one per core if left out. ahead: how many items per thread are submitted before their
    results are read, which bounds the memory; use 1 where a result is a whole batch.
    Unlike Executor.map it reads no more items than that in advance, and after an error or Ctrl-C it waits only for the
    items that are being worked on.

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
