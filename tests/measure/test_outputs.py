import numpy as np
import pytest

from kd2mobile.measure.outputs import read_answers

PROBABILITIES = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
LOGITS = np.array([[0.0, np.log(3)], [2.0, 2.0]], np.float32)


def test_outputs_of_a_softmax_are_probabilities():
    steps = np.array([[0.0, 0.25]], np.float32)
    assert read_answers(steps, "SOFTMAX") == (pytest.approx(steps), "probabilities", None)


def test_numbers_decide_where_the_graph_does_not():
    values, kind, note = read_answers(PROBABILITIES, "DIV")
    assert kind == "probabilities" and note is None
    np.testing.assert_array_equal(values, PROBABILITIES)


@pytest.mark.parametrize("last_op", ["FULLY_CONNECTED", None])
def test_logits_get_a_softmax_and_a_note(last_op):
    values, kind, note = read_answers(LOGITS, last_op)
    assert kind == "logits" and "softmax is applied" in note
    np.testing.assert_allclose(values, PROBABILITIES, atol=1e-7)


def test_one_image_that_does_not_sum_to_one_makes_all_logits():
    assert read_answers(np.array([[0.3, 0.7], [0.5, 0.53]], np.float32), "ADD").kind == "logits"
    assert read_answers(np.array([[0.3, 0.7], [0.5, 0.51]], np.float32), "ADD").kind == "probabilities"


def test_rounding_of_a_quantized_output_is_allowed_for():
    flat = np.full((1, 1000), 0.0, np.float32)
    flat[0, 0] = 0.5
    assert read_answers(flat, "DIV", step=1 / 256).kind == "probabilities"
    assert read_answers(flat, "DIV").kind == "logits"


def test_a_sigmoid_only_ranks():
    values, kind, note = read_answers(np.array([[0.9, 0.8]], np.float32), "LOGISTIC")
    assert kind == "scores" and "logloss is unknown" in note
    assert values.argmax() == 0


def test_large_logits_do_not_overflow():
    values = read_answers(np.array([[1e5, 0.0]], np.float32), "ADD").values
    np.testing.assert_array_equal(values, [[1.0, 0.0]])
