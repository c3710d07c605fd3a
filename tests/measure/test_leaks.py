"""What a model scores on the test images that did not leak."""

import msgspec
import numpy as np
import pytest

from kd2mobile.measure.measured import record_of_probabilities, with_leaks
from kd2mobile.measure.record import BenchmarkRecord, with_reasons

LABELS = np.array([0, 1, 0, 1])
ANSWERS = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.5, 0.5]])
"""Right, wrong, right, and half right by its rank among equals."""


def evaluated(leaked):
    record = with_reasons(record_of_probabilities("student", "net", ANSWERS, LABELS, images="0" * 16))
    return with_leaks(record, ANSWERS, LABELS, np.array(leaked))


@pytest.mark.parametrize(
    ("leaked", "others"),
    [([True, False, False, False], 0.5), ([False, True, True, False], 0.75), ([False] * 4, 0.625)],
)
def test_the_top1_of_the_others_stands_beside_that_of_all(leaked, others):
    record = evaluated(leaked)
    assert (record.top1, record.leaked, record.top1_without_leaked) == (0.625, sum(leaked), others)
    assert not {"leaked", "top1_without_leaked"} & record.unknown.keys()


def test_where_all_leaked_nothing_is_left():
    record = evaluated([True] * 4)
    assert (record.leaked, record.top1_without_leaked) == (4, None)
    assert record.unknown["top1_without_leaked"] == "every test image leaked"


def test_what_was_not_evaluated_has_a_reason():
    nothing = dict.fromkeys(("top1", "top5", "logloss", "ece"))
    record = with_reasons(BenchmarkRecord(role="student", model="net", n=0, **nothing), top1="a phone's tool")
    record = with_leaks(record, None, LABELS, np.array([True] * 4))
    assert (record.leaked, record.top1_without_leaked) == (None, None)
    assert record.unknown["leaked"] == record.unknown["top1_without_leaked"] == record.unknown["top1"]


def test_the_leaks_of_another_file_are_unknown():
    record = msgspec.to_builtins(with_reasons(record_of_probabilities("external", "net", ANSWERS, LABELS)))
    assert record["unknown"]["leaked"] == "its training images are unknown"
