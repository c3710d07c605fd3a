"""What a classifier's answers are worth: NumPy alone, every number checked against one derived by hand.

softmax, log_softmax                                  from logits to probabilities and their logarithms
top1, likeliest, hits, top_k_accuracy                 which classes, and whether the true one is among them
logloss, expected_calibration_error, calibration_bins how far probabilities can be believed
score, top1_and_logloss                               several of these at once
mcnemar, paired_interval                              two models on the same images
wilson_interval, median_interval                      how far one number can be believed
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

LEAST_PROBABILITY = 1 / 512
"""Half a step of an int8 file's probabilities: what it can only answer as 0 counts as this, in every model."""
CALIBRATION_BINS = 15
RESAMPLES = 10_000
MEDIAN_CONFIDENCE = 0.93
"""How sure `median_interval` is at least. Five values give 93.75 % with their least and most."""


class Scores(msgspec.Struct, frozen=True):
    """What a model's answers are worth; fractions in 0..1, logloss in nats, None where it is not known."""

    top1: float
    top5: float
    logloss: float | None
    ece: float | None
    teacher_agreement: float | None


class PairedTest(NamedTuple):
    """Two models on the same n images. difference: the share right of a less that of b; only_a, only_b: how many images
    only that one gets right; p_value: two-sided."""

    n: int
    difference: float
    only_a: int
    only_b: int
    p_value: float


class CalibrationBin(NamedTuple):
    """The images whose highest probability is in (low, high]. n: how many; confidence, accuracy: their means."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of float [..., classes] logits, of any width: float64, computed in float64.

    >>> softmax(np.array([0.0, np.log(3)])).round(4).tolist()
    [0.25, 0.75]
    """
    powers = np.exp(_below_zero(logits))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """The natural logarithm of `softmax`, finite where a probability itself is too small for a float.

    >>> log_softmax(np.array([0.0, -1000.0])).tolist()
    [0.0, -1000.0]
    """
    below = _below_zero(logits)
    return below - np.log(np.exp(below).sum(axis=-1, keepdims=True))


def _below_zero(logits: np.ndarray) -> np.ndarray:
    """The logits in float64, shifted so that each row's largest is 0: the softmax is the same and overflows nowhere."""
    wide = np.asarray(logits, np.float64)
    return wide - wide.max(axis=-1, keepdims=True)


def score(
    probabilities: np.ndarray,
    labels: np.ndarray,
    teacher_top1: np.ndarray | None = None,
    *,
    are_probabilities: bool = True,
) -> Scores:
    """All the numbers of one model. probabilities: float [n, classes]; labels, teacher_top1: int [n].

    are_probabilities: False for scores that only rank the classes, whose logloss and calibration error do not exist.
    """
    return Scores(
        top1=top_k_accuracy(probabilities, labels, 1),
        top5=top_k_accuracy(probabilities, labels, 5),
        logloss=logloss(probabilities, labels) if are_probabilities else None,
        ece=expected_calibration_error(probabilities, labels) if are_probabilities else None,
        teacher_agreement=None if teacher_top1 is None else _share(top1(probabilities) == teacher_top1),
    )


def top1(probabilities: np.ndarray) -> np.ndarray:
    """The likeliest class of each row, the first one of several that are equal: float [n, classes] to int [n]."""
    return np.argmax(probabilities, axis=1)


def likeliest(probabilities: np.ndarray, most: int) -> np.ndarray:
    """The `most` likeliest classes, best first, equal ones in their order: float [..., classes] to int [..., most].

    Logits rank as their probabilities do.

    >>> likeliest(np.array([0.2, 0.5, 0.2, 0.1]), 3).tolist()
    [1, 0, 2]
    """
    return np.argsort(-probabilities, axis=-1, kind="stable")[..., :most]


