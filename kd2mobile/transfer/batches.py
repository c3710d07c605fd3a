"""How many views the teacher answers at once: found by trying, and halved where the memory does not suffice."""

import time
from collections.abc import Iterable, Iterator

import numpy as np

from kd2mobile.errors import TeacherError
from kd2mobile.files import is_out_of_memory
from kd2mobile.progress import say
from kd2mobile.teachers.teacher import Teacher

SMALLEST, LARGEST, UNTRIED = 16, 1024, 32
WORTHWHILE = 1.1
"""How many times faster a doubled batch must be to be taken."""
BATCHES_AT_LEAST = 32
"""A batch size is tried only if the pass has so many batches of it: what trying costs must be won back."""
_TIMED_S = 0.5


def try_batch_sizes(teacher: Teacher, views: int) -> dict[int, float | None]:
    """Doubles the batch while that is worthwhile and the memory suffices. views: how many are to be answered.

    Leaves the teacher with the batch size that is to be used. Returns views/s by batch size, None where the memory
    did not suffice; nothing for a pass too short to try. On a CPU this ends after two sizes. Raises TeacherError if
    not even one image fits.
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
    spoken = ", ".join(f"{size} {f'{rate:,.1f} views/s' if rate else 'out of memory'}" for size, rate in tried.items())
    say(f"batch size of the teacher's pass: {best} is the fastest ({spoken})")
    return tried


def answer(teacher: Teacher, seen: np.ndarray) -> np.ndarray:
    """teacher.outputs of any number of views; halves teacher.batch_size, and says so, where the memory is too small.

    seen: uint8 [views, px, px, 3]. Returns float32 [views, classes]. Raises TeacherError if one view does not fit.
    """
    answers: list[np.ndarray] = []
    done = 0
    while done < len(seen):
        try:
            answers.append(teacher.outputs(seen[done : done + teacher.batch_size]))
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
    """The parts [n, ...] end to end, cut anew to teacher.batch_size rows, as it then is; the last one shorter."""
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
