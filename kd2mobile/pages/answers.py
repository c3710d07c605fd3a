"""The answers that `benchmark` keeps of a run's files, read back from a file that anybody may have written."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd2mobile.errors import RecordError
from kd2mobile.measure.arrays import read_floats
from kd2mobile.text import count_of


def read_answers(file: Path, names: Sequence[str], shape: tuple[int, int], next_step: str) -> dict[str, np.ndarray]:
    """Probabilities by name, float [images, classes], all of the same shape, nothing else of the file being unpacked.

    Raises RecordError for a file that is no .npz, lacks one of the names, or has other than numbers from 0 to 1 of that
    shape there.
    """
    try:
        with zipfile.ZipFile(file) as held:
            return {name: _read(held, name, file, shape, next_step) for name in names}
    except RecordError:
        raise
    except Exception as fault:  # zipfile has no list of what it raises for damaged bytes
        raise RecordError(file, "must be a complete .npz file", "a damaged one", next_step) from fault


def _read(held: zipfile.ZipFile, name: str, file: Path, shape: tuple[int, int], next_step: str) -> np.ndarray:
    where = f"{file}: {name}"
    if f"{name}.npy" not in held.namelist():
        raise RecordError(where, "must be there", None, next_step)
    with held.open(f"{name}.npy") as stored:
        try:
            answers = read_floats(stored, shape)
        except ValueError as fault:
            must = f"must hold the answers to {count_of(shape[0], 'image')} of {count_of(shape[1], 'class')}"
            raise RecordError(where, must, fault, next_step) from fault
    if not ((answers >= 0) & (answers <= 1)).all():
        raise RecordError(where, "must hold numbers from 0 to 1", "others", next_step)
    return answers
