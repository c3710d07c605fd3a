"""Every number here is worked out on paper; the arithmetic stands beside it."""

import itertools
import math

import numpy as np
import pytest

from kd2mobile.measure import accuracy


def test_top_k_without_ties():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    labels = np.array([0, 1, 2])  # ranks 1, 2, 3
    assert accuracy.top_k_accuracy(probabilities, labels, 1) == pytest.approx(1 / 3)
    assert accuracy.top_k_accuracy(probabilities, labels, 2) == pytest.approx(2 / 3)
    assert accuracy.top_k_accuracy(probabilities, labels, 5) == 1


def test_ties_count_by_expected_rank():
    # one class above, four level with the true one: of five places four are left for four
    row = np.array([[0.4, 0.15, 0.15, 0.15, 0.15, 0.0]])
    assert accuracy.hits(row, np.array([1]), 1) == [0]
    assert accuracy.hits(row, np.array([1]), 2) == [1 / 4]
    assert accuracy.hits(row, np.array([4]), 4) == [3 / 4]
    assert accuracy.hits(row, np.array([4]), 5) == [1]
    assert accuracy.hits(row, np.array([0]), 1) == [1]
    assert accuracy.hits(row, np.array([5]), 5) == [0]


def test_expected_rank_is_the_mean_over_every_order():
    """Against brute force: all orders of the classes, sorted stably, each as likely."""
    draws = np.random.default_rng(3).integers(0, 3, (40, 5)) / 4
    for row, k in itertools.product(draws, (1, 2, 3)):
        wins = []
        for order in itertools.permutations(range(5)):
            best = sorted(order, key=lambda i: -row[i])[:k]
            wins.append(2 in best)
        assert accuracy.hits(row[None], np.array([2]), k)[0] == pytest.approx(np.mean(wins), abs=1e-12)


def test_an_answer_that_says_nothing_is_worth_chance():
    assert accuracy.top_k_accuracy(np.full((7, 10), 0.1), np.arange(7), 1) == pytest.approx(0.1)
    assert accuracy.top_k_accuracy(np.full((7, 10), 0.1), np.arange(7), 5) == pytest.approx(0.5)


def test_logloss_clips_at_half_a_step():
    probabilities = np.array([[0.25, 0.75], [0.0, 1.0], [1.0, 0.0], [1 / 600, 1 - 1 / 600]])
    expected = (math.log(4) + math.log(512) + 0 + math.log(512)) / 4
    assert accuracy.logloss(probabilities, np.array([0, 0, 0, 0])) == pytest.approx(expected, abs=1e-12)
    assert accuracy.logloss(np.array([[255 / 256, 0.0]], np.float32), np.array([0])) == pytest.approx(
        -math.log(255 / 256)
    )


def test_logloss_never_rewards_a_sum_above_one():
    assert accuracy.logloss(np.array([[1.0001, 0.0]]), np.array([0])) == 0


def test_calibration_error_by_hand():
    # 15 bins of width 1/15. 0.95 and 0.94 are in (14/15, 1]: accuracy 1/2, confidence 0.945, gap 0.445.
    # 0.70 is in (10/15, 11/15]: accuracy 1, gap 0.3. ECE = (2 * 0.445 + 1 * 0.3) / 3.
    probabilities = np.array([[0.95, 0.05], [0.94, 0.06], [0.30, 0.70]])
    labels = np.array([0, 1, 1])
    assert accuracy.expected_calibration_error(probabilities, labels) == pytest.approx((2 * 0.445 + 0.3) / 3, abs=1e-12)


def test_calibration_bins_are_closed_above():
    # 0.5 of 2 bins belongs to the lower one, with 0.4 (right) it makes accuracy 1/2 and confidence 0.45 there
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]])
    labels = np.array([1, 0, 0])
    expected = 2 / 3 * abs(0.5 - 0.45) + 1 / 3 * abs(1 - 0.6)
    assert accuracy.expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(expected, abs=1e-12)


def test_a_calibrated_answer_has_no_error():
    probabilities = np.tile([0.75, 0.25], (4, 1))
    assert accuracy.expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert accuracy.expected_calibration_error(np.full((3, 4), 0.25), np.array([0, 1, 2])) == pytest.approx(
        0, abs=1e-12
    )


def test_certainty_beyond_one_stays_in_the_last_bin():
    assert accuracy.expected_calibration_error(np.array([[1.00001, 0.0]]), np.array([0])) == pytest.approx(
        1e-5, abs=1e-9
    )


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"),
    [
        (0, 0, 1.0),
        (3, 3, 1.0),  # twice the half of all tosses and more: held at 1
        (1, 5, 2 * (1 + 6) / 64),
        (5, 1, 2 * (1 + 6) / 64),
        (0, 10, 2 / 1024),
        (10, 25, 2 * sum(math.comb(35, i) for i in range(11)) / 2**35),
    ],
)
def test_mcnemar_exact(only_a, only_b, p_value):
    a = np.array([True] * only_a + [False] * only_b + [True] * 4 + [False] * 3)
    b = np.array([False] * only_a + [True] * only_b + [True] * 4 + [False] * 3)
    assert accuracy.mcnemar(a, b) == (only_a, only_b, pytest.approx(p_value, rel=1e-12))


def test_mcnemar_of_many_pictures():
    """The published example of Agresti, table 10.1 (approval of a prime minister): 150 against 86, z = 4.17."""
    a, b = np.array([True] * 150 + [False] * 86), np.array([False] * 150 + [True] * 86)
    tail = sum(math.comb(236, i) for i in range(87)) / 2**236
    assert accuracy.mcnemar(a, b).p_value == pytest.approx(2 * tail, rel=1e-12)
    normal = math.erfc(4.17 / math.sqrt(2))
    assert accuracy.mcnemar(a, b).p_value == pytest.approx(normal, rel=0.3)
    huge = accuracy.mcnemar(np.arange(5000) < 2000, np.arange(5000) >= 2000)
    assert 0 < huge.p_value < 1e-40


def test_scores_that_only_rank_have_no_logloss():
    scores = accuracy.score(np.array([[0.9, 0.8], [0.1, 0.2]]), np.array([0, 0]), are_probabilities=False)
    assert (scores.top1, scores.logloss, scores.ece, scores.teacher_agreement) == (0.5, None, None, None)


def test_teacher_agreement():
    scores = accuracy.score(np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0, 0]), np.array([0, 1]))
    assert (scores.top1, scores.top5, scores.teacher_agreement) == (0.5, 1.0, 1.0)


def test_the_paired_interval_is_that_of_drawing_pictures():
    """500 pictures, 40 only right in the one and 20 in the other: the normal interval, and drawing them one by one."""
    first = np.array([1.0] * 40 + [0.0] * 20 + [1.0] * 440)
    second = np.array([0.0] * 40 + [1.0] * 20 + [1.0] * 440)
    low, high = accuracy.paired_interval(first, second)
    half = 1.96 * math.sqrt((60 / 500 - 0.04**2) / 500)
    assert (low, high) == pytest.approx((0.04 - half, 0.04 + half), abs=0.0025)
    draws = np.random.default_rng(1).integers(0, 500, (4000, 500))
    drawn = np.percentile((first - second)[draws].mean(axis=1), [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(drawn), abs=0.004)
    assert accuracy.paired_interval(first, second) == (low, high)
    assert accuracy.paired_interval(first, first) == (0.0, 0.0)
