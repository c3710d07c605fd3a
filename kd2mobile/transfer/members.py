"""Which teachers of an ensemble count, and at which temperature: chosen on the validation images.

Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, section 1, for the ensemble; Guo,
Pleiss, Sun, Weinberger 2017, On Calibration of Modern Neural Networks, section 4.2, for a temperature fitted on val.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from kd2mobile.metrics import log_softmax, top1_and_logloss
from kd2mobile.recipe.schema import Ensemble, Mean

COOLEST, HOTTEST = 0.05, 100.0
"""Between these a temperature is fitted."""
MOST_SUBSETS = 5_000
"""Up to as many subsets each is tried; of more teachers they are added one by one, the best first."""


@dataclass(frozen=True)
class Mixture:
    """How the logits of several teachers become one vector. temperatures: T_m of each teacher, above 0; kept: the
    indices of the teachers that count, ascending."""

    mean: Mean
    temperatures: list[float]
    kept: list[int]

    def of(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """The mean of the kept teachers' logits: see `mean_of_logits`. logits: of every teacher."""
        return mean_of_logits([logits[i] for i in self.kept], self.mean, [self.temperatures[i] for i in self.kept])


def mean_of_logits(logits: Sequence[np.ndarray], mean: Mean, temperatures: Sequence[float]) -> np.ndarray:
    """One vector of raw logits z from those of several teachers, z_m: softmax(z) is the mean of softmax(z_m / T_m).

    logits: of each teacher float [..., classes]; temperatures: T_m above 0, one per teacher. arithmetic: z is the
    logarithm of the mean of the probabilities; geometric: the mean of z_m / T_m, whose softmax is their geometric mean,
    normalized. Returns float64 [..., classes].

    >>> both = [np.log([0.3, 0.2, 0.5]), np.log([0.1, 0.8, 0.1])]
    >>> np.exp(mean_of_logits(both, "arithmetic", [1, 1])).round(6).tolist()
    [0.2, 0.5, 0.3]
    """
    softened = np.stack([z.astype(np.float64) / t for z, t in zip(logits, temperatures, strict=True)])
    if mean == "geometric":
        return softened.mean(axis=0)
    return np.logaddexp.reduce(log_softmax(softened), axis=0) - np.log(len(softened))


def chosen_mixture(
    ensemble: Ensemble, temperatures: Sequence[float], logits: Sequence[np.ndarray], labels: np.ndarray
) -> Mixture:
    """The mixture that [ensemble] describes: fitted and chosen on the validation images where it says so.

    temperatures: of each teacher, where they are not fitted; logits: of each teacher for the validation images, float
    [images, classes]; labels: int [images].
    """
    if ensemble.fit_temperatures:
        temperatures = [round(fitted_temperature(z, labels), 4) for z in logits]
    keep = ensemble.keep_best or len(logits)
    kept = best_members(logits, labels, keep, ensemble.mean, temperatures)
    return Mixture(ensemble.mean, list(map(float, temperatures)), kept)


def fitted_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T at which softmax(logits / T) has the lowest logloss for the labels.

    It balances teachers: one that is too sure of itself is softened before the mean. The logloss is convex in 1 / T, so
    its minimum is found by bisection of the slope.
    logits: float [images, classes]; labels: int [images]. Returns T in 0.05 to 100, one of them where the minimum lies
    beyond.

    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(4000, 5))
    >>> labels = (z + rng.gumbel(size=z.shape)).argmax(axis=1)  # a draw from softmax(z)
    >>> round(fitted_temperature(3 * z, labels), 1)
    3.0
    """
    logits = np.asarray(logits, np.float64)
    own = logits[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        """Of the mean logloss with respect to 1 / T: the expected logit less that of the true class."""
        return float(((np.exp(log_softmax(logits * inverse)) * logits).sum(axis=1) - own).mean())

    low, high = 1 / HOTTEST, 1 / COOLEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COOLEST
    while high / low > 1 + 1e-9:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / low


def best_members(
    logits: Sequence[np.ndarray], labels: np.ndarray, keep: int, mean: Mean, temperatures: Sequence[float]
) -> list[int]:
    """The `keep` teachers whose mean evaluates best: the highest top-1, among equals the lowest logloss.

    logits: of each teacher for the validation images, float [images, classes]; labels: int [images]; keep: 1 to their
    number; mean, temperatures: as of `mean_of_logits`. Every subset is tried if there are at most 5,000; else one
    teacher is added at a time. Returns their indices, ascending.
    """

    def quality(chosen: Sequence[int]) -> tuple[float, float]:
        own = [logits[index] for index in chosen]
        top1, logloss = top1_and_logloss(mean_of_logits(own, mean, [temperatures[i] for i in chosen]), labels)
        return top1, -logloss

    if comb(len(logits), keep) <= MOST_SUBSETS:
        return list(max(combinations(range(len(logits)), keep), key=quality))
    chosen: list[int] = []
    while len(chosen) < keep:
        rest = [index for index in range(len(logits)) if index not in chosen]
        chosen.append(max(rest, key=lambda index: quality([*chosen, index])))
    return sorted(chosen)
