"""What is found in the answers, against counts made by hand."""

import numpy as np
import pytest

from kd2mobile.metrics import expected_calibration_error
from kd2mobile.pages import findings
from kd2mobile.pages.page import most_moved
from kd2mobile.pages.view import ClassScore, Example

CLASSES = ["a", "b", "c"]


def exemplify(i, said):
    return Example(path=str(i), image=None, true_class="", answers=said)


def surely(classes, sure=0.8, width=3):
    """Probabilities [n, width] whose likeliest classes are these. sure: of each, or one for all."""
    sure = np.broadcast_to(np.asarray(sure, float), len(classes))[:, None]
    return np.where(np.eye(width)[classes] == 1, sure, (1 - sure) / (width - 1))


def test_confused_pairs_are_counted_and_ordered():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
    said = np.array([0, 1, 1, 1, 0, 0, 1, 0, 2])
    taught = np.array([0, 1, 1, 2, 1, 1, 1, 2, 2])
    student = surely(said, [0.9, 0.5, 0.7, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9])
    found = findings.confusion("student", labels, student, surely(taught), CLASSES, exemplify)
    assert (found.n, found.errors, found.pairs_in_all) == (9, 6, 3)
    facts = [(p.true_class, p.predicted_class, p.count, p.n, p.teacher_too, p.other_way) for p in found.pairs]
    assert facts == [("a", "b", 3, 4, 2, 2), ("b", "a", 2, 3, 0, 3), ("c", "a", 1, 2, 0, 0)]
    assert [example.path for example in found.pairs[0].examples] == ["2", "3", "1"], "the surest first"
    answers = [(a.who, a.predicted_class, round(a.probability, 6)) for a in found.pairs[0].examples[0].answers]
    assert answers == [("student", "b", 0.7), ("teacher", "b", 0.8)]
    assert found.matrix == [[1, 3, 0], [2, 1, 0], [1, 0, 1]]


def test_equally_frequent_pairs_stand_in_the_order_of_the_classes_and_end_at_the_cap():
    names = [str(i) for i in range(30)]
    labels = np.arange(30).repeat(2)[::-1]
    student, teacher = surely((labels + 1) % 30, width=30), surely(labels, width=30)
    found = findings.confusion("s", labels, student, teacher, names, exemplify)
    assert [pair.true_class for pair in found.pairs] == names[: findings.MOST_PAIRS]
    assert found.pairs_in_all == 30 and found.matrix is None


def test_a_student_without_an_error():
    labels = np.array([0, 1, 2])
    found = findings.confusion("s", labels, surely(labels), surely(labels), CLASSES, exemplify)
    assert (found.errors, found.pairs, found.pairs_in_all) == (0, [], 0)


def test_the_bins_make_up_the_calibration_error():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(4), 500), rng.integers(0, 4, 500)
    found = findings.calibration("student", "s", probabilities, labels)
    assert sum(one.n for one in found.bins) == 500
    gaps = sum(one.n * abs(one.confidence - one.accuracy) for one in found.bins) / 500
    assert found.ece == pytest.approx(gaps, abs=1e-12)
    assert found.ece == expected_calibration_error(probabilities, labels)
    confidence = probabilities.max(1)
    for one in found.bins:
        inside = (confidence > one.low) & (confidence <= one.high)
        assert one.n == inside.sum() and one.low < one.confidence <= one.high
        assert one.accuracy == pytest.approx((probabilities.argmax(1) == labels)[inside].mean())


def test_class_scores_leave_out_classes_without_a_test_image():
    labels = np.array([0, 0, 0, 2])
    found = findings.class_scores(labels, surely([0, 0, 1, 2]), surely([0, 1, 1, 0]), CLASSES)
    assert found == [ClassScore("a", 3, 2, 1), ClassScore("c", 1, 1, 0)]


def test_the_classes_that_move_most_gain_first():
    scores = [ClassScore(f"up {i}", 100 - i, 50 + i, 50) for i in range(15)]
    scores += [ClassScore(f"down {i}", 100, 50 - i, 50) for i in range(1, 4)] + [ClassScore("small", 10, 5, 7)]
    moved = [score.name for score in most_moved(scores)]
    assert moved == [*(f"up {i}" for i in range(14, 4, -1)), "down 1", "down 2", "small", "down 3"]


def test_where_the_quantized_file_differs():
    labels = np.array([0, 1, 2, 0, 1])
    files = {"int8": surely([0, 2, 2, 1, 2]), "fp16": surely([0, 1, 0, 1, 0]), "fp32": surely([0, 1, 0, 1, 0])}
    fp16, int8 = findings.disagreements(files, labels, CLASSES, exemplify)
    assert (fp16.reference, fp16.precision, fp16.count, fp16.examples) == ("fp32", "fp16", 0, [])
    assert (int8.n, int8.count, int8.only_reference, int8.only_other) == (5, 3, 1, 1)
    assert [example.path for example in int8.examples] == ["1", "2", "4"], "those first where one is right"
    assert [(a.who, a.predicted_class) for a in int8.examples[0].answers] == [("fp32", "b"), ("int8", "c")]


def test_without_a_float_file_there_is_nothing_to_compare_with():
    only = {"int8": surely([0]), "int8_dynamic": surely([0])}
    assert findings.disagreements(only, np.array([0]), CLASSES, exemplify) == []
