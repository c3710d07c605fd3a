"""Weights files of Keras, read by layer name: the `.weights.h5` and `.keras` of Keras 3 and the HDF5 of older ones."""

import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TypeAlias

from kd2mobile.backend.keras_backend import keras_home
from kd2mobile.backend.model_files import WEIGHTS, check_model_file
from kd2mobile.errors import Kd2MobileError, WeightsError

BodyWeights: TypeAlias = dict[str, list[Any]]
"""The arrays of each layer that has some, by the layer's name, in the order of `layer.get_weights()`."""

Shapes: TypeAlias = dict[str, list[tuple[int, ...]]]


def read_body(path: str, expected: Shapes, student: str) -> tuple[BodyWeights, bool]:
    """The arrays of the expected layers, float32, from a weights file; the rest (a top, an optimizer) is not read.

    expected: the shapes of each layer's arrays, by layer name. student: whose body it is, for the messages.
    Returns the arrays and whether the file comes from one of our students, whose input layer is "pixels".
    Layers are found by name, in whatever spelling Keras has used for it: see `_spelling`.

    Raises WeightsError if there is no such file, it is no Keras weights file, or a layer is missing, of another shape
    or not finite.
    """
    import numpy as np

    with _open(path) as file:
        stored = {_spelling(name): arrays for name, arrays in _layers(file)}
        if not stored:
            raise WeightsError(path, "must hold layers that Keras saved", "none", "Give another file.")
        for name, shapes in expected.items():
            stored_shapes = [array.shape for array in stored.get(_spelling(name), [])]
            if stored_shapes != shapes:
                raise WeightsError(
                    f"{path}, layer {name}",
                    f"must fit {student}: {_shapes_in_words(shapes)}",
                    _shapes_in_words(stored_shapes) if _spelling(name) in stored else "no such layer",
                    f"Give the weights of the body of a {student} (its width too), or `--student-weights none`.",
                )
        body = {name: [np.asarray(a, np.float32) for a in stored[_spelling(name)]] for name in expected}
        for name, arrays in body.items():
            if not all(np.isfinite(array).all() for array in arrays):
                raise WeightsError(f"{path}, layer {name}", "must be finite", "NaN or infinity", "Give another file.")
        return body, "pixels" in stored


def download_body(student: str, file: str, make: Callable[[], Any]) -> BodyWeights:
    """The arrays of the body that `make` builds, whose weights it has Keras download (or take from its cache).

    student: whose body it is; file: how Keras calls the weights file; both for the message.
    Raises WeightsError that names the file.
    """
    try:
        with redirect_stdout(sys.stderr):
            body = make()
    except Exception as fault:  # no network, a full disk, a damaged file in the cache: whatever Keras raises
        cached = keras_home() / "models" / file
        raise WeightsError(
            f"{student}, ImageNet weights",
            "must be downloaded by Keras",
            f"{type(fault).__name__}: {fault}",
            f"Get {file} on another machine and give it with `--student-weights FILE`, or train from scratch with "
            "`--student-weights none`." + (f" Delete {cached}: it is damaged." if cached.exists() else ""),
        ) from fault
    return {layer.name: layer.get_weights() for layer in body.layers if layer.weights}


@contextmanager
def _open(path: str) -> Iterator[Any]:
    import h5py

    if not Path(path).is_file():
        next_step = "Check the path, or use `imagenet` or `none`."
        raise WeightsError(path, "must be a weights file", "no such file", next_step)
    try:
        check_model_file(Path(path), WeightsError)
        with h5py.File(_member(path) if zipfile.is_zipfile(path) else path, "r") as file:
            yield file
    except Kd2MobileError:
        raise
    except Exception as fault:  # h5py and zipfile raise almost anything on a damaged file
        reason = f"{type(fault).__name__}: {fault}"
        next_step = "Give a complete .weights.h5, .h5 or .keras file."
        raise WeightsError(path, "must be a Keras weights file (HDF5)", reason, next_step) from fault


def _member(path: str) -> io.BytesIO:
    """The weights inside a .keras file; the rest of it, its configuration, is not trusted and not read."""
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read(WEIGHTS))


def _layers(file: Any) -> Iterator[tuple[str, list[Any]]]:
    """Each layer's name and datasets, in both of Keras's layouts."""
    old = file.get("model_weights", file)
    if "layer_names" in old.attrs:
        for name in map(_text, old.attrs["layer_names"]):
            yield name, [old[name][_text(weight)] for weight in old[name].attrs["weight_names"]]
        return
    groups = []
    file.visititems(lambda path, item: groups.append(item) if path.endswith("/vars") and "name" in item.attrs else None)
    for group in groups:
        yield group.attrs["name"], [group[key] for key in sorted(group, key=int)]


def _spelling(name: str) -> str:
    """The name of a layer as it is compared: Keras 2 wrote `expanded_conv/project/BatchNorm`, Keras 3 writes
    `expanded_conv_project_bn`, and `Conv_1` is `conv_1`.

    >>> _spelling("expanded_conv_1/squeeze_excite/Conv"), _spelling("Conv/BatchNorm"), _spelling("bn_Conv1")
    ('expanded_conv_1_squeeze_excite_conv', 'conv_bn', 'bn_conv1')
    """
    return name.replace("/", "_").lower().replace("batchnorm", "bn")


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _shapes_in_words(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes) or "nothing"
