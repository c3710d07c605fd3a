"""Where specialists help: their gain by the number of specialists that cover the true class.

Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, table 4.
"""

from dataclasses import dataclass

import numpy as np

from kd2mobile.metrics import hits


@dataclass(frozen=True)
class Coverage:
    """The images whose true class is one of `specialists` specialists' own.

    images: how many; gained: how many more of them are right at top-1 than by the generalist alone; relative: gained
    over the number that the generalist gets right, None where that is none.
    """

    specialists: int
    images: int
    gained: float
    relative: float | None


def coverage_table(generalist: np.ndarray, joint: np.ndarray, labels: np.ndarray, own: np.ndarray) -> list[Coverage]:
    """A row per number of specialists that cover the true class, ascending; numbers without an image have none.

    generalist, joint: probabilities, float [images, classes], of the generalist alone and with its specialists; labels:
    int [images]; own: bool [specialists, classes].
    """
    covering = own.sum(axis=0)[labels]
    before, after = np.asarray(hits(generalist, labels, 1)), np.asarray(hits(joint, labels, 1))
    rows = []
    for number in np.unique(covering):
        rows_of = covering == number
        right, gained = float(before[rows_of].sum()), float((after[rows_of] - before[rows_of]).sum())
        rows.append(Coverage(int(number), int(rows_of.sum()), gained, gained / right if right else None))
    return rows
