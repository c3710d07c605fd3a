"""Files of Keras models: `.keras` archives with the same bytes for the same model, and what a file may unpack to.

A file may come from anybody, so the sizes that it declares are looked at before anything is read: `.keras` and `.npz`
are zip archives, and HDF5 may compress a dataset, or declare one that it does not store.
"""

import io
import json
import math
import zipfile
from pathlib import Path
from typing import Any

from kd2mobile.errors import Kd2MobileError
from kd2mobile.files import replaced
from kd2mobile.text import size_of

ALWAYS_UNPACKED = 100_000_000
"""Bytes that any file may unpack to."""
MOST_EXPANSION = 20
"""How many times its own size a larger one may unpack to; weights hardly compress, one-hot logits to a tenth."""
LARGEST_CONFIG = 50_000_000
"""Bytes of a model's configuration; the largest of keras.applications has 3 MB."""
SMALLER = "Give a file that contains its weights and links to nothing else."
CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"


def save_model(model: Any, path: Path) -> None:
    """Writes the Keras model to a .keras file in one step, the same bytes for the same configuration and weights.

    Keras writes the date, the addresses of objects that layers share, and the time of day into it. Here the date is
    1980, objects are numbered in the order in which they stand, and the members are sorted. Keras loads it as its own.
    Raises OSError.
    """
    with replaced(path) as temporary:
        model.save(temporary)
        with zipfile.ZipFile(temporary) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        metadata = json.loads(members[METADATA]) | {"date_saved": "1980-01-01@00:00:00"}
        members[METADATA] = json.dumps(metadata, sort_keys=True).encode()
        members[CONFIG] = json.dumps(_numbered(json.loads(members[CONFIG]), {})).encode()
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(members):
                archive.writestr(zipfile.ZipInfo(name), members[name])  # of 1980, stored


def _numbered(config: Any, numbers: dict[int, int]) -> Any:
    """The configuration with its shared objects' ids, which are addresses, counted from 1. numbers: those so far."""
    if isinstance(config, list):
        return [_numbered(value, numbers) for value in config]
    if not isinstance(config, dict):
        return config
    return {
        key: numbers.setdefault(value, len(numbers) + 1) if key == "shared_object_id" else _numbered(value, numbers)
        for key, value in config.items()
    }


def check_unpacked(path: Path, declared: int, error: type[Kd2MobileError], what: str = "") -> None:
    """Raises error where a file declares that it unpacks to more bytes than it may. what: of it is meant, for the line.

    >>> check_unpacked(Path(__file__), ALWAYS_UNPACKED, Kd2MobileError)
    """
    most = max(ALWAYS_UNPACKED, MOST_EXPANSION * path.stat().st_size)
    if declared > most:
        must = f"must unpack to at most {size_of(most)}, {MOST_EXPANSION} times its size"
        raise error(f"{path}, {what}" if what else path, must, size_of(declared), SMALLER)


def check_model_file(path: Path, error: type[Kd2MobileError]) -> None:
    """Raises error where a .keras, .weights.h5 or .h5 file declares more than it may. Nothing of a model is made.

    Raises whatever zipfile and h5py do for what is neither.
    """
    import h5py

    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            check_hdf5(path, file, error)
        return
    check_archive(path, error)
    with zipfile.ZipFile(path) as archive:
        if WEIGHTS not in archive.namelist():
            raise error(path, f"must hold its weights as {WEIGHTS}", "an archive without it", SMALLER)
        with h5py.File(io.BytesIO(archive.read(WEIGHTS)), "r") as file:
            check_hdf5(path, file, error)


def check_npz(path: Path, error: type[Kd2MobileError]) -> None:
    """Raises error where an .npz declares more than it may, an array larger than what is stored of it, or objects.

    Headers alone are read. Raises whatever zipfile and NumPy do for what is none.
    """
    import numpy as np

    check_archive(path, error)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = read[version](file)
            name = member.filename.removesuffix(".npy")
            if dtype.hasobject:
                step = (
                    "Write texts with `np.array(names, dtype=str)` and numbers with `np.array(rows, dtype=np.float32)`."
                )
                raise error(f"{path}, {name}", "must be a plain array", "pickled Python objects", step)
            if math.prod(shape) * dtype.itemsize > member.file_size:
                got = f"{dtype} {list(shape)} in {member.file_size:,} bytes"
                raise error(f"{path}, {name}", "must hold as many numbers as its header says", got, "Write it again.")


def check_archive(path: Path, error: type[Kd2MobileError]) -> None:
    """Raises error where a zip archive declares more than it may: see `check_unpacked` and LARGEST_CONFIG.

    zipfile reads no more of a member than it declares. Raises zipfile.BadZipFile or OSError for what is no archive.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    check_unpacked(path, sum(member.file_size for member in members), error)
    for member in members:
        if member.filename == CONFIG:
            check_config_size(path, member.file_size, error)


def check_config_size(path: Path, size: int, error: type[Kd2MobileError]) -> None:
    """Raises error where a model's configuration is too large. size: in bytes."""
    if size > LARGEST_CONFIG:
        must = f"must be at most {size_of(LARGEST_CONFIG)}"
        raise error(f"{path}, its configuration", must, size_of(size), SMALLER)


def check_hdf5(path: Path, file: Any, error: type[Kd2MobileError]) -> None:
    """Raises error where an open h5py.File declares more than it may, or reads other files.

    path: of it, or of the archive that it stands in. Nothing of a dataset is read but its shape and type.
    """
    import h5py

    declared = 0

    def look(name: str, item: Any) -> None:
        nonlocal declared
        if isinstance(item, h5py.Dataset):
            declared += item.size * item.dtype.itemsize if item.shape is not None else 0
            if item.external or item.is_virtual:
                raise _other_file(path, name, error)
            return
        for key in item:
            if isinstance(item.get(key, getlink=True), h5py.ExternalLink):
                raise _other_file(path, f"{name}/{key}".strip("/"), error)

    look("", file)
    file.visititems(look)
    check_unpacked(path, declared, error, "its arrays")


def _other_file(path: Path, name: str, error: type[Kd2MobileError]) -> Kd2MobileError:
    return error(f"{path}, {name}", "must contain its own arrays", "a link to another file", SMALLER)
