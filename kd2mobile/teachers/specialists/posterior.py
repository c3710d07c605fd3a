"""What a generalist and its specialists say together: one distribution over all classes per image.

Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, sections 5.3 and 5.4, equation 5.
"""

from collections.abc import Sequence

import numpy as np

CONVERGED = 1e-10
"""The largest change of a probability in the last iteration."""
MOST_ITERATIONS = 20_000


def corrected_dustbin(logits: np.ndarray, share: float) -> np.ndarray:
    """The logits of a specialist, as if it had seen the classes as often as they occur.

    Half of its training images were of its own classes, which are only the share of all training images.
    logits: float [..., own classes + 1], the dustbin class last; share: of its own classes, above 0 and below 1.
    Returns float64 of that shape: the dustbin's logit is raised by log((1 - share) / share).

    >>> corrected_dustbin(np.array([2.0, 1.0]), 0.2).round(3).tolist()
    [2.0, 2.386]
    """
    corrected = np.array(logits, np.float64)
    corrected[..., -1] += np.log((1 - share) / share)
    return corrected


def active_specialists(generalist: np.ndarray, own: np.ndarray, likeliest: int) -> np.ndarray:
    """Which specialists are asked about each image: those that have one of the generalist's likeliest classes.

    generalist: its probabilities or logits, float [images, classes]; own: which classes are each specialist's, bool
    [specialists, classes]; likeliest: how many of the generalist's classes choose. Returns bool [images, specialists].
    """
    chosen = np.zeros(generalist.shape, bool)
    first = np.argsort(-generalist, axis=-1, kind="stable")[:, :likeliest]
    np.put_along_axis(chosen, first, True, axis=-1)
    return chosen.astype(np.int64) @ own.T.astype(np.int64) > 0


def joint_distribution(
    generalist: np.ndarray, specialists: Sequence[np.ndarray], own: np.ndarray, active: np.ndarray
) -> np.ndarray:
    """The q of each image that minimises KL(generalist, q) + the sum over its active specialists of KL(specialist, q).

    KL(p, q) = sum of p log(p / q). A specialist's dustbin stands for the summed mass of the classes that are not its
    own. The sum is convex in q; it is minimised by expectation maximisation: the mass of each dustbin is divided among
    its classes as q has them, and q becomes the mean of all. Without an active specialist q is the generalist; with
    specialists for all classes, whose dustbins are empty, it is the arithmetic mean.

    generalist: probabilities, float [images, classes]; specialists: of each float [images, own classes + 1], its own
    classes in the order of all classes, then the dustbin; own: bool [specialists, classes]; active: bool [images,
    specialists]. Returns float64 [images, classes].
    """
    generalist, rest = np.asarray(generalist, np.float64), (~own).astype(np.float64)
    known, dustbins = generalist.copy(), np.zeros(active.shape)
    for number, answer in enumerate(specialists):
        weighted = answer * active[:, number, None]
        known[:, own[number]] += weighted[:, :-1]
        dustbins[:, number] = weighted[:, -1]
    total = known.sum(axis=1, keepdims=True) + dustbins.sum(axis=1, keepdims=True)
    q, open_rows = generalist.copy(), np.flatnonzero(active.any(axis=1))
    for _ in range(MOST_ITERATIONS):
        if not len(open_rows):
            break
        now = q[open_rows]
        mass = now @ rest.T
        per_mass = np.divide(dustbins[open_rows], mass, out=np.zeros_like(mass), where=mass > 0)
        after = (known[open_rows] + now * (per_mass @ rest)) / total[open_rows]
        after /= after.sum(axis=1, keepdims=True)
        q[open_rows] = after
        open_rows = open_rows[np.abs(after - now).max(axis=1) > CONVERGED]
    return q
