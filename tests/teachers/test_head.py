"""The logistic head: its folding, its choice, its way through odd features."""

import keras
import numpy as np
import pytest

from kd2mobile.teachers.head import STRENGTHS, fit_head, with_head
from kd2mobile.teachers.teacher import evaluation


def blobs(classes, n=60, channels=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = np.random.default_rng(9).normal(0, 2, (classes, channels))
    features = (centres[labels] + rng.normal(0, 1, (n, channels))) * 10.0 ** np.arange(-2, channels - 2) + 5
    features[:, 0] = 3.0  # says nothing, and has no deviation to divide by
    return features.astype(np.float32), labels


@pytest.mark.parametrize("classes", [2, 4])
def test_the_scaling_is_folded_into_the_weights(classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    features, labels = blobs(classes)
    val, val_labels = blobs(classes, seed=1)
    weights, biases, chosen = fit_head(features, labels, val, val_labels)
    assert weights.shape == (6, classes) and biases.shape == (classes,) and weights.dtype == np.float32
    assert chosen.C in STRENGTHS and chosen.converged
    scaler = StandardScaler().fit(features.astype(np.float64))
    reference = LogisticRegression(C=chosen.C, max_iter=5000).fit(scaler.transform(features), labels)
    logits = val @ weights + biases
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, reference.predict_proba(scaler.transform(val)), atol=5e-3)


def test_the_strength_with_the_lowest_logloss_on_validation_is_chosen():
    features, labels = blobs(3)
    val, val_labels = blobs(3, seed=1)
    weights, biases, chosen = fit_head(features, labels, val, val_labels)
    lowest = min(tried.logloss for tried in chosen.tried)
    assert evaluation(val @ weights + biases, val_labels).logloss == pytest.approx(lowest, abs=2e-4)
    assert next(t for t in chosen.tried if t.C == chosen.C).logloss == lowest


def test_the_head_becomes_a_layer():
    inputs = keras.Input((4,))
    model = with_head(keras.Model(inputs, keras.layers.Identity()(inputs)), np.eye(4, 2, dtype="f4"), np.ones(2, "f4"))
    assert model.layers[-1].name == "logits"
    assert model.predict_on_batch(np.array([[5.0, 6, 7, 8]])).tolist() == [[6.0, 7.0]]
