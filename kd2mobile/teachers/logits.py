"""A teacher given as its logits: an .npz file, written by any framework, in place of a network."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize
from zipfile import is_zipfile

import numpy as np

from kd2mobile.backend.model_files import check_npz
from kd2mobile.data.sources.folders import plain_name, positions_of
from kd2mobile.data.split import Sample, Split
from kd2mobile.errors import Kd2MobileError, TeacherError
from kd2mobile.progress import bar, say
from kd2mobile.teachers.results import Description
from kd2mobile.teachers.teacher import (
    check_logits,
    check_not_probabilities,
    check_order,
    evaluation,
    write_description,
)
from kd2mobile.text import count_of, listed

LOGITS = "logits.npz"
KEYS = ("sample_ids", "class_names", "logits")
ANOTHER_COLUMN = (
    "Check that class_names are in the order of the columns of logits, and sample_ids in the order of its rows."
)
HOW_TO = "docs/how-to/own-teacher.md has the lines that write one."
CHECKED_AT_ONCE = 4096


@dataclass(frozen=True)
class GivenLogits:
    """The logits of an .npz file for the images of a split.

    where: the file, for messages. values: float [rows, columns], as in the file; rows: by sample id, its row; columns:
    the column of each class of the split. unused: number of rows without an image.
    """

    where: str
    values: np.ndarray
    rows: dict[str, int]
    columns: list[int]
    unused: int

    def logits_of(self, samples: list[Sample]) -> np.ndarray:
        """The logits of the samples, float32 [samples, classes], in the order of the split's classes."""
        rows = [self.rows[sample.path] for sample in samples]
        with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and refused as that
            return self.values[rows][:, self.columns].astype(np.float32)


def make_logits_teacher(folder: Path, path: Path, split: Split, known: bool = False) -> Description:
    """Writes logits.npz, the file itself, and teacher.json.

    known: whether the recipe says that the numbers are logits, so that they are not refused as probabilities.
    Returns the content of teacher.json, whose val is also printed. Raises TeacherError if the
    file is not for these images and classes, or does not hold logits.
    """
    folder = Path(folder)
    given_logits = read_logits(path, split)
    if given_logits.unused:
        say(f"{path.name}: no labelled image here for {given_logits.unused:,} of its {len(given_logits.values):,} rows")
    with bar("checking the logits", len(split.samples), "images") as advance:
        for start in range(0, len(split.samples), CHECKED_AT_ONCE):
            samples = split.samples[start : start + CHECKED_AT_ONCE]
            check_logits(
                given_logits.logits_of(samples), [sample.path for sample in samples], given_logits.where, known
            )
            advance(len(samples))
    if known:
        say(f"{path.name}: taken for logits, as teacher.output says: not checked whether they look like probabilities")
    else:
        check_not_probabilities(given_logits.values, f"{path}, logits")
    evaluated = split.samples_of("val")
    logits, labels = given_logits.logits_of(evaluated), np.array([sample.label for sample in evaluated])
    val = evaluation(logits, labels)
    check_order(path, logits, labels, split.classes, ANOTHER_COLUMN)
    say(f"teacher {path.name}: validation top-1 {val.top1:.3f}, logloss {val.logloss:.3f}")
    shutil.copyfile(path, folder / LOGITS)
    described = Description(
        name=path.name,
        way="logits",
        classes=split.classes,
        output="logits" if known else None,
        rows=len(given_logits.values),
        unused_rows=given_logits.unused,
        dtype=str(given_logits.values.dtype),
        val=val,
    )
    write_description(folder, described)
    return described


def read_logits(path: Path, split: Split, name: str | None = None) -> GivenLogits:
    """The logits of an .npz file with sample_ids (str [n]), class_names (str [classes]), logits (float [n, classes]).

    Sample ids are the images' paths below their folder, with slashes. Rows and columns may be in any order: they are
    found by their names, after Unicode normalization (NFC).
    name: what messages call the file, by default its path. Raises TeacherError unless the file has every image and
    every class once, and no other class.
    """
    sample_ids, class_names, values = _arrays(path)
    path = Path(name or path)
    _refuse_twice(path, "sample_ids", sample_ids)
    _refuse_twice(path, "class_names", class_names)
    columns = positions_of(split.classes, class_names, plain_name)
    missing = [name for name in split.classes if name not in columns]
    extra = [name for i, name in enumerate(class_names) if i not in columns.values()]
    if missing or extra:
        problems = [f"no {_few(missing)}"] * bool(missing) + [f"{_few(extra)} in addition"] * bool(extra)
        must = f"must name the {len(split.classes)} classes of the images"
        raise TeacherError(f"{path}, class_names", must, " and ".join(problems), "Name the columns as the folders are.")
    rows = positions_of([sample.path for sample in split.samples], sample_ids, _composed)
    absent = [sample.path for sample in split.samples if sample.path not in rows]
    if absent:
        raise TeacherError(
            f"{path}, sample_ids",
            f"must hold every one of the {len(split.samples):,} images",
            f"no row for {len(absent):,} of them, the first {absent[0]!r}; its own first id is {_few(sample_ids[:1])}",
            "An id is the image's path below the folder of --data, with slashes; one without a label has "
            "`unlabelled/` before its path.",
        )
    unused = len(sample_ids) - len(rows)
    return GivenLogits(str(path), values, rows, [columns[name] for name in split.classes], unused)


def _composed(name: str) -> str:
    return normalize("NFC", name)


def _arrays(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    must = f"must be a complete .npz file of the arrays {', '.join(KEYS)}"
    if not is_zipfile(path):
        raise TeacherError(path, must, "an incomplete file, or not an .npz file", HOW_TO)
    try:
        check_npz(path, TeacherError)
        with np.load(path, allow_pickle=False) as file:
            held = ", ".join(file.files) or "nothing"
            if not set(KEYS) <= set(file.files):
                raise TeacherError(path, must, held, HOW_TO)
            arrays = {key: file[key] for key in KEYS}
    except Kd2MobileError:
        raise
    except Exception as fault:  # zipfile and NumPy, on whatever the file says
        raise TeacherError(path, must, f"{type(fault).__name__}: {fault}", HOW_TO) from fault
    names = {}
    for key in KEYS[:2]:
        array = arrays[key]
        if array.dtype.kind != "U" or array.ndim != 1:
            must = "must be a one-dimensional array of NumPy's str"
            raise TeacherError(f"{path}, {key}", must, _kind(array), "Write it with `np.array(names, dtype=str)`.")
        names[key] = array.tolist()
    logits, shape = arrays["logits"], (len(names["sample_ids"]), len(names["class_names"]))
    if logits.dtype.kind != "f":
        raise TeacherError(f"{path}, logits", "must be float16, float32 or float64", _kind(logits), HOW_TO)
    if logits.shape != shape:
        must = f"must be [{shape[0]}, {shape[1]}], one row for each of sample_ids, one column for each of class_names"
        raise TeacherError(f"{path}, logits", must, list(logits.shape), HOW_TO)
    return names["sample_ids"], names["class_names"], logits


def _refuse_twice(path: Path, key: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        got = f"{twice!r} more than once ({count_of(len(names) - len(set(names)), 'row', 'too many')})"
        raise TeacherError(f"{path}, {key}", "must list each one once", got, "Keep one of each.")


def _kind(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _few(names: list[str]) -> str:
    return listed(map(repr, names))
