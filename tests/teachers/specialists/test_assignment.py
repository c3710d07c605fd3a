"""Confusable classes are found from the generalist's answers alone: made up so that the sets are known."""

import numpy as np
import pytest

from kd2mobile.errors import TeacherError
from kd2mobile.metrics import softmax
from kd2mobile.teachers.specialists.assignment import by_correlation, by_k_means, covariance_of, specialist_sets
from kd2mobile.teachers.specialists.coverage import Coverage, coverage_table

CONFUSED = [[0, 3], [1, 2, 5], [4, 6]]


def answers(images=700, seed=0):
    """Probabilities of 7 classes; those of one set rise and fall together."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 0.3, (images, 7))
    for image in range(images):
        logits[image, CONFUSED[image % 3]] += 3
    return softmax(logits)


def test_k_means_finds_the_confused_sets():
    covariance = covariance_of(answers())
    assert by_k_means(covariance, 3, seed=0) == CONFUSED
    with pytest.raises(TeacherError, match=r"specialists.clusters: must be 1 to 7, the number of classes, got 8\."):
        by_k_means(covariance, 8, seed=0)


def test_correlation_clustering_finds_their_number_too():
    assert by_correlation(covariance_of(answers())) == CONFUSED


def test_merging_never_lowers_the_score():
    rng = np.random.default_rng(3)
    for _ in range(20):
        features = rng.normal(size=(9, 3))
        covariance = features @ features.T - 0.5
        sets = by_correlation(covariance)
        assert sorted(index for one in sets for index in one) == list(range(9))
        between = [covariance[np.ix_(a, b)].sum() for i, a in enumerate(sets) for b in sets[:i]]
        assert all(gain <= 1e-12 for gain in between), "no merge is left that raises the score"


def test_a_specialist_is_for_some_classes_and_not_for_all():
    names = list("abcd")
    assert specialist_sets([[0, 1], [2], [3]], names) == [[0, 1]]
    with pytest.raises(
        TeacherError, match="must be sets of two classes at least, and not of all 4, got one class in ea"
    ):
        specialist_sets([[0], [1], [2], [3]], names)
    with pytest.raises(TeacherError, match="got all of them in one set"):
        specialist_sets([[0, 1, 2, 3]], names)


def test_the_coverage_table_counts_by_hand():
    own = np.array([[True, True, False], [True, False, False]])  # class 0 has two specialists, 1 one, 2 none
    labels = np.array([0, 0, 1, 1, 2])
    generalist = np.eye(3)[[0, 1, 0, 1, 2]]  # right, wrong, wrong, right, right
    joint = np.eye(3)[[0, 0, 0, 2, 2]]  # right, right, wrong, wrong, right
    assert coverage_table(generalist, joint, labels, own) == [
        Coverage(0, 1, 0.0, 0.0),
        Coverage(1, 2, -1.0, -1.0),
        Coverage(2, 2, 1.0, 1.0),
    ]
    assert coverage_table(np.eye(3)[[1]], np.eye(3)[[0]], labels[:1], own) == [Coverage(2, 1, 1.0, None)]
