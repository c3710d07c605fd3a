"""What generalist and specialists say together, beside an independent minimiser and cases whose answer is known."""

import numpy as np
import pytest
from scipy.optimize import minimize

from kd2mobile.metrics import softmax
from kd2mobile.teachers.specialists.posterior import active_specialists, corrected_dustbin, joint_distribution


def random_case(rng, images=6):
    classes, count = int(rng.integers(4, 9)), int(rng.integers(1, 5))
    own = np.zeros((count, classes), bool)
    for row in own:
        row[rng.choice(classes, rng.integers(2, classes), replace=False)] = True
    generalist = rng.dirichlet(np.full(classes, 0.7), images)
    specialists = [rng.dirichlet(np.full(row.sum() + 1, 0.7), images) for row in own]
    return generalist, specialists, own, rng.random((images, count)) < 0.7


def minimised(generalist, answers, own, active):
    """Of one image, by a general minimiser over the logits of q."""

    def cost_and_slope(z):
        q = softmax(z)
        cost, slope = -(generalist * np.log(q)).sum(), generalist / q
        for answer, row in zip(
            [a for a, is_on in zip(answers, active, strict=True) if is_on], own[active], strict=True
        ):
            mass = q[~row].sum()
            cost -= (answer[:-1] * np.log(q[row])).sum() + answer[-1] * np.log(mass)
            slope = slope + np.where(row, 0, answer[-1] / mass)
            slope[row] += answer[:-1] / q[row]
        return cost, q * ((slope * q).sum() - slope)

    found = minimize(cost_and_slope, np.log(generalist), jac=True, method="BFGS", options={"gtol": 1e-9})
    return softmax(found.x)


@pytest.mark.parametrize("seed", range(12))
def test_the_joint_distribution_is_the_minimum(seed):
    case = random_case(np.random.default_rng(seed))
    joint = joint_distribution(*case)
    generalist, specialists, own, active = case
    for image, q in enumerate(joint):
        expected = minimised(generalist[image], [answer[image] for answer in specialists], own, active[image])
        np.testing.assert_allclose(q, expected, atol=1e-5)


def test_without_an_active_specialist_it_is_the_generalist():
    generalist, specialists, own, active = random_case(np.random.default_rng(0))
    np.testing.assert_array_equal(joint_distribution(generalist, specialists, own, active & False), generalist)


def test_specialists_for_all_classes_give_the_arithmetic_mean():
    rng = np.random.default_rng(1)
    answers = rng.dirichlet(np.ones(5), (3, 4))
    own, active = np.ones((2, 5), bool), np.ones((4, 2), bool)
    specialists = [np.c_[answer, np.zeros(4)] for answer in answers[1:]]
    np.testing.assert_allclose(joint_distribution(answers[0], specialists, own, active), answers.mean(0), rtol=1e-12)


def test_a_dustbin_alone_moves_mass_and_keeps_the_ratios_on_both_sides():
    generalist = np.array([[0.5, 0.3, 0.2]])
    own, active = np.array([[True, True, False]]), np.ones((1, 1), bool)
    specialist = np.array([[0.25, 0.15, 0.6]])  # the generalist's ratio of its own two, another dustbin
    # by hand: q of the dustbin's class is the mean of 0.2 and 0.6
    np.testing.assert_allclose(joint_distribution(generalist, [specialist], own, active), [[0.375, 0.225, 0.4]])


def test_an_exact_posterior_under_equal_halves_becomes_the_true_one():
    """Bayes by hand: densities of x under four classes, the first two special with 0.3 of the images."""
    density, prior = np.array([0.7, 0.2, 0.05, 0.4]), np.array([0.1, 0.2, 0.3, 0.4])
    true = density * prior / (density * prior).sum()
    sampled = density * np.where([1, 1, 0, 0], prior * 0.5 / 0.3, prior * 0.5 / 0.7)
    logits = np.log([*sampled[:2], sampled[2:].sum()]) + 3.0  # a constant changes nothing
    np.testing.assert_allclose(softmax(corrected_dustbin(logits, 0.3)), [*true[:2], true[2:].sum()], rtol=1e-12)


def test_the_likeliest_classes_choose_the_specialists():
    generalist = np.array([[0.1, 0.6, 0.3, 0.0], [0.5, 0.1, 0.1, 0.3]])
    own = np.array([[True, False, True, False], [False, True, True, False], [False, False, False, False]])
    assert active_specialists(generalist, own, 1).tolist() == [[False, True, False], [True, False, False]]
    assert active_specialists(generalist, own, 2).tolist() == [[True, True, False], [True, False, False]]
    assert not active_specialists(generalist, own, 0).any()
