"""Every number here is worked out on paper; the arithmetic stands beside it."""

import itertools
import math
from itertools import count, islice
from statistics import median

import numpy as np
import pytest

from kd2mobile import metrics


def test_top_k_without_ties():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    labels = np.array([0, 1, 2])  # ranks 1, 2, 3
    assert metrics.top_k_accuracy(probabilities, labels, 1) == pytest.approx(1 / 3)
    assert metrics.top_k_accuracy(probabilities, labels, 2) == pytest.approx(2 / 3)
    assert metrics.top_k_accuracy(probabilities, labels, 5) == 1


def test_ties_count_by_expected_rank():
    # one class above, four level with the true one: of five places four are left for four
    row = np.array([[0.4, 0.15, 0.15, 0.15, 0.15, 0.0]])
    assert metrics.hits(row, np.array([1]), 1) == [0]
    assert metrics.hits(row, np.array([1]), 2) == [1 / 4]
    assert metrics.hits(row, np.array([4]), 4) == [3 / 4]
    assert metrics.hits(row, np.array([4]), 5) == [1]
    assert metrics.hits(row, np.array([0]), 1) == [1]
    assert metrics.hits(row, np.array([5]), 5) == [0]


def test_expected_rank_is_the_mean_over_every_order():
    """Against brute force: all orders of the classes, sorted stably, each as likely."""
    draws = np.random.default_rng(3).integers(0, 3, (40, 5)) / 4
    for row, k in itertools.product(draws, (1, 2, 3)):
        wins = []
        for order in itertools.permutations(range(5)):
            best = sorted(order, key=lambda i: -row[i])[:k]
            wins.append(2 in best)
        assert metrics.hits(row[None], np.array([2]), k)[0] == pytest.approx(np.mean(wins), abs=1e-12)


def test_an_answer_that_says_nothing_is_worth_chance():
    assert metrics.top_k_accuracy(np.full((7, 10), 0.1), np.arange(7), 1) == pytest.approx(0.1)
    assert metrics.top_k_accuracy(np.full((7, 10), 0.1), np.arange(7), 5) == pytest.approx(0.5)


def test_logloss_clips_at_half_a_step():
    probabilities = np.array([[0.25, 0.75], [0.0, 1.0], [1.0, 0.0], [1 / 600, 1 - 1 / 600]])
    expected = (math.log(4) + math.log(512) + 0 + math.log(512)) / 4
    assert metrics.logloss(probabilities, np.array([0, 0, 0, 0])) == pytest.approx(expected, abs=1e-12)
    assert metrics.logloss(np.array([[255 / 256, 0.0]], np.float32), np.array([0])) == pytest.approx(
        -math.log(255 / 256)
    )


def test_logloss_never_rewards_a_sum_above_one():
    assert metrics.logloss(np.array([[1.0001, 0.0]]), np.array([0])) == 0


def test_calibration_error_by_hand():
    # 15 bins of width 1/15. 0.95 and 0.94 are in (14/15, 1]: accuracy 1/2, confidence 0.945, gap 0.445.
    # 0.70 is in (10/15, 11/15]: accuracy 1, gap 0.3. ECE = (2 * 0.445 + 1 * 0.3) / 3.
    probabilities = np.array([[0.95, 0.05], [0.94, 0.06], [0.30, 0.70]])
    labels = np.array([0, 1, 1])
    assert metrics.expected_calibration_error(probabilities, labels) == pytest.approx((2 * 0.445 + 0.3) / 3, abs=1e-12)


def test_calibration_bins_are_closed_above():
    # 0.5 of 2 bins belongs to the lower one, with 0.4 (right) it makes accuracy 1/2 and confidence 0.45 there
    probabilities = np.array([[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]])
    labels = np.array([1, 0, 0])
    expected = 2 / 3 * abs(0.5 - 0.45) + 1 / 3 * abs(1 - 0.6)
    assert metrics.expected_calibration_error(probabilities, labels, bins=2) == pytest.approx(expected, abs=1e-12)


