"""The stage `transfer` for a teacher given as its logits: writes the same shards without running a network."""

import time
from pathlib import Path

import numpy as np

from kd2mobile.data.shards import write_shards
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, Split
from kd2mobile.teachers.logits import LOGITS, read_logits
from kd2mobile.teachers.teacher import DESCRIPTION, check_logits, read_description
from kd2mobile.transfer.results import TeacherFile, TransferResults


def holds_logits(teacher_folder: Path) -> bool:
    """Whether a teacher's artifact holds logits in place of a network."""
    return (Path(teacher_folder) / LOGITS).is_file()


def store_given_logits(folder: Path, teacher_folder: Path, split: Split) -> TransferResults:
    """Writes the shards of a transfer set, float16 [samples, 1, classes], from the logits of a teacher's artifact.

    teacher_folder: what `make_logits_teacher` filled. Raises TeacherError if the logits are not for these images.
    """
    folder, teacher_folder = Path(folder), Path(teacher_folder)
    described = read_description(teacher_folder / DESCRIPTION)
    given_logits = read_logits(teacher_folder / LOGITS, split, described.name)
    counts = {}
    start = time.monotonic()
    for name in split.with_samples(*SPLIT_NAMES, UNLABELLED):
        samples = split.samples_of(name)

        def shard(rows: range, samples=samples) -> np.ndarray:
            batch = samples[rows.start : rows.stop]
            logits = given_logits.logits_of(batch)
            check_logits(logits, [sample.path for sample in batch], given_logits.where, described.are_logits)
            return logits[:, None].astype(np.float16)

        write_shards(folder, name, len(samples), shard, f"teacher's logits, {name}", "images")
        counts[name] = len(samples)
    return TransferResults(
        samples=counts,
        views=counts,
        classes=len(split.classes),
        bytes=sum(path.stat().st_size for path in folder.glob("*.npy")),
        seconds=round(time.monotonic() - start, 1),
        val=described.val if "val" in counts else None,
        teacher=TeacherFile(described.name),
    )
