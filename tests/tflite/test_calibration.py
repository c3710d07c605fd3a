import random
from collections import Counter, namedtuple

import pytest

from kd2mobile.tflite.calibration import choose_calibration

Image = namedtuple("Image", "path label")
SAMPLES = [Image(f"{label}/{number}.jpg", label) for label, n in enumerate((2, 9, 5)) for number in range(n)]


@pytest.mark.parametrize(
    "count, expected",
    [(0, {}), (3, {0: 1, 1: 1, 2: 1}), (9, {0: 2, 1: 4, 2: 3}), (12, {0: 2, 1: 5, 2: 5}), (99, {0: 2, 1: 9, 2: 5})],
)
def test_classes_take_turns(count, expected):
    chosen = choose_calibration(SAMPLES, count, seed=0)
    counts = Counter(sample.label for sample in chosen)
    assert len(set(chosen)) == len(chosen) == min(count, len(SAMPLES))
    if count == 9:  # two full turns, then classes 1 and 2 share what is left, one of them ahead
        assert counts[0] == 2 and {counts[1], counts[2]} == {3, 4}
    else:
        assert counts == expected


def test_the_draw_is_the_seeds_and_not_the_orders():
    shuffled = random.Random(1).sample(SAMPLES, len(SAMPLES))
    assert choose_calibration(SAMPLES, 7, seed=3) == choose_calibration(shuffled, 7, seed=3)
    assert choose_calibration(SAMPLES, 7, seed=3) != choose_calibration(SAMPLES, 7, seed=4)


def test_fewer_images_than_classes_are_of_different_classes():
    many = [Image(f"{label}/{number}", label) for label in range(20) for number in range(3)]
    assert len({sample.label for sample in choose_calibration(many, 8, seed=0)}) == 8


def test_none_of_none():
    assert choose_calibration([], 5, seed=0) == []
