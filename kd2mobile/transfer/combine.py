"""The stage `transfer` of several teachers: combines their transfer sets into one, with one vector of logits per view.

Source: Hinton, Vinyals, Dean 2015, Distilling the Knowledge in a Neural Network, section 1: the soft targets of an
ensemble are the arithmetic or the geometric mean of its members' predictive distributions.
"""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kd2mobile.data.shards import Shards, write_shards
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, Split
from kd2mobile.errors import TeacherError
from kd2mobile.store.artifact import read_artifact
from kd2mobile.teachers.teacher import check_finite
from kd2mobile.transfer.evaluation import val_of
from kd2mobile.transfer.members import Mixture
from kd2mobile.transfer.results import Member, TeacherFile, TransferResults
from kd2mobile.transfer.store import Transfer


def combine(folder: Path, members: Sequence[Path], split: Split, mixture: Mixture) -> TransferResults:
    """Writes the shards of one transfer set, float16 [samples, views, classes], from those of several teachers.

    members: the artifacts of their transfer sets, of the same split and views, one per teacher. Raises TeacherError for
    members of other views or classes, or a mean beyond float16.
    """
    folder = Path(folder)
    results = [read_artifact(member).results_as(TransferResults) for member in members]
    files = [result.teacher or TeacherFile() for result in results]
    names = _names_apart([file.name or "teacher" for file in files])
    together = " and ".join(names[i] for i in mixture.kept)
    start = time.monotonic()
    samples, views = {}, {}
    for name in split.with_samples(*SPLIT_NAMES, UNLABELLED):
        sets = [Transfer(member).logits(name) for member in members]
        _check_shapes(sets, (len(split.samples_of(name)), len(split.classes)), names)

        def shard(rows: range, sets=sets, name=name) -> np.ndarray:
            parts = [np.stack([one[row] for row in rows]) for one in sets]
            logits = mixture.of(parts)
            flat = logits.reshape(-1, logits.shape[-1])
            paths = [split.samples_of(name)[row].path for row in rows for _ in range(logits.shape[1])]
            check_finite(flat, paths, together, "Raise ensemble.temperatures.")
            return logits.astype(np.float16)

        count, per_image, _ = sets[0].shape
        write_shards(folder, name, count, shard, f"mean of {len(mixture.kept)} teachers, {name}", "images")
        samples[name], views[name] = count, count * per_image
    return TransferResults(
        samples=samples,
        views=views,
        classes=len(split.classes),
        bytes=sum(path.stat().st_size for path in folder.glob("*.npy")),
        seconds=round(time.monotonic() - start, 1),
        val=val_of(folder, split) if "val" in samples else None,
        teacher=TeacherFile(
            together,
            _total([files[i].parameters for i in mixture.kept]),
            _total([files[i].size_bytes for i in mixture.kept]),
        ),
        members=[Member(name, result.val) for name, result in zip(names, results, strict=True)],
        mean=mixture.mean,
        temperatures=mixture.temperatures,
        kept=mixture.kept,
    )


def mixture_of(folder: Path) -> Mixture:
    """How the logits of that transfer set were combined."""
    results = read_artifact(folder).results_as(TransferResults)
    return Mixture(results.mean, results.temperatures, results.counted)


def _names_apart(names: list[str]) -> list[str]:
    """The names; those that several teachers have, each with its number among all.

    >>> _names_apart(["xception", "a.keras", "xception"])
    ['xception 1', 'a.keras', 'xception 3']
    """
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name} {number}" for number, name in enumerate(names, 1)]


def _check_shapes(sets: Sequence[Shards], expected: tuple[int, int], names: list[str]) -> None:
    views = sets[0].shape[1]
    for logits, name in zip(sets, names, strict=True):
        if logits.shape != (expected[0], views, expected[1]):
            must = f"must be [{expected[0]}, {views}, {expected[1]}], one vector per image and view, as of {names[0]}"
            raise TeacherError(f"the logits of {name}", must, list(logits.shape), "Label the images again with it.")


def _total(numbers: list[int | None]) -> int | None:
    return None if None in numbers else sum(numbers)
