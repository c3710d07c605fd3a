"""The batch size of the teacher's pass: found by timing, and halved where the memory is not sufficient."""

import time
from collections.abc import Iterable, Iterator

import numpy as np

from kd2mobile.errors import TeacherError
from kd2mobile.files import is_out_of_memory
from kd2mobile.progress import say
from kd2mobile.teachers.teacher import Teacher

SMALLEST, LARGEST, UNTRIED = 16, 1024, 32
WORTHWHILE = 1.1
"""The least speedup for which a batch size is doubled."""
BATCHES_AT_LEAST = 32
"""A batch size is tried only if the pass has at least this number of batches, so that the trial pays off."""
_TIMED_S = 0.5


def try_batch_sizes(teacher: Teacher, views: int) -> dict[int, float | None]:
    """Doubles the batch size while the teacher becomes faster and the memory is sufficient, and sets it in the teacher.

    views: number of views of the pass. Returns the views per second of each tried batch size, None where the memory was
    not sufficient; empty for a pass too short for trials. On a CPU the search ends after two sizes. Raises TeacherError
    if not even one image fits.
    """
    largest = min(LARGEST, views // BATCHES_AT_LEAST)
    teacher.batch_size = UNTRIED
    if largest < 2 * SMALLEST:
        return {}
    tried: dict[int, float | None] = {}
    best, fastest, size = 0, 0.0, SMALLEST
    while size <= largest:
        rate = tried[size] = _views_per_s(teacher, size)
        if rate is None or rate < WORTHWHILE * fastest:
            break
        best, fastest, size = size, rate, 2 * size
    while not best:
        size //= 2
        if not size:
            raise _too_big(teacher, "out of memory")
        tried[size] = _views_per_s(teacher, size)
        best = size if tried[size] else 0
    teacher.batch_size = best
    rates = ", ".join(f"{size} {f'{rate:,.1f} views/s' if rate else 'out of memory'}" for size, rate in tried.items())
    say(f"batch size of the teacher's pass: {best} is the fastest ({rates})")
    return tried


def answer(teacher: Teacher, views: np.ndarray) -> np.ndarray:
    """The teacher's outputs for any number of views. Halves teacher.batch_size, with a message, if memory runs out.

    views: uint8 [views, px, px, 3]. Returns float32 [views, classes]. Raises TeacherError if one view does not fit.
    """
    answers: list[np.ndarray] = []
    done = 0
    while done < len(views):
        try:
            answers.append(teacher.outputs(views[done : done + teacher.batch_size]))
            done += len(answers[-1])
        except Exception as fault:
            if not is_out_of_memory(fault):
                raise
            if teacher.batch_size == 1:
                raise _too_big(teacher, f"{type(fault).__name__}") from fault
            say(f"not enough memory for {teacher.batch_size} views at once; continuing with {teacher.batch_size // 2}")
            teacher.batch_size //= 2
    return np.concatenate(answers)


def regrouped(parts: Iterable[np.ndarray], teacher: Teacher) -> Iterator[np.ndarray]:
    """Regroups the parts [n, ...] into batches of the teacher's current batch_size; the last one may be shorter."""
    waiting: list[np.ndarray] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= teacher.batch_size:
            rows = np.concatenate(waiting)
            while len(rows) >= teacher.batch_size:
                batch, rows = np.split(rows, [teacher.batch_size])
                yield batch
            waiting = [rows]
    if sum(map(len, waiting)):
        yield np.concatenate(waiting)


def _views_per_s(teacher: Teacher, batch_size: int) -> float | None:
    """Views/s of the network alone on noise, the first batch not counted; None if the memory does not suffice."""
    shape = (batch_size, teacher.input_px, teacher.input_px, 3)
    teacher.batch_size = batch_size
    try:
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        teacher.outputs(noise)
        start, answered = time.monotonic(), 0
        while not answered or time.monotonic() - start < _TIMED_S:
            answered += len(teacher.outputs(noise))
        return round(answered / (time.monotonic() - start), 1)
    except Exception as fault:
        if is_out_of_memory(fault):
            return None
        raise


def _too_big(teacher: Teacher, got: str) -> TeacherError:
    return TeacherError(
        f"{teacher.where}, teacher's pass",
        f"must have enough memory for one image of {teacher.input_px} px",
        got,
        "Close other programs that use that memory, or give a smaller --teacher-input-px.",
    )
