"""The stage `transfer` of several teachers: combines their transfer sets into one, with one vector of logits per view.

Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, section 1: the soft targets of an
ensemble are the arithmetic or the geometric mean of its members' predictive distributions.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd2mobile.data.shards import Shards, write_shards
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, Split
from kd2mobile.errors import TeacherError
from kd2mobile.metrics import log_softmax
from kd2mobile.recipe.schema import Mean
from kd2mobile.store.artifact import read_artifact
from kd2mobile.teachers.teacher import check_finite
from kd2mobile.transfer.evaluation import val_of
from kd2mobile.transfer.results import Member, TeacherFile, TransferResults
from kd2mobile.transfer.store import Transfer


def mean_of_logits(logits: Sequence[np.ndarray], mean: Mean, temperatures: Sequence[float]) -> np.ndarray:
    """One vector of raw logits z from those of several teachers, z_m: softmax(z) is the mean of softmax(z_m / T_m).

    logits: of each teacher float [..., classes]; temperatures: T_m above 0, one per teacher. arithmetic: z is the
    logarithm of the mean of the probabilities; geometric: the mean of z_m / T_m, whose softmax is their geometric mean,
    normalized. Returns float64 [..., classes].

    >>> both = [np.log([0.3, 0.2, 0.5]), np.log([0.1, 0.8, 0.1])]
    >>> np.exp(mean_of_logits(both, "arithmetic", [1, 1])).round(6).tolist()
    [0.2, 0.5, 0.3]
    """
    softened = np.stack([z.astype(np.float64) / t for z, t in zip(logits, temperatures, strict=True)])
    if mean == "geometric":
        return softened.mean(axis=0)
    return np.logaddexp.reduce(log_softmax(softened), axis=0) - np.log(len(softened))


def combine(
    folder: Path, members: Sequence[Path], split: Split, mean: Mean, temperatures: Sequence[float]
) -> TransferResults:
    """Writes the shards of one transfer set, float16 [samples, views, classes], from those of several teachers.

    members: the artifacts of their transfer sets, of the same split and views, one per teacher; mean, temperatures: see
    `mean_of_logits`. Raises TeacherError for members of other views or classes, or a mean beyond float16.
    """
    folder = Path(folder)
    results = [read_artifact(member).results_as(TransferResults) for member in members]
    files = [result.teacher or TeacherFile() for result in results]
    names = [file.name or f"teacher {number}" for number, file in enumerate(files, 1)]
    start = time.monotonic()
    samples, views = {}, {}
    for name in split.with_samples(*SPLIT_NAMES, UNLABELLED):
        sets = [Transfer(member).logits(name) for member in members]
        _check_shapes(sets, (len(split.samples_of(name)), len(split.classes)), names)

        def shard(rows: range, sets=sets, name=name) -> np.ndarray:
            parts = [np.stack([one[row] for row in rows]) for one in sets]
            logits = mean_of_logits(parts, mean, temperatures)
            flat = logits.reshape(-1, logits.shape[-1])
            paths = [split.samples_of(name)[row].path for row in rows for _ in range(logits.shape[1])]
            check_finite(flat, paths, " and ".join(names), "Raise ensemble.temperatures.")
            return logits.astype(np.float16)

        count, per_image, _ = sets[0].shape
        write_shards(folder, name, count, shard, f"mean of {len(members)} teachers, {name}", "images")
        samples[name], views[name] = count, count * per_image
    return TransferResults(
        samples=samples,
        views=views,
        classes=len(split.classes),
        bytes=sum(path.stat().st_size for path in folder.glob("*.npy")),
        seconds=round(time.monotonic() - start, 1),
        val=val_of(folder, split) if "val" in samples else None,
        teacher=TeacherFile(
            " and ".join(names),
            _total([file.parameters for file in files]),
            _total([file.size_bytes for file in files]),
        ),
        members=[Member(name, result.val) for name, result in zip(names, results, strict=True)],
        mean=mean,
        temperatures=list(map(float, temperatures)),
    )


def _check_shapes(sets: Sequence[Shards], expected: tuple[int, int], names: list[str]) -> None:
    views = sets[0].shape[1]
    for logits, name in zip(sets, names, strict=True):
        if logits.shape != (expected[0], views, expected[1]):
            must = f"must be [{expected[0]}, {views}, {expected[1]}], one vector per image and view, as of {names[0]}"
            raise TeacherError(f"the logits of {name}", must, list(logits.shape), "Label the images again with it.")


def _total(numbers: list[int | None]) -> int | None:
    return None if None in numbers else sum(numbers)
