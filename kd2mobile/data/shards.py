"""Arrays that do not fit in memory, as numbered .npy files: the form of the pixel store and of the transfer set."""

import re
import shutil
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kd2mobile import progress
from kd2mobile.errors import ArtifactError
from kd2mobile.files import NO_ROOM, os_error, replaced, write_npy
from kd2mobile.text import one_line, size_of

SHARD = 512
"""Samples per file; the last file of a set may hold fewer."""
MAPPED_AT_ONCE = 256
"""Each mapped file is an open file, and many systems allow a process 1,024 open files."""


class Shards:
    """The shards of one set as one read-only, memory-mapped array.

    shape: [samples, views, ...] of the whole set; dtype: type of its elements. At most MAPPED_AT_ONCE files are open.
    """

    def __init__(self, paths: list[Path], shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype
        self._paths = paths
        self._mapped: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | tuple) -> np.ndarray:
        """`shards[i]` is sample i; `shards[i, k, ...]` indexes inside that sample."""
        i, *rest = key if isinstance(key, tuple) else (key,)
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        shard, row = divmod(int(i) % len(self), SHARD)
        return self._part(shard)[(row, *rest)]

    def take(self, i: np.ndarray, k: np.ndarray) -> np.ndarray:
        """View k[j] of sample i[j] for every j, in that order: an array in memory, [len(i), ...].

        i, k: int [batch]. Raises IndexError for a sample or a view that does not exist.
        """
        i, k = np.asarray(i), np.asarray(k)
        if i.size and (i.min() < 0 or i.max() >= len(self)):
            raise IndexError(f"samples {i.min()} to {i.max()} of {len(self)}")
        selected = np.empty((len(i), *self.shape[2:]), self.dtype)
        shard = i // SHARD
        for number in np.unique(shard):
            in_shard = shard == number
            selected[in_shard] = self._part(int(number))[i[in_shard] % SHARD, k[in_shard]]
        return selected

    def _part(self, number: int) -> np.ndarray:
        part = self._mapped.pop(number, None)
        if part is None:
            part = _map(self._paths[number])
            while len(self._mapped) >= MAPPED_AT_ONCE:
                self._mapped.popitem(last=False)
        self._mapped[number] = part
        return part


def shard_path(folder: Path, name: str, number: int) -> Path:
    """The file of one shard, `train-00000.npy`."""
    return Path(folder) / f"{name}-{number:05d}.npy"


def write_shards(
    folder: Path,
    name: str,
    count: int,
    make: Callable[[range], np.ndarray],
    label: str,
    unit: str,
    units_per_sample: int = 1,
) -> list[Path]:
    """Writes the set `name` shard by shard. Complete shards of a killed call are kept.

    count: number of samples in the set. make: takes the range of sample numbers of one shard and returns their array
    [len(range), ...]; only one shard is in memory at a time. label, unit, units_per_sample: what the progress bar
    shows. Returns the shards' paths in order. Raises ArtifactError if the disk is full.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with progress.bar(label, count * units_per_sample, unit) as advance:
        for number in range(-(-count // SHARD)):
            rows = range(number * SHARD, min(count, (number + 1) * SHARD))
            path = shard_path(folder, name, number)
            if not _is_whole(path, len(rows)):
                shard = make(rows)
                if len(shard) != len(rows):
                    raise ValueError(f"{path.name} needs {len(rows)} samples, make gave {len(shard)}")
                _write(path, shard, bytes_to_come=shard[:1].nbytes * (count - rows.start))
            paths.append(path)
            advance(len(rows) * units_per_sample)
    return paths


def open_shards(folder: Path, name: str) -> Shards:
    """The set `name` of a folder that write_shards filled. Raises ArtifactError if a shard is missing or corrupt."""
    folder = Path(folder)
    numbered = {}
    for path in folder.glob(f"{name}-*.npy"):
        if match := re.fullmatch(re.escape(name) + r"-(\d{5,})\.npy", path.name):
            numbered[int(match[1])] = path
    next_step = _rebuild_step(folder)
    if not numbered:
        raise ArtifactError(shard_path(folder, name, 0), "must be there", "no such file", next_step)
    paths = [shard_path(folder, name, number) for number in range(max(numbered) + 1)]
    length = 0
    for path in paths:
        part = _map(path)
        if path == paths[0]:
            inner, dtype = part.shape[1:], part.dtype
        rows = part.shape[0] if part.ndim else 0
        full = path != paths[-1]
        if part.shape[1:] != inner or part.dtype != dtype or not (rows == SHARD if full else 0 < rows <= SHARD):
            dims = ", ".join(map(str, (f"{SHARD}" if full else f"1 to {SHARD}", *inner)))
            raise ArtifactError(path, f"must be {dtype} [{dims}]", f"{part.dtype} {list(part.shape)}", next_step)
        length += rows
    return Shards(paths, (length, *inner), dtype)


def _rebuild_step(folder: Path) -> str:
    return f"Remove the folder {folder}; the next run builds it again."


def _map(path: Path) -> np.ndarray:
    """The array in a file, memory-mapped. Raises ArtifactError if the file is missing, unreadable or incomplete."""
    next_step = _rebuild_step(path.parent)
    try:
        return np.lib.format.open_memmap(path, mode="r").view(np.ndarray)
    except FileNotFoundError as fault:
        raise ArtifactError(path, "must be there", "no such file", next_step) from fault
    except OSError as fault:
        if fault.errno:
            raise os_error(fault, path) from fault
        raise _damaged(path, fault, next_step) from fault
    except Exception as fault:  # a damaged header is evaluated: almost anything
        raise _damaged(path, fault, next_step) from fault


def _damaged(path: Path, fault: Exception, next_step: str) -> ArtifactError:
    return ArtifactError(path, "must be a complete .npy file", one_line(f"{type(fault).__name__}: {fault}"), next_step)


def _is_whole(path: Path, rows: int) -> bool:
    """Whether the shard exists and is complete. A damaged one is reported and counts as missing."""
    if not path.exists():
        return False
    try:
        shape = _map(path).shape
        fault = "" if shape[:1] == (rows,) else f"shape {list(shape)}, not {rows} samples"
    except ArtifactError as damage:
        if isinstance(damage.__cause__, OSError):
            raise
        fault = str(damage.got)
    if fault:
        progress.say(f"{path}: damaged ({fault}); it will be built again")
    return not fault


def write_array(path: Path, array: np.ndarray) -> None:
    """Writes a .npy file, complete or not at all. Raises ArtifactError if the disk is full."""
    _write(Path(path), array, array.nbytes)


def _write(path: Path, array: np.ndarray, bytes_to_come: int) -> None:
    try:
        with replaced(path) as temporary:
            write_npy(temporary, array)
    except OSError as fault:
        if fault.errno not in NO_ROOM:
            raise
        free = shutil.disk_usage(path.parent).free
        if free >= bytes_to_come:  # a quota, or no inodes
            raise os_error(fault, path, store=True) from fault
        raise ArtifactError(
            path,
            f"must have {size_of(bytes_to_come)} free on its disk",
            size_of(free),
            "Free that much, for example by removing folders of old artifacts from the store, and run the same "
            "command again: it resumes here.",
        ) from fault