def hits(probabilities: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """The chance that the true class is among the k likeliest if equal ones are put in a random order: float64 [n].

    With g classes above the true one and t at its height, itself included: (k - g) / t, held within 0 and 1.
    8-bit probabilities are equal often, and whoever breaks ties by index favours the first classes.

    probabilities: float [n, classes]; labels: int [n].

    >>> hits(np.array([[0.4, 0.2, 0.2, 0.2]]), np.array([3]), 2).round(4).tolist()
    [0.3333]
    """
    own = probabilities[np.arange(len(labels)), labels][:, None]
    above = np.count_nonzero(probabilities > own, axis=1)
    level = np.count_nonzero(probabilities == own, axis=1)
    return np.clip((k - above) / np.maximum(level, 1), 0.0, 1.0)


def top_k_accuracy(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share of images whose true class is among the k likeliest, ties by expected rank (`hits`).

    With k or fewer classes it is 1: every class is among them.
    """
    return _share(hits(probabilities, labels, k))


def logloss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of the true class, nats, its probability clipped to [1/512, 1].

    One confident mistake costs 6.24 at most, in a float file as in one that counts in steps of 1/256.
    probabilities: float [n, classes]; labels: int [n].

    >>> round(logloss(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 1])), 4)
    3.4657
    """
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(0.0 - np.log(np.clip(own, LEAST_PROBABILITY, 1.0)).mean())


def top1_and_logloss(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """What training is followed by: the share of images whose largest logit is the label's, and `logloss`.

    Of equal logits the first counts. logits: float [n, classes]; labels: int [n].

    >>> [round(one, 4) for one in top1_and_logloss(np.array([[2.0, 2.0], [9.0, 0.0]]), np.array([0, 0]))]
    [1.0, 0.3466]
    """
    return _share(top1(logits) == labels), logloss(softmax(logits), labels)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """How far confidence is from accuracy: the mean over equal-width bins of confidence, weighted by their images.

    Bin m of M holds the images whose highest probability is in ((m - 1) / M, m / M]. Where several classes share
    that height, the chance that the true one is drawn among them counts, as in top-1.
    Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", equation 3.

    >>> round(expected_calibration_error(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1])), 4)
    0.45
    """
    _, confidences, rights = _binned(probabilities, labels, bins)
    return float(np.abs(rights - confidences).sum() / len(labels))


def calibration_bins(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = CALIBRATION_BINS
) -> list[CalibrationBin]:
    """The bins that `expected_calibration_error` counts, by rising confidence; those without an image are left out.

    probabilities: float [n, classes]; labels: int [n]. The n-weighted mean of |confidence - accuracy| is the ECE.

    >>> [(b.n, round(b.confidence, 2), b.accuracy) for b in calibration_bins(np.array([[0.9, 0.1]]), np.array([1]), 2)]
    [(1, 0.9, 0.0)]
    """
    counts, confidences, rights = _binned(probabilities, labels, bins)
    return [
        CalibrationBin(m / bins, (m + 1) / bins, int(n), float(confidences[m] / n), float(rights[m] / n))
        for m, n in enumerate(counts)
        if n
    ]


def _binned(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each equal-width bin of confidence: its images, the sum of their confidences, the sum of their hits."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    rows = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    right = hits(probabilities, labels, 1)
    sums = [np.bincount(rows, weights=values, minlength=bins) for values in (confidence, right)]
    return np.bincount(rows, minlength=bins), *sums


def mcnemar(correct_a: np.ndarray, correct_b: np.ndarray) -> PairedTest:
    """Whether two models evaluated on the same images differ: McNemar's test, exact and two-sided.

    Of the images that one model alone gets right, each is as likely either's if the two are equally good, so the
    smaller count follows a binomial distribution with p = 1/2. correct_a, correct_b: bool [n].
    Source: McNemar 1947; the exact form as in Agresti, Categorical Data Analysis, section 10.1.

    >>> mcnemar(np.array([True] * 5 + [False]), np.array([False] * 5 + [True]))
    PairedTest(n=6, difference=0.6666666666666667, only_a=5, only_b=1, p_value=0.21875)
    """
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    tosses = only_a + only_b
    tail = sum(math.comb(tosses, i) for i in range(min(only_a, only_b) + 1))
    return PairedTest(len(a), _share(a) - _share(b), only_a, only_b, min(1.0, 2 * tail / 2**tosses))


def paired_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of first less second: the paired bootstrap over images, percentiles of 10,000.

    first, second: float or bool [n], what each of two models gets for the same images, such as `hits`. Drawing n
    images with replacement is drawing how often each distinct difference comes, which is what is done here. The same
    arguments give the same interval. Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.

    >>> paired_interval(np.array([1.0, 1.0]), np.array([0.0, 0.0]))
    (1.0, 1.0)
    """
    gains, counts = np.unique(np.asarray(first, np.float64) - np.asarray(second, np.float64), return_counts=True)
    n = int(counts.sum())
    draws = np.random.default_rng(0).multinomial(n, counts / n, RESAMPLES)
    low, high = np.percentile(draws @ gains / n, [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(fraction: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a fraction of n trials, as fractions. Source: Wilson 1927.

    >>> [round(end, 4) for end in wilson_interval(0.5, 100)]
    [0.4038, 0.5962]
    """
    z = 1.959963984540054
    middle = (fraction + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(fraction * (1 - fraction) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the median of many more values would lie, with at least MEDIAN_CONFIDENCE, whatever their distribution.

    It is the k-th least and the k-th most of the values, by the binomial law; None for fewer than five values.

    Source: W. R. Thompson 1936, "On confidence ranges for the median".

    >>> median_interval([5, 1, 2, 3, 4]), median_interval([1, 2, 3, 4])
    ((1, 5), None)
    """
    n, inside = len(values), 1.0
    outside = 0
    for k in range(n // 2):
        inside -= 2 * math.comb(n, k) / 2**n
        if inside < MEDIAN_CONFIDENCE:
            break
        outside = k + 1
    ordered = sorted(values)
    return (ordered[outside - 1], ordered[n - outside]) if outside else None


def _share(values: np.ndarray) -> float:
    return float(np.asarray(values, np.float64).mean())
