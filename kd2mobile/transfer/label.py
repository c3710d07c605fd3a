"""The stage `transfer`: runs the teacher once on every view and stores its raw logits."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kd2mobile.data.decode_workers import Render, renderer
from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.shards import SHARD, shard_path, write_shards
from kd2mobile.data.sources.roots import Root
from kd2mobile.data.split import UNLABELLED, Sample, Split, SplitName
from kd2mobile.data.views import read_views
from kd2mobile.errors import TeacherError
from kd2mobile.files import sha256_of
from kd2mobile.progress import bar, say
from kd2mobile.teachers.reading import in_batches
from kd2mobile.teachers.results import Description
from kd2mobile.teachers.teacher import MODEL, Teacher, check_logits, open_teacher
from kd2mobile.text import count_of, duration_of, size_of
from kd2mobile.transfer.batches import UNTRIED, answer, regrouped, try_batch_sizes
from kd2mobile.transfer.dtype import IMAGES, effect_of_dtype, set_dtype
from kd2mobile.transfer.evaluation import val_of
from kd2mobile.transfer.results import DtypeEffect, Pass, TeacherFile, TransferResults

_TIMED_BATCHES, _TIMED_S = 20, 2.0


def label(
    folder: Path,
    teacher_folder: Path,
    root: Root,
    split: Split,
    views_folder: Path,
    batch_size: int = 0,
    *,
    workers: int = 0,
    dtype: str = "float32",
) -> TransferResults:
    """Writes train, val and test shards of float16 [samples, views, classes]: see `transfer.store.Transfer`.

    A split of unlabelled images gives unlabelled shards and no val in the results.

    Each image under root is decoded once and rendered through each of its views at the teacher's input_px. The time and
    the disk space are estimated and printed first; a killed call resumes after its last shard. In memory are one shard
    and, for the evaluation, the logits of all validation images.

    teacher_folder, views_folder: the artifacts of the teacher and of the views. batch_size: views per batch; 0 finds
    the fastest (`transfer.batches`). workers: number of processes that decode images; 0 uses threads. dtype: in which
    the teacher computes (`transfer.dtype`); its effect on the logits is measured first.
    The labels of the test images are not read.
    Raises TeacherError if the teacher's classes are not the split's, its answers are no finite logits or the dtype
    changes them too much, ImageError for an image that cannot be decoded, WorkerError if a worker dies.
    """
    folder = Path(folder)
    teacher, described = open_teacher(Path(teacher_folder))
    if described.classes != split.classes:
        raise TeacherError(
            teacher_folder,
            f"must have the {len(split.classes)} classes of the data, in their order",
            f"{len(described.classes or [])} classes, from {(described.classes or [None])[0]!r} on",
            "Train the teacher on these images.",
        )
    # refused before the hours; then the fastest batch size, if none is given, on views that are missing anyway
    folder.mkdir(parents=True, exist_ok=True)
    with renderer(workers, folder) as render:
        threads = workers or os.cpu_count() or 1
        passes = {
            name: _Pass(teacher, root, split.samples_of(name), read_views(views_folder, name), render, threads)
            for name in split.with_samples(
                "val", "train", "test", UNLABELLED
            )  # validation first: wrong logits show there
        }
        teacher.batch_size = batch_size or teacher.batch_size
        effect = None
        if dtype != "float32":
            effect = _change_dtype(teacher, dtype, Path(teacher_folder), next(iter(passes.values())))
        missing = _missing_views(folder, passes)
        tried: dict[int, float | None] = {}
        if missing and not batch_size:
            tried = try_batch_sizes(teacher, missing)
        _report_cost(missing, described, passes)
        start = time.monotonic()
        for name, todo in passes.items():
            count, views = todo.views.shape
            write_shards(folder, name, count, todo.shard, f"teacher's pass, {name}", "views", views)
        seconds = time.monotonic() - start
    answered = sum(todo.answered for todo in passes.values())
    file = Path(teacher_folder) / MODEL
    return TransferResults(
        samples={name: len(todo.samples) for name, todo in passes.items()},
        views={name: int(todo.views.size) for name, todo in passes.items()},
        classes=len(split.classes),
        bytes=sum(path.stat().st_size for path in folder.glob("*.npy")),
        seconds=round(seconds, 1),
        views_per_s=round(answered / seconds, 1) if answered else None,
        val=val_of(folder, split) if "val" in passes else None,
        teacher=TeacherFile(described.name, int(teacher.model.count_params()), file.stat().st_size, sha256_of(file)),
        ran=Pass(
            batch_size=teacher.batch_size,
            batch_sizes_tried={str(size): rate for size, rate in tried.items()},
            workers=workers,
            backend=keras.config.backend(),
            devices=keras.distribution.list_devices(),
            dtype=dtype,
            dtype_effect=effect,
        ),
    )


@dataclass
class _Pass:
    """The teacher's pass over one split. threads: number of threads that call render; answered: views done so far."""

    teacher: Teacher
    root: Root
    samples: list[Sample]
    views: np.ndarray
    render: Render
    threads: int
    answered: int = 0

    def shard(self, rows: range) -> np.ndarray:
        """The logits of the samples with these numbers, float16 [len(rows), views, classes]."""
        logits = np.concatenate([logits.astype(np.float16) for logits in self.logits(rows)])
        return logits.reshape(len(rows), self.views.shape[1], -1)

    def logits(self, rows: range) -> Iterator[np.ndarray]:
        """The logits of all views of the samples with these numbers, in order, float32 [batch, classes] per batch."""
        views = self.views.shape[1]
        done = rows.start * views
        images_per_thread = max(1, self.teacher.batch_size // views // self.threads)
        parts = in_batches(rows.stop, images_per_thread, rows.start)
        with closing(in_threads(self.rendered, parts, self.threads)) as rendered:
            for views_in_batch in regrouped(rendered, self.teacher):
                logits = answer(self.teacher, views_in_batch)
                paths = [self.samples[i // views].path for i in range(done, done + len(views_in_batch))]
                check_logits(logits, paths, self.teacher.where, self.teacher.known_logits)
                done += len(views_in_batch)
                self.answered += len(views_in_batch)
                yield logits

    def rendered(self, numbers: Sequence[int]) -> np.ndarray:
        """All views of the samples with these numbers: uint8 [views, px, px, 3]."""
        paths = [self.root / self.samples[i].path for i in numbers]
        px = self.teacher.input_px
        return self.render(paths, self.views[list(numbers)], px).reshape(-1, px, px, 3)


def _change_dtype(teacher: Teacher, dtype: str, folder: Path, val: _Pass) -> DtypeEffect:
    """Sets the dtype in which the teacher computes. Returns its effect on the logits: see effect_of_dtype."""
    numbers = np.linspace(0, len(val.samples) - 1, min(IMAGES, len(val.samples))).astype(int)
    parts = [numbers[first : first + UNTRIED].tolist() for first in range(0, len(numbers), UNTRIED)]
    answers: list[list[np.ndarray]] = [[], []]
    with bar(f"{dtype} beside float32", 2 * len(numbers), "images") as advance:
        for logits in answers:
            for views in in_threads(val.rendered, parts, val.threads):
                logits.append(answer(teacher, views))
                advance(len(views))
            if logits is answers[0]:
                teacher.model = open_teacher(folder)[0].model
                set_dtype(teacher.model, dtype)
    exact, reduced = map(np.concatenate, answers)
    check_logits(exact, [val.samples[i].path for i in numbers], teacher.where, teacher.known_logits)
    return effect_of_dtype(exact, reduced, dtype, teacher.where)


def _missing_views(folder: Path, passes: dict[SplitName, _Pass]) -> int:
    return sum(
        todo.views[start : start + SHARD].size
        for name, todo in passes.items()
        for number, start in enumerate(range(0, len(todo.samples), SHARD))
        if not shard_path(folder, name, number).exists()
    )


def _report_cost(missing: int, described: Description, passes: dict[SplitName, _Pass]) -> None:
    if not missing:
        return
    size = missing * len(described.classes) * np.dtype(np.float16).itemsize
    rate = _views_per_s(max(passes.values(), key=lambda todo: todo.views.size))
    took = f", about {duration_of(missing / rate)}" if rate else ""
    say(
        f"teacher's pass: {count_of(missing, 'view')} by {described.name} "
        f"(validation top-1 {described.val.top1:.3f}){took}, {size_of(size)}"
    )


def _views_per_s(largest: _Pass) -> float | None:
    """Views per second of the first batches, with decoding; None if there is only one, which compiles the network."""
    images = max(1, _TIMED_BATCHES * largest.teacher.batch_size // largest.views.shape[1])
    with closing(largest.logits(range(min(len(largest.samples), images)))) as batches:
        next(batches)
        start, first = time.monotonic(), largest.answered
        for _ in batches:
            if time.monotonic() - start > _TIMED_S:
                break
    timed, largest.answered = largest.answered - first, 0
    return timed / (time.monotonic() - start) if timed else None
