import numpy as np
import pytest

from kd2mobile.errors import ExportError
from kd2mobile.recipe.schema import PRECISIONS
from kd2mobile.tflite.parity import LOWEST_AGREEMENT, Parity, check_parity, compare, open_classifier

from .conftest import dark_images


def test_every_precision_has_a_limit():
    assert tuple(LOWEST_AGREEMENT) == PRECISIONS


def test_batches_add_up():
    expected, answers = np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.7, 0.3], [0.55, 0.45]])
    parity = Parity().with_batch(expected, answers).with_batch(expected, expected)
    assert parity[:2] == (4, 3) and parity.agreement == 0.75 and parity.largest_difference == pytest.approx(0.2)


def test_beside_its_graph_either_of_two_level_classes_counts():
    expected = np.array([[0.4, 0.4, 0.2], [0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.2, 0.5, 0.3]])
    answers = np.array([[0.3, 0.4, 0.3], [0.4, 0.4, 0.2], [1 / 3] * 3, [0.5, 0.2, 0.3]])
    assert Parity().with_batch(expected, answers).agreed == 2
    assert Parity().with_batch(expected, answers, ties=True).agreed == 3
    turned = expected[:, ::-1], answers[:, ::-1]  # now three level classes are no longer the right one by their index
    assert Parity().with_batch(*turned).agreed == 1
    assert Parity().with_batch(*turned, ties=True).agreed == 2


@pytest.mark.parametrize(
    "precision, n, differ, passes",
    [
        ("fp32", 10, 2, True),
        ("fp32", 10, 3, False),
        ("fp32", 5000, 5, True),
        ("fp32", 5000, 6, False),
        ("fp16", 1000, 5, True),
        ("fp16", 1000, 6, False),
        ("int8_dynamic", 100, 5, True),
        ("int8_dynamic", 100, 6, False),
        ("int8", 100, 10, True),
        ("int8", 100, 11, False),
        ("int16x8", 100, 5, True),
        ("int16x8", 100, 6, False),
        ("int8", 12, 2, True),
        ("int8", 12, 3, False),
    ],
)
def test_the_gate(precision, n, differ, passes):
    parity = Parity(n, n - differ, 0.1)
    if passes:
        check_parity(parity, precision, "a.tflite")
    else:
        with pytest.raises(ExportError, match=rf"a.tflite: must agree .*, got .*% of {n} \(.*0\.100\)\. \w+"):
            check_parity(parity, precision, "a.tflite")


def test_a_refusal_lists_the_worst_layers():
    with pytest.raises(ExportError, match=r"--keep-float, or .* The layers with the largest errors: conv_3, logits\.$"):
        check_parity(Parity(100, 50, 0.1), "int8", "a.tflite", worst_layers=["conv_3", "logits"])


def test_nothing_compared_is_refused():
    with pytest.raises(ExportError, match="a.tflite: must be compared with its student, got no validation images"):
        check_parity(Parity(), "fp32", "a.tflite")


def test_nan_is_refused_wherever_it_came():
    right, wrong = np.array([[0.5, 0.5]]), np.array([[np.nan, 0.5]])
    for order in ([right, wrong], [wrong, right]):
        parity = Parity()
        for expected in order:
            parity = parity.with_batch(expected, right)
        with pytest.raises(ExportError, match="must output finite probabilities, got NaN"):
            check_parity(parity, "int8", "a.tflite")


def test_a_file_agrees_with_itself_and_not_with_another_student(case):
    shown, _ = dark_images(12)
    model = case.file("fp32").read_bytes()
    classify, counted = open_classifier(model), []
    itself = lambda batch: np.stack([classify(image) for image in batch])  # noqa: E731
    turned = lambda batch: itself(batch)[:, ::-1]  # noqa: E731
    same = compare({"fp32": model}, itself, [shown[:8], shown[8:]], counted.append)
    assert same["fp32"] == Parity(12, 12, 0.0) and counted == [8, 4]
    labels = [0, 1, 2, 2] * 3
    evaluated = compare({"fp32": model}, itself, [shown[:8], shown[8:]], labels=labels)["fp32"]
    assert evaluated.file_hits == evaluated.student_hits == tuple((itself(shown).argmax(1) == labels).astype(float))
    assert evaluated[:3] == same["fp32"][:3]
    other = compare({"fp32": model, "int8": case.file("int8").read_bytes()}, turned, [shown])
    for precision, parity in other.items():
        with pytest.raises(ExportError, match="got 33.3% of 12"):
            check_parity(parity, precision, "a.tflite")


def test_int8_answers_are_probabilities(case):
    answer = open_classifier(case.file("int8").read_bytes())(dark_images(1)[0][0])
    assert answer.dtype == np.float32 and answer.sum() == pytest.approx(1, abs=0.02)
    assert np.array_equal(answer * 256, np.round(answer * 256))
