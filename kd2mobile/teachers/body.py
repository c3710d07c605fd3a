"""Builds a network of the zoo with its weights: the body up to the averaged features, or the whole network."""

import re
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd2mobile.backend.model_files import check_model_file
from kd2mobile.errors import Kd2MobileError, WeightsError
from kd2mobile.teachers.keras_file import first_line
from kd2mobile.teachers.zoo import Architecture, check_px

_EFFICIENTNET_VARIANCE = np.array([0.229, 0.224, 0.225], np.float32)


def build_body(architecture: Architecture, px: int, weights: str) -> keras.Model:
    """The network without its head: preprocessed pixels, float32 [batch, px, px, 3], to features, float32 [batch,
    channels].

    px: side of the input in pixels. weights: "imagenet" (downloaded by Keras), "none", or a Keras weights file, with or
    without a head of ImageNet's 1,000 classes.
    Raises TeacherError if px is too small; WeightsError if the download fails, naming the file to give instead, or if
    the file is missing, damaged or of another network.
    """
    check_px(architecture, px)
    if weights == "imagenet":
        body = _download(architecture, px)
    elif weights == "none":
        body = _build(architecture, px)
    else:
        body = _build(architecture, px)
        _fill(body, architecture, Path(weights))
    _check_finite(body, weights)
    return body


def build_whole(architecture: Architecture, px: int, weights: str) -> keras.Model | None:
    """The network with its own head: preprocessed pixels, float32 [batch, px, px, 3], to ImageNet's logits, [batch,
    1000].

    weights: as in build_body, but not "none". Returns None if the file has no head, or a head for another input size
    only (VGG's). Raises TeacherError if px is too small; WeightsError if the download fails or a weight is not finite.
    """
    check_px(architecture, px)
    if weights == "imagenet":
        stored = _download(architecture, architecture.px, top=True)
    else:
        try:
            check_model_file(Path(weights), WeightsError)
            stored = _whole_from_file(architecture, Path(weights))
        except Exception:  # a file without a head, or none at all: build_body says which
            return None
    _check_finite(stored, weights)
    if px == architecture.px:
        return stored
    whole = _build(architecture, px, top=True)
    if [array.shape for array in whole.get_weights()] != [array.shape for array in stored.get_weights()]:
        return None
    whole.set_weights(stored.get_weights())
    _correct_efficientnet(whole, architecture)
    return whole


def _check_finite(model: keras.Model, weights: str) -> None:
    if not all(np.isfinite(array).all() for array in model.get_weights()):
        raise WeightsError(weights, "must be finite", "NaN or infinity", "Give another weights file.")


def _build(architecture: Architecture, px: int, top: bool = False, weights: str | None = None) -> keras.Model:
    network = getattr(keras.applications, architecture.keras_name)
    kind: dict[str, Any] = {"include_top": False, "pooling": "avg"}
    if top:
        kind = {"include_top": True, "classifier_activation": None}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*input_shape.*")  # weights of 224 px serve for any size
        return network(input_shape=(px, px, 3), weights=weights, **kind)


def _download(architecture: Architecture, px: int, top: bool = False) -> keras.Model:
    try:
        with redirect_stdout(sys.stderr):  # Keras draws its bar on standard output, which is left to results
            return _build(architecture, px, top, weights="imagenet")
    except Exception as fault:  # urllib's errors, and Keras's own plain Exception around them
        address = re.search(r"https?://\S+\.h5", str(fault))
        file = address[0].rpartition("/")[2] if address else "its weights file"
        where = f"from {address[0]}" if address else "of Keras"
        raise WeightsError(
            f"--teacher-weights imagenet, {architecture.keras_name}",
            "must be downloadable",
            f"{type(fault).__name__}: {fault}",
            f"Fetch {file} {where} on another machine and give it with `--teacher-weights FILE`, "
            "or train it from scratch with `--teacher-weights none`.",
        ) from fault


def _fill(body: keras.Model, architecture: Architecture, path: Path) -> None:
    if not path.is_file():
        raise WeightsError(path, "must be a weights file", "no such file", "Check --teacher-weights.")
    try:
        check_model_file(path, WeightsError)
        body.load_weights(path)
    except Kd2MobileError:
        raise
    except Exception as without_top:  # h5py, zipfile and Keras raise almost anything on a file that does not fit
        try:
            _fill_from_whole(body, architecture, path)
        except Exception:
            raise WeightsError(
                path,
                f"must hold the weights of {architecture.keras_name}, without its head or with ImageNet's 1,000 "
                "classes",
                first_line(without_top),
                "Give a .weights.h5, .h5 or .keras file of that network, `imagenet` or `none`.",
            ) from without_top
    _correct_efficientnet(body, architecture)


def _fill_from_whole(body: keras.Model, architecture: Architecture, path: Path) -> None:
    whole = _whole_from_file(architecture, path)
    stored = [layer for layer in whole.layers if layer.weights]
    for target, layer in zip([layer for layer in body.layers if layer.weights], stored, strict=False):
        target.set_weights(layer.get_weights())


def _whole_from_file(architecture: Architecture, path: Path) -> keras.Model:
    whole = _build(architecture, architecture.px, top=True)
    whole.load_weights(path)
    _correct_efficientnet(whole, architecture)
    return whole


def _correct_efficientnet(body: keras.Model, architecture: Architecture) -> None:
    """Corrects EfficientNet-B's published weights, which hold the deviation in place of the variance.

    Keras corrects it with another Rescaling, but only for `weights="imagenet"`: the same file given by its path would
    get other pixels. See github.com/tensorflow/tensorflow/issues/49930.
    """
    if not architecture.keras_name.startswith("EfficientNetB"):
        return
    for layer in body.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance, *count = layer.get_weights()
            if np.allclose(variance.ravel(), _EFFICIENTNET_VARIANCE, atol=1e-4):
                layer.set_weights([mean, variance**2, *count])
                layer.finalize_state()
