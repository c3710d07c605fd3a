"""Which classes a specialist is for: sets that the generalist confuses, from its answers alone.

Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, section 5.2 (k-means on the columns of
the covariance matrix of the predictions); Bansal, Blum, Chawla 2004, Correlation Clustering, for the second.
"""

import numpy as np

from kd2mobile.errors import TeacherError


def covariance_of(probabilities: np.ndarray) -> np.ndarray:
    """How the probabilities of the classes vary together: float64 [classes, classes].

    probabilities: the generalist's, float [images, classes].
    """
    return np.cov(np.asarray(probabilities, np.float64), rowvar=False)


def by_k_means(features: np.ndarray, clusters: int, seed: int) -> list[list[int]]:
    """The classes in as many sets as clusters, by k-means.

    features: of each class float [classes, features]: the columns of the covariance matrix, or the mean soft targets of
    its images. Returns the indices of the classes of each set, in ascending order, the set of the lowest class first.
    Raises TeacherError for more clusters than classes.
    """
    from sklearn.cluster import KMeans

    if not 1 <= clusters <= len(features):
        must = f"must be 1 to {len(features)}, the number of classes"
        raise TeacherError("specialists.clusters", must, clusters, "Use fewer clusters.")
    labels = KMeans(clusters, n_init=10, random_state=seed).fit_predict(features)
    return sorted(np.flatnonzero(labels == label).tolist() for label in np.unique(labels))


def by_correlation(covariance: np.ndarray) -> list[list[int]]:
    """The classes in sets whose score is highest: the sum of the covariances of all pairs within a set.

    Two sets are merged, those first that raise the score most, until no merge raises it: the number of sets follows.
    covariance: float [classes, classes]. Returns sets as `by_k_means` does; many may hold one class alone.

    >>> by_correlation(np.array([[1.0, 0.5, -0.2], [0.5, 1.0, -0.3], [-0.2, -0.3, 1.0]]))
    [[0, 1], [2]]
    """
    sets = [[index] for index in range(len(covariance))]
    gains = np.array(covariance, np.float64)
    np.fill_diagonal(gains, -np.inf)
    while len(sets) > 1:
        first, second = sorted(np.unravel_index(np.argmax(gains), gains.shape))
        if gains[first, second] <= 0:
            break
        gains[first] += gains[second]
        gains[:, first] = gains[first]
        gains = np.delete(np.delete(gains, second, 0), second, 1)
        np.fill_diagonal(gains, -np.inf)
        sets[first] += sets.pop(second)
    return sorted(map(sorted, sets))


def specialist_sets(sets: list[list[int]], class_names: list[str]) -> list[list[int]]:
    """Those of the sets that a specialist can be for: of two classes at least, and not of all.

    Raises TeacherError where none is left.
    """
    whole = len(class_names)
    usable = [one for one in sets if 2 <= len(one) < whole]
    if not usable:
        got = "all of them in one set" if len(sets) == 1 else "one class in each"
        must = f"must be sets of two classes at least, and not of all {whole}"
        raise TeacherError("the specialists' classes", must, got, "Choose another number of clusters.")
    return usable
