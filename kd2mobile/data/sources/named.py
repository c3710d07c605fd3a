"""The sources that a recipe names. Data that has a name is written once as a folder of photos like any other."""

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
"""materialise(folder): writes a folder of class folders; called again, it writes what is missing."""


@SOURCES.register(
    "digits", "1,797 handwritten digits, 8 x 8 grey, from scikit-learn's wheel (UCI, Alpaydin and Kaynak)"
)
def digits(folder: Path) -> None:
    """scikit-learn's digits as `<digit>/<index>.png`, the values 0 to 16 spread over 0 to 255.

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
"""Under Keras's datasets folder, once the archive is unpacked: where the names of the hundred classes are."""
KEPT_AS = {
    "mnist": ["mnist.npz"],
    "fashion_mnist": [
        *(f"fashion-mnist/{part}-idx3-ubyte.gz" for part in ("train-images", "t10k-images")),
        *(f"fashion-mnist/{part}-idx1-ubyte.gz" for part in ("train-labels", "t10k-labels")),
    ],
    "cifar10": ["cifar-10-batches-py-target_archive"],
    "cifar100": ["cifar-100-python-target_archive"],
}
"""The files that Keras looks for under its datasets folder before it downloads; an archive is the .tar.gz, so named."""


def keras_dataset(name: str, folder: Path) -> None:
    """`train/<class>/<index>.png` and `test/...` of one of keras.datasets, which Keras downloads or finds on its disk.

    Where Keras gives no names, the classes are numbers. Raises DataError if it can be had neither way, with the file
    to fetch and the place to put it; MissingExtraError without Keras.
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
    places = " and ".join(str(datasets / file) for file in KEPT_AS[name])
    what = address[0].rstrip(":") if address else f"what keras.datasets.{name} downloads"
    four = " and the three beside it" if len(KEPT_AS[name]) > 1 else ""
    return f"Download {what}{four} on another machine, copy it here as {places} and run the same command again."


def _class_names(name: str, datasets: Path) -> list[str] | None:
    if name in ("fashion_mnist", "cifar10"):
        return list(FASHION if name == "fashion_mnist" else CIFAR10)
    if name == "cifar100" and (datasets / CIFAR100_NAMES).is_file():
        with open(datasets / CIFAR100_NAMES, "rb") as stored:
            return [name.decode() for name in _Plain(stored, encoding="bytes").load()[b"fine_label_names"]]
    return None


class _Plain(pickle.Unpickler):
    """Reads lists, dicts and text alone: a pickle that names any class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} in a file of names")


for _name, _summary in {
    "mnist": "70,000 handwritten digits, 28 x 28 grey, downloaded by Keras (LeCun, Cortes)",
    "fashion_mnist": "70,000 pieces of clothing, 28 x 28 grey, downloaded by Keras (Zalando)",
    "cifar10": "60,000 photos of 10 classes, 32 x 32, downloaded by Keras (Krizhevsky)",
    "cifar100": "60,000 photos of 100 classes, 32 x 32, downloaded by Keras (Krizhevsky)",
}.items():
    SOURCES.register(_name, _summary)(partial(keras_dataset, _name))


def placed_sources(field: str, named: str | Sequence[str], store: Store) -> list[Source]:
    """The folders and tables that a field of the recipe names.

    field: `data.source` or another, for the messages. The images of a name and of idx files are written into the
    store first; they have splits and ids of their own, so such a source stands alone.
    Raises DataError for a source that is not there, or that cannot stand beside others.
    """
    sources = several(named)
    if len(sources) > 1:
        for source in sources:
            _refuse_beside_others(field, source)
    return [_placed(source, store) for source in sources]


def _refuse_beside_others(field: str, source: str) -> None:
    must, alone = "must be a folder of photos or a CSV or TSV where several are given", "Give it alone"
    if source in SOURCES:
        folder = f", or `./{source}` for the folder of that name" if Path(source).is_dir() else ""
        raise DataError(f"{field}, {source}", must, "a name of `kd2mobile list data`", f"{alone}{folder}.")
    if is_idx_folder(Path(source)):
        raise DataError(f"{field}, {source}", must, "a folder of idx files", f"{alone}.")


def _placed(source: str, store: Store) -> Source:
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
        what, got = "a CSV or TSV of path,label", "no such file"
        if not is_table:
            what, got = f"a folder of photos, {what}, or the name of a data set", "no such folder or file"
        raise DataError(
            source, f"must be {what}", got, f"{hint}Check the path, or use a name of `kd2mobile list data`."
        )
    step = Step("source", 2, config, {}, lambda folder, _: write(folder / "images") or {})
    return (store.find(step) or store.make(step)).folder / "images"
