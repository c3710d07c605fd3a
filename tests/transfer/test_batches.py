"""The batch of the teacher's pass: doubled while that is worthwhile, halved where the memory ends."""

import keras
import numpy as np
import pytest

from kd2mobile.errors import TeacherError
from kd2mobile.files import is_out_of_memory
from kd2mobile.teachers.teacher import Teacher
from kd2mobile.transfer import batches
from kd2mobile.transfer.batches import answer, regrouped, try_batch_sizes

PX, CLASSES = 2, 3


class Machine:
    """A network on a machine with room for `fits` views, whose batch of n takes seconds(n) on a clock of its own."""

    def __init__(self, fits=10**9, seconds=lambda n: n):
        self.fits, self.seconds, self.clock = fits, seconds, 0.0
        self.batches = []

    def predict_on_batch(self, images):
        import tensorflow as tf

        if len(images) > self.fits:
            raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
        self.clock += self.seconds(len(images))
        self.batches.append(len(images))
        return np.repeat(images.mean(axis=(1, 2, 3))[:, None], CLASSES, axis=1)


@pytest.fixture
def teacher_on(monkeypatch):
    def make(**how):
        machine = Machine(**how)
        monkeypatch.setattr(batches.time, "monotonic", lambda: machine.clock)
        return Teacher(machine, PX, "none", "mine")

    return make


def test_it_doubles_while_the_rate_rises_by_a_worthwhile_part(teacher_on, capsys):
    teacher = teacher_on(seconds=lambda n: 64 + n)  # n / (64 + n) a second: 1/5, 1/3, 1/2, 2/3, 4/5, 8/9
    tried = try_batch_sizes(teacher, 10**6)
    assert tried == {16: 0.2, 32: 0.3, 64: 0.5, 128: 0.7, 256: 0.8, 512: 0.9, 1024: 0.9}
    assert teacher.batch_size == 512, "1024 is 6 % faster"
    output = capsys.readouterr().err
    assert output.startswith("batch size of the teacher's pass: 512 is the fastest (16 0.2 views/s, 32 0.3 views/s,")


def test_without_a_speedup_the_search_ends_after_two_sizes(teacher_on):
    teacher = teacher_on()
    assert try_batch_sizes(teacher, 10**6) == {16: 1.0, 32: 1.0}
    assert teacher.batch_size == 16


@pytest.mark.parametrize(
    ("fits", "tried", "used"),
    [(100, {16: 16.0, 32: 32.0, 64: 64.0, 128: None}, 64), (5, {16: None, 8: None, 4: 4.0}, 4)],
)
def test_memory_ends_the_doubling_or_halves(teacher_on, capsys, fits, tried, used):
    teacher = teacher_on(fits=fits, seconds=lambda n: 1)
    assert try_batch_sizes(teacher, 10**6) == tried
    assert teacher.batch_size == used
    assert "out of memory" in capsys.readouterr().err


def test_a_short_pass_tries_no_batch_sizes(teacher_on):
    teacher = teacher_on(seconds=lambda n: 1)
    assert try_batch_sizes(teacher, 1023) == {} and teacher.batch_size == 32 and teacher.model.batches == []
    assert set(try_batch_sizes(teacher, 2048)) == {16, 32, 64}, "no more than 32 batches are left of the next"


def test_an_image_that_does_not_fit_at_all_is_refused(teacher_on):
    for work in (lambda t: try_batch_sizes(t, 10**6), lambda t: answer(t, np.zeros((3, PX, PX, 3), np.uint8))):
        with pytest.raises(TeacherError) as caught:
            work(teacher_on(fits=0))
        assert str(caught.value).startswith("mine, teacher's pass: must have enough memory for one image of 2 px, got ")
        assert str(caught.value).endswith("or give a smaller --teacher-input-px.")


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(teacher_on, capsys):
    teacher = teacher_on(fits=5)
    teacher.batch_size = 16
    views = np.arange(13, dtype=np.uint8)[:, None, None, None] * np.ones((1, PX, PX, 3), np.uint8)
    np.testing.assert_array_equal(answer(teacher, views), np.arange(13, dtype=np.float32)[:, None].repeat(CLASSES, 1))
    assert teacher.batch_size == 4 and set(teacher.model.batches) == {4}
    assert capsys.readouterr().err.splitlines() == [
        "not enough memory for 16 views at once; continuing with 8",
        "not enough memory for 8 views at once; continuing with 4",
    ]


def test_another_error_is_not_taken_for_lack_of_memory(teacher_on):
    teacher = teacher_on(seconds=lambda n: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        try_batch_sizes(teacher, 10**6)
    with pytest.raises(ZeroDivisionError):
        answer(teacher, np.zeros((1, PX, PX, 3), np.uint8))


def test_out_of_memory_errors_of_the_frameworks_are_recognized():
    with pytest.raises(Exception, match="OOM") as caught:
        np.asarray(keras.ops.ones((1 << 23, 1 << 23)))  # 256 TiB: TensorFlow's own refusal
    assert is_out_of_memory(caught.value) and is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."))
    assert is_out_of_memory(RuntimeError("INTERNAL: failed to launch: CUDA_ERROR_OUT_OF_MEMORY: out of memory"))
    assert not is_out_of_memory(ValueError("memory"))


def test_parts_are_regrouped_to_a_batch_size_that_may_shrink():
    teacher = Teacher(None, PX, "none", "mine", 5)
    parts = [np.arange(first, first + n) for first, n in ((0, 3), (3, 9), (12, 1), (13, 4))]
    cut = []
    for batch in regrouped(parts, teacher):
        cut.append(batch.tolist())
        teacher.batch_size = 2 if len(cut) == 2 else teacher.batch_size
    assert [len(batch) for batch in cut] == [5, 5, 2, 2, 2, 1]
    assert sum(cut, []) == list(range(17))
    assert list(regrouped([], teacher)) == []
