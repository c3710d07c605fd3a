"""A new head for the user's classes: logistic regression on features that the frozen body computes once."""

import warnings
from pathlib import Path

import keras
import numpy as np
from msgspec.structs import asdict

from kd2mobile.data.shards import write_shards
from kd2mobile.data.split import SplitName
from kd2mobile.errors import TeacherError
from kd2mobile.progress import bar
from kd2mobile.teachers.reading import TeacherImages
from kd2mobile.teachers.results import Head, TriedHead
from kd2mobile.teachers.teacher import Teacher, evaluation

STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""The values of C that the logistic regression tries, from strong regularization to weak."""
MOST_ITERATIONS = 2000


def frozen_features(folder: Path, body: Teacher, images: TeacherImages, name: SplitName) -> np.ndarray:
    """The body's features of the evaluated view of each image of a split: float32 [images, channels].

    They are written to `<folder>/features-<name>-00000.npy` and following, so that a killed pass resumes after its last
    shard. The returned array is in memory: 4 bytes per channel and image.
    Raises TeacherError, naming the image, for NaN or infinity.
    """
    samples = images.samples_of(name)

    def shard(rows: range) -> np.ndarray:
        return np.concatenate(list(body.evaluated_outputs(images, samples[rows.start : rows.stop])))

    paths = write_shards(folder, f"features-{name}", len(samples), shard, f"teacher's features, {name}", "images")
    features = np.concatenate([np.load(path) for path in paths])
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        image = samples[int(broken.argmax())].path
        raise TeacherError(
            f"{body.where}, {image}", "must output finite features", "NaN or infinity", "Check the teacher's weights."
        )
    return features


def remove_features(folder: Path) -> None:
    """Removes the files of frozen_features, which a finished teacher does not need."""
    for path in folder.glob("features-*.npy"):
        path.unlink()


def fit_head(
    features: np.ndarray, labels: np.ndarray, val_features: np.ndarray, val_labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Head]:
    """Multinomial logistic regression on standardized features, its strength chosen by logloss on validation.

    The strengths are tried from strong regularization to weak, each starting from the last solution; the search ends
    when two in a row are no better than the best.
    features: float [n, channels]; labels: int [n], with every class. val_features, val_labels: likewise, of validation.
    Returns the weights, float32 [channels, classes], and the biases, float32 [classes], for unscaled features, and a
    record of the search.

    Unlike in the later stages, memory grows with the number of images: 12 bytes per channel and training image for the
    features and their standardized float64 copy, so 25 GB for a million images and Xception's 2,048 channels, plus the
    memory of the solver.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0, dtype=np.float64)
    deviation = features.std(axis=0, dtype=np.float64)
    deviation[deviation < 1e-6] = 1.0
    scaled = (features - mean) / deviation
    model = LogisticRegression(max_iter=MOST_ITERATIONS, warm_start=True)
    tried: list[TriedHead] = []
    best, kept = 0, None
    with bar("teacher's head", len(STRENGTHS), "fits") as advance, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # recorded below instead
        for number, strength in enumerate(STRENGTHS):
            model.C = strength
            model.fit(scaled, labels)
            weights, biases = _unscaled(model.coef_.T, model.intercept_, mean, deviation)
            evaluated = evaluation(val_features @ weights + biases, val_labels)
            tried.append(
                TriedHead(**asdict(evaluated), C=strength, converged=bool(model.n_iter_.max() < MOST_ITERATIONS))
            )
            if kept is None or evaluated.logloss < tried[best].logloss:
                best, kept = number, (weights, biases)
            advance(1)
            if number - best == 2:
                advance(len(STRENGTHS) - len(tried))
                break
    return *kept, Head(tried[best].C, tried[best].converged, tried)


def with_head(body: keras.Model, weights: np.ndarray, biases: np.ndarray) -> keras.Model:
    """The body with a Dense layer "logits" of those weights."""
    head = keras.layers.Dense(weights.shape[1], name="logits")
    model = keras.Model(body.inputs, head(body.outputs[0]))
    head.set_weights([weights, biases])
    return model


def _unscaled(
    coefficients: np.ndarray, intercepts: np.ndarray, mean: np.ndarray, deviation: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weights for (x - mean) / deviation as weights for x; two classes get two columns where sklearn keeps one."""
    if coefficients.shape[1] == 1:
        coefficients = np.concatenate([-coefficients / 2, coefficients / 2], axis=1)
        intercepts = np.concatenate([-intercepts / 2, intercepts / 2])
    weights = coefficients / deviation[:, None]
    return weights.astype(np.float32), (intercepts - mean @ weights).astype(np.float32)
