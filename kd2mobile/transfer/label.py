"""The stage `transfer`: the teacher answers every view once, and its raw logits are kept."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd2mobile import pixels
from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.shards import SHARD, shard_path, write_shards
from kd2mobile.data.split import SPLIT_NAMES, Sample, Split, SplitName
from kd2mobile.data.views import read_views
from kd2mobile.errors import TeacherError
from kd2mobile.progress import say
from kd2mobile.teachers.reading import in_batches
from kd2mobile.teachers.teacher import Teacher, check_logits, judgement, open_teacher
from kd2mobile.transfer.store import Transfer

_TIMED_BATCHES, _TIMED_S = 20, 2.0


def label(
    folder: Path, teacher_folder: Path, root: Path, split: Split, views_folder: Path, batch_size: int
) -> dict[str, Any]:
    """Writes train, val and test shards of float16 [samples, views, classes]: see `transfer.store.Transfer`.

    Each picture under root is decoded once and rendered through each of its views at the teacher's input_px. The time
    and the disk that this takes are estimated and printed before; a killed call goes on after its last shard.
    In memory are one shard and, to judge them, the logits of all validation pictures.
    Returns samples and views by split, classes, bytes, seconds and views_per_s of this call, and val {n, top1,
    logloss}; the test pictures' labels are not looked at. Raises TeacherError if the teacher's classes are not the
    split's or its answers are no finite logits, PictureError for a picture that cannot be decoded.
    """
    folder, root = Path(folder), Path(root)
    teacher, described = open_teacher(Path(teacher_folder), batch_size)
    if described.get("classes") != split.classes:
        raise TeacherError(
            teacher_folder,
            f"must know the {len(split.classes)} classes of the pictures, in their order",
            f"{len(described.get('classes') or [])} classes, from {(described.get('classes') or [None])[0]!r} on",
            "Make the teacher for these pictures.",
        )
    passes = {
        name: _Pass(teacher, root, split.of(name), read_views(views_folder, name), batch_size) for name in SPLIT_NAMES
    }
    teacher.batch_size = max(todo.views_a_batch for todo in passes.values())
    _say_what_it_takes(folder, described, passes)
    start = time.monotonic()
    for name in ("val", "train", "test"):  # validation first: it is quick, and wrong logits show there
        todo = passes[name]
        count, views = todo.views.shape
        write_shards(folder, name, count, todo.shard, f"teacher's pass, {name}", "views", views)
    seconds = time.monotonic() - start
    answered = sum(todo.answered for todo in passes.values())
    logits = Transfer(folder).logits("val")
    val = logits.take(np.arange(len(logits)), np.zeros(len(logits), np.int64))
    return {
        "samples": {name: len(todo.samples) for name, todo in passes.items()},
        "views": {name: todo.views.size for name, todo in passes.items()},
        "classes": len(split.classes),
        "bytes": sum(path.stat().st_size for path in folder.glob("*.npy")),
        "seconds": round(seconds, 1),
        "views_per_s": round(answered / seconds, 1) if answered else None,
        "val": judgement(val, np.array([sample.label for sample in split.of("val")])),
    }


@dataclass
class _Pass:
    """One split to be labelled. answered: views that the teacher answered in this call."""

    teacher: Teacher
    root: Path
    samples: list[Sample]
    views: np.ndarray
    batch_size: int
    answered: int = 0

    @property
    def pictures_a_batch(self) -> int:
        return max(1, self.batch_size // self.views.shape[1])

    @property
    def views_a_batch(self) -> int:
        return self.pictures_a_batch * self.views.shape[1]

    def shard(self, rows: range) -> np.ndarray:
        """float16 [len(rows), views, classes]"""
        return np.concatenate([logits.astype(np.float16) for logits in self.logits(rows)])

    def logits(self, rows: range) -> Iterator[np.ndarray]:
        """float32 [pictures, views, classes] for the samples of those numbers, some pictures at a time."""
        batches = in_batches(rows.stop, self.pictures_a_batch, rows.start)
        for numbers, seen in zip(batches, in_threads(self._read, batches, ahead=1), strict=True):
            answer = self.teacher.outputs(seen)
            paths = [self.samples[i].path for i in numbers for _ in range(self.views.shape[1])]
            check_logits(answer, paths, self.teacher.where)
            self.answered += len(answer)
            yield answer.reshape(len(numbers), self.views.shape[1], -1)

    def _read(self, numbers: range) -> np.ndarray:
        seen = []
        for i in numbers:
            picture = pixels.open_picture(self.root / self.samples[i].path)
            for view in self.views[i]:
                seen.append(
                    pixels.render(picture, pixels.Box(*view["box"].tolist()), self.teacher.input_px, bool(view["flip"]))
                )
        return np.stack(seen)


def _say_what_it_takes(folder: Path, described: dict[str, Any], passes: dict[SplitName, _Pass]) -> None:
    missing = sum(
        todo.views[start : start + SHARD].size
        for name, todo in passes.items()
        for number, start in enumerate(range(0, len(todo.samples), SHARD))
        if not shard_path(folder, name, number).exists()
    )
    if not missing:
        return
    size = missing * len(described["classes"]) * np.dtype(np.float16).itemsize
    rate = _views_per_s(passes["train"])
    took = f", about {_spoken(missing / rate)}" if rate else ""
    say(
        f"teacher's pass: {missing:,} views by {described['name']} (validation top-1 {described['val']['top1']:.3f})"
        f"{took}, {size / 1e6:,.1f} MB"
    )


def _views_per_s(train: _Pass) -> float | None:
    """How fast the first batches go, decoding included; None if there is only one, which compiles the network."""
    with closing(train.logits(range(min(len(train.samples), _TIMED_BATCHES * train.pictures_a_batch)))) as batches:
        next(batches)
        start, first = time.monotonic(), train.answered
        for _ in batches:
            if time.monotonic() - start > _TIMED_S:
                break
    timed, train.answered = train.answered - first, 0
    return timed / (time.monotonic() - start) if timed else None


def _spoken(seconds: float) -> str:
    """
    >>> _spoken(40), _spoken(250), _spoken(9000)
    ('40 s', '4 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
