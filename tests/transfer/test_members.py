"""Which teachers an ensemble keeps and how warm each is: beside brute force and data drawn from known temperatures."""

from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from kd2mobile.recipe.schema import Ensemble
from kd2mobile.transfer import members
from kd2mobile.transfer.members import COOLEST, HOTTEST, best_members, chosen_mixture, fitted_temperature


def answers(seed, images=60, classes=4, teachers=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, images)
    logits = [rng.normal(size=(images, classes)) + 0.8 * np.eye(classes)[labels] for _ in range(teachers)]
    return [z * scale for z, scale in zip(logits, (1, 4, 2, 1, 8), strict=True)], labels


@pytest.mark.parametrize("seed", range(4))
def test_the_fitted_temperature_has_the_lowest_logloss(seed):
    logits, labels = answers(seed)
    for z in logits:

        def logloss(log_temperature, z=z):
            softened = z / np.exp(log_temperature)
            shifted = softened - softened.max(axis=1, keepdims=True)
            log_mass = np.log(np.exp(shifted).sum(axis=1))
            return float((log_mass - shifted[np.arange(len(labels)), labels]).mean())

        expected = minimize_scalar(
            logloss, bounds=np.log([COOLEST, HOTTEST]), method="bounded", options={"xatol": 1e-9}
        )
        assert fitted_temperature(z, labels) == pytest.approx(np.exp(expected.x), rel=1e-4)


def test_a_teacher_that_is_never_wrong_is_as_cool_and_one_that_knows_nothing_as_warm_as_can_be():
    labels = np.array([0, 1, 2])
    assert fitted_temperature(5 * np.eye(3), labels) == COOLEST
    assert fitted_temperature(-5 * np.eye(3), labels) == HOTTEST


def quality(logits, labels, chosen, temperatures):
    """By hand: the arithmetic mean of the probabilities."""
    mean = np.mean([np.exp(logits[i] / temperatures[i]) / np.exp(logits[i] / temperatures[i]).sum(1)[:, None]
                    for i in chosen], axis=0)  # fmt: skip
    return (mean.argmax(1) == labels).mean(), np.log(mean[np.arange(len(labels)), labels]).mean()


@pytest.mark.parametrize("keep", [1, 2, 3, 5])
def test_the_best_subset_is_kept(keep):
    logits, labels = answers(7)
    temperatures = [1.0, 4.0, 2.0, 1.0, 8.0]
    kept = best_members(logits, labels, keep, "arithmetic", temperatures)
    every = list(combinations(range(5), keep))
    assert tuple(kept) == max(every, key=lambda chosen: quality(logits, labels, chosen, temperatures))


def test_of_too_many_subsets_the_best_teacher_is_added_each_time(monkeypatch):
    monkeypatch.setattr(members, "MOST_SUBSETS", 1)
    logits, labels = answers(8)
    temperatures = [1.0] * 5
    first = max(range(5), key=lambda i: quality(logits, labels, [i], temperatures))
    second = max({*range(5)} - {first}, key=lambda i: quality(logits, labels, [first, i], temperatures))
    assert best_members(logits, labels, 2, "arithmetic", temperatures) == sorted([first, second])


def test_what_the_recipe_says_is_chosen_on_validation():
    logits, labels = answers(9)
    given = chosen_mixture(Ensemble(mean="geometric"), [1, 2, 3, 4, 5], logits, labels)
    assert (given.mean, given.temperatures, given.kept) == ("geometric", [1.0, 2.0, 3.0, 4.0, 5.0], [0, 1, 2, 3, 4])
    np.testing.assert_allclose(given.of(logits), np.mean([z / t for z, t in zip(logits, range(1, 6), strict=True)], 0))
    fitted = chosen_mixture(Ensemble(fit_temperatures=True, keep_best=2), [1.0] * 5, logits, labels)
    assert fitted.temperatures == [pytest.approx(fitted_temperature(z, labels), abs=1e-4) for z in logits]
    assert fitted.kept == best_members(logits, labels, 2, "arithmetic", fitted.temperatures)
    first, second = fitted.kept
    probabilities = [np.exp(logits[i] / fitted.temperatures[i]) for i in (first, second)]
    mean = np.mean([one / one.sum(1, keepdims=True) for one in probabilities], axis=0)
    np.testing.assert_allclose(np.exp(fitted.of(logits)), mean)
