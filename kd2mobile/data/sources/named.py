"""The sources of a recipe. A named data set, such as `digits`, is written into the store as a folder of images."""

import pickle
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kd2mobile.backend.keras_backend import keras_home, load_keras
from kd2mobile.data.sources.containers import Source, source_at
from kd2mobile.data.sources.idx import idx_content, is_idx_folder, write_idx_images
from kd2mobile.data.sources.roots import several
from kd2mobile.data.sources.table import TABLE_SUFFIXES
from kd2mobile.data.sources.written import numbered, write_images
from kd2mobile.errors import DataError, MissingExtraError
from kd2mobile.progress import say
from kd2mobile.registry import Registry
from kd2mobile.store.artifact import Step, Store
from kd2mobile.text import did_you_mean

SOURCES: Registry[Callable[[Path], None]] = Registry("data")
"""By name, a function that writes a folder of class folders. Called again, it writes what is missing."""


@SOURCES.register(
    "digits", "1,797 handwritten digits, 8 x 8 grey, from scikit-learn's wheel (UCI, Alpaydin and Kaynak)"
)
def digits(folder: Path) -> None:
    """Writes scikit-learn's digits as `<digit>/<index>.png`, with the values 0 to 16 scaled to 0 to 255.

    Raises MissingExtraError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as fault:
        raise MissingExtraError("data digits", "scikit-learn", "train") from fault
    stored = load_digits()
    images = (stored.images * (255 / 16)).round().astype(np.uint8)
    write_images(Path(folder), images, stored.target, numbered(10))


FASHION = (
    *("T-shirt or top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_NAMES = "cifar-100-python-target/cifar-100-python/meta"
"""The file with the names of the hundred classes, under Keras's datasets folder, once the archive is unpacked."""
KEPT_AS = {
    "mnist": ["mnist.npz"],
    "fashion_mnist": [
        *(f"fashion-mnist/{part}-idx3-ubyte.gz" for part in ("train-images", "t10k-images")),
        *(f"fashion-mnist/{part}-idx1-ubyte.gz" for part in ("train-labels", "t10k-labels")),
    ],
    "cifar10": ["cifar-10-batches-py-target_archive"],
    "cifar100": ["cifar-100-python-target_archive"],
}
"""The files that Keras looks for under its datasets folder before it downloads. An archive is the renamed .tar.gz."""


def keras_dataset(name: str, folder: Path) -> None:
    """Writes a data set of keras.datasets as `train/<class>/<index>.png` and `test/...`.

    Keras downloads the data or reads it from its cache. Where Keras has no class names, the classes are numbers.
    Raises DataError if neither works, naming the file to download and the path to copy it to; MissingExtraError without
    Keras.
    """
    load_keras()
    import keras

    datasets = keras_home() / "datasets"
    try:
        with redirect_stdout(sys.stderr):  # Keras draws its bar on standard output, which is left to results
            splits = getattr(keras.datasets, name).load_data()
        names = _class_names(name, datasets)
    except Exception as fault:  # urllib's errors, Keras's own plain Exception around them, what a damaged file raises
        got = f"{type(fault).__name__}: {fault}".rstrip(".")
        raise DataError(f"data {name}", "must be downloadable", got, _fetch(name, datasets, fault)) from fault
    for split, (images, labels) in zip(("train", "test"), splits, strict=True):
        labels = labels.reshape(-1)
        write_images(Path(folder) / split, images, labels, names or numbered(int(splits[0][1].max()) + 1))


def _fetch(name: str, datasets: Path, fault: Exception) -> str:
    address = re.search(r"https?://\S+", str(fault))
    paths = " and ".join(str(datasets / file) for file in KEPT_AS[name])
    download = address[0].rstrip(":") if address else f"what keras.datasets.{name} downloads"
    others = " and the three beside it" if len(KEPT_AS[name]) > 1 else ""
    return f"Download {download}{others} on another machine, copy it here as {paths} and run the same command again."


def _class_names(name: str, datasets: Path) -> list[str] | None:
    if name in ("fashion_mnist", "cifar10"):
        return list(FASHION if name == "fashion_mnist" else CIFAR10)
    if name == "cifar100" and (datasets / CIFAR100_NAMES).is_file():
        with open(datasets / CIFAR100_NAMES, "rb") as stored:
            return [name.decode() for name in _Plain(stored, encoding="bytes").load()[b"fine_label_names"]]
    return None


class _Plain(pickle.Unpickler):
    """An unpickler that reads only lists, dicts and text and refuses a pickle that names a class or a function."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in a file of names")


for _name, _summary in {
    "mnist": "70,000 handwritten digits, 28 x 28 grey, downloaded by Keras (LeCun, Cortes)",
    "fashion_mnist": "70,000 pieces of clothing, 28 x 28 grey, downloaded by Keras (Zalando)",
    "cifar10": "60,000 photos of 10 classes, 32 x 32, downloaded by Keras (Krizhevsky)",
    "cifar100": "60,000 photos of 100 classes, 32 x 32, downloaded by Keras (Krizhevsky)",
}.items():
    SOURCES.register(_name, _summary)(partial(keras_dataset, _name))


def resolve_sources(field: str, given: str | Sequence[str], store: Store) -> list[Source]:
    """The folders and tables of a field of the recipe that names sources.

    Named data sets and idx files are written into the store first. Such a source must be the only one of its field,
    because it has splits and ids of its own.
    field: its dotted name, such as `data.source`, for messages; given: the value of the field.
    Raises DataError for a source that does not exist or that must be the only one.
    """
    sources = several(given)
    if len(sources) > 1:
        for source in sources:
            _refuse_beside_others(field, source)
    return [_resolve(source, store) for source in sources]


def _refuse_beside_others(field: str, source: str) -> None:
    must, alone = "must be a folder of photos or a CSV or TSV where several are given", "Give it alone"
    if source in SOURCES:
        folder = f", or `./{source}` for the folder of that name" if Path(source).is_dir() else ""
        raise DataError(f"{field}, {source}", must, "a name of `kd2mobile list data`", f"{alone}{folder}.")
    if is_idx_folder(Path(source)):
        raise DataError(f"{field}, {source}", must, "a folder of idx files", f"{alone}.")


def _resolve(source: str, store: Store) -> Source:
    path = source_at(source)
    if source in SOURCES:
        if path.is_dir():
            say(f"data {source}: the images of that name are used; the folder is `--data ./{source}`")
        config, write = {"name": source}, SOURCES[source]
    elif isinstance(path, Path) and is_idx_folder(path):
        config, write = {"idx": idx_content(path)}, partial(write_idx_images, path)
    elif path.exists():
        return path
    else:
        hint = did_you_mean(source, SOURCES, cutoff=0.7)
        is_table = path.suffix.lower() in TABLE_SUFFIXES
        kinds, got = "a CSV or TSV of path,label", "no such file"
        if not is_table:
            kinds, got = f"a folder of photos, {kinds}, or the name of a data set", "no such folder or file"
        raise DataError(
            source, f"must be {kinds}", got, f"{hint}Check the path, or use a name of `kd2mobile list data`."
        )
    step = Step("source", 2, config, {}, lambda folder, _: write(folder / "images") or {})
    return (store.find(step) or store.make(step)).folder / "images"