def test_a_calibrated_answer_has_no_error():
    probabilities = np.tile([0.75, 0.25], (4, 1))
    assert metrics.expected_calibration_error(probabilities, np.array([0, 0, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert metrics.expected_calibration_error(np.full((3, 4), 0.25), np.array([0, 1, 2])) == pytest.approx(0, abs=1e-12)


def test_certainty_beyond_one_stays_in_the_last_bin():
    assert metrics.expected_calibration_error(np.array([[1.00001, 0.0]]), np.array([0])) == pytest.approx(
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
    n = only_a + only_b + 7
    difference = pytest.approx((only_a - only_b) / n, abs=1e-12)
    assert metrics.mcnemar(a, b) == (n, difference, only_a, only_b, pytest.approx(p_value, rel=1e-12))


def test_mcnemar_of_many_images():
    """The published example of Agresti, table 10.1 (approval of a prime minister): 150 against 86, z = 4.17."""
    a, b = np.array([True] * 150 + [False] * 86), np.array([False] * 150 + [True] * 86)
    tail = sum(math.comb(236, i) for i in range(87)) / 2**236
    assert metrics.mcnemar(a, b).p_value == pytest.approx(2 * tail, rel=1e-12)
    normal = math.erfc(4.17 / math.sqrt(2))
    assert metrics.mcnemar(a, b).p_value == pytest.approx(normal, rel=0.3)
    huge = metrics.mcnemar(np.arange(5000) < 2000, np.arange(5000) >= 2000)
    assert 0 < huge.p_value < 1e-40


def test_scores_that_only_rank_have_no_logloss():
    scores = metrics.score(np.array([[0.9, 0.8], [0.1, 0.2]]), np.array([0, 0]), are_probabilities=False)
    assert (scores.top1, scores.logloss, scores.ece, scores.teacher_agreement) == (0.5, None, None, None)


def test_teacher_agreement():
    scores = metrics.score(np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([0, 0]), np.array([0, 1]))
    assert (scores.top1, scores.top5, scores.teacher_agreement) == (0.5, 1.0, 1.0)


def test_the_paired_interval_is_that_of_drawing_images():
    """500 images, 40 only right in the one and 20 in the other: the normal interval, and drawing them one by one."""
    first = np.array([1.0] * 40 + [0.0] * 20 + [1.0] * 440)
    second = np.array([0.0] * 40 + [1.0] * 20 + [1.0] * 440)
    low, high = metrics.paired_interval(first, second)
    half = 1.96 * math.sqrt((60 / 500 - 0.04**2) / 500)
    assert (low, high) == pytest.approx((0.04 - half, 0.04 + half), abs=0.0025)
    draws = np.random.default_rng(1).integers(0, 500, (4000, 500))
    drawn = np.percentile((first - second)[draws].mean(axis=1), [2.5, 97.5])
    assert (low, high) == pytest.approx(tuple(drawn), abs=0.004)
    assert metrics.paired_interval(first, second) == (low, high)
    assert metrics.paired_interval(first, first) == (0.0, 0.0)


def test_softmax_is_float64_whatever_the_logits_are():
    whole = metrics.softmax(np.array([[60000.0, -60000.0, 59968.0], [0.0, -200.0, -300.0]], np.float16))
    assert whole.dtype == np.float64
    expected = [[1, 0, np.exp(-32.0)], [1, np.exp(-200.0), np.exp(-300.0)]]  # the small ones stay apart
    np.testing.assert_allclose(whole, expected, rtol=1e-12)


def test_log_softmax_stays_finite_where_softmax_is_zero():
    """By hand: ln(e^a / (e^a + e^b)) = -ln(1 + e^(b - a)), for b - a = ln 3 and for 1000."""
    logs = metrics.log_softmax(np.array([[0.0, math.log(3)], [-1000.0, 0.0]], np.float32))
    assert logs.dtype == np.float64
    np.testing.assert_allclose(logs, [[-math.log(4), math.log(0.75)], [-1000.0, 0.0]], atol=1e-7)


def test_equal_logits_rank_in_the_order_of_the_classes():
    assert metrics.likeliest(np.array([[1.0, 2.0, 2.0], [3.0, 1.0, 3.0]]), 2).tolist() == [[1, 2], [0, 2]]


def test_top1_and_logloss_by_hand():
    """Row 1: e^2 / (e^2 + 1) of the true class; row 2: the true class has 1 / (1 + e^9), clipped at 1/512."""
    top1, logloss = metrics.top1_and_logloss(np.array([[2.0, 0.0], [9.0, 0.0]]), np.array([0, 1]))
    assert top1 == 0.5
    assert logloss == pytest.approx((math.log(1 + math.exp(-2)) + math.log(512)) / 2, abs=1e-12)


def test_the_interval_is_wilsons():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662
    assert metrics.wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert metrics.wilson_interval(1.0, 20)[1] == 1.0


@pytest.mark.parametrize(("n", "least"), [(5, 0), (6, 0), (8, 0), (9, 1), (10, 1), (12, 2), (15, 3), (20, 5)])
def test_the_interval_of_a_median_is_that_of_the_binomial_law(n, least):
    """Golden: by hand from the tails of Binomial(n, 1/2), the narrowest that holds at least 93 %."""
    values = [float(value) for value in range(n)]
    assert metrics.median_interval(values[::-1]) == (values[least], values[n - 1 - least])

    def sure(k):
        return 1 - 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n

    assert sure(least) >= 0.93 > sure(least + 1)


def test_the_median_of_many_rounds_lies_in_its_interval():
    values = list(islice((math.sin(7 * i) + 2 for i in count()), 20))
    low, high = metrics.median_interval(values)
    assert low <= median(values) <= high
