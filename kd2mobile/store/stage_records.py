"""What the record of an artifact must say, by stage: the files that its folder holds, and the results that are read.

A record may come from another machine. What stands here is checked when it is read, so that whoever uses a result finds
it, with its type; fields that are not named here pass.
"""

from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
Share = Annotated[float, Meta(ge=0, le=1)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
FINGERPRINT = "^[0-9a-f]{16}$"


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step as JSON; its fingerprint is a hash of just these fields."""

    stage: str
    version: int
    config: dict[str, Any]
    inputs: dict[str, "Spec"]


class FileOf(msgspec.Struct, frozen=True):
    """A file of an artifact."""

    bytes: Count
    sha256: Sha256


class Record(msgspec.Struct, frozen=True):
    """record.json of an artifact. files: by path relative to its folder; seconds: that its build took."""

    stage: str
    fingerprint: Annotated[str, Meta(pattern=FINGERPRINT)]
    spec: Spec
    results: dict[str, Any]
    files: dict[str, FileOf]
    seconds: Annotated[float, Meta(ge=0, le=1e10)]


class Validated(msgspec.Struct, frozen=True):
    """How a network answers the validation images."""

    top1: Share


class TeacherFile(msgspec.Struct, frozen=True):
    """Whose logits a transfer set holds; of several teachers their names, parameters and bytes together."""

    name: str = ""
    parameters: Count | None = None
    size_bytes: Count | None = None
    sha256: Sha256 | None = None


class Member(msgspec.Struct, frozen=True):
    """One of several teachers. val: None for unlabelled images."""

    name: str
    val: Validated | None = None


class TransferResults(msgspec.Struct, frozen=True):
    """val: None for unlabelled images. members, mean, temperatures: of several teachers whose logits are combined."""

    val: Validated | None = None
    teacher: TeacherFile | None = None
    members: list[Member] = []
    mean: str = ""
    temperatures: list[float] = []


class SplitResults(msgspec.Struct, frozen=True):
    unlabelled: Count = 0
    set_aside: Count = 0


class StudentResults(msgspec.Struct, frozen=True):
    val_top1: Share


class AgainstStudent(msgspec.Struct, frozen=True):
    """Top-1 of a file on the n validation images, and what it differs by from its student's."""

    n: Count
    top1: Share
    difference: Annotated[float, Meta(ge=-1, le=1)]
    interval_95: tuple[float, float]


class CountedWeights(msgspec.Struct, frozen=True):
    zeros: Share | None = None
    clusters_of_output: Count | None = None


class LayerLoss(msgspec.Struct, frozen=True):
    layer: str
    op: str
    dtype: str
    error: float | None
    own_error: float | None
    sqnr_db: float | None
    steps: float | None


class LayerLosses(msgspec.Struct, frozen=True):
    pictures: Count
    layers: list[LayerLoss]


class TfliteResults(msgspec.Struct, frozen=True):
    """How a .tflite came to be, as far as export and report read it."""

    precision: str
    compression: str
    file: str
    size_bytes: Count
    sha256: Sha256
    parity: dict[str, float | bool | str | None] | None
    compressed_bytes: Count | None = None
    per_tensor: bool = False
    keep_float: list[str] = []
    weights: CountedWeights | None = None
    against_student: AgainstStudent | None = None
    layer_errors: LayerLosses | None = None


RESULTS: dict[str, type[msgspec.Struct]] = {
    "split": SplitResults,
    "transfer": TransferResults,
    "student": StudentResults,
    "tflite": TfliteResults,
}
HOLDS: dict[str, tuple[str, ...]] = {
    "source": ("pictures/*",),
    "split": ("split.json", "groups.json"),
    "thumbnails": ("thumbnails-00000.npy",),
    "views": ("train.npy|unlabelled.npy",),
    "teacher": ("teacher.json", "teacher.keras|logits.npz"),
    "transfer": ("train-00000.npy|unlabelled-00000.npy",),
    "pixels": ("train-00000.npy|unlabelled-00000.npy",),
    "student": ("student.keras", "history.jsonl"),
    "compressed": ("student.keras",),
    "tflite": ("*.tflite",),
}
"""The files without which a stage's artifact is none: each a pattern, or several with a bar between them."""


def lacking(stage: str, files: dict[str, Any]) -> str | None:
    """The first file that a stage's artifact must have and its record does not list.

    >>> lacking("teacher", {"teacher.json": {}}), lacking("split", {"split.json": {}})
    ('teacher.keras or logits.npz', 'groups.json')
    """
    for patterns in HOLDS.get(stage, ()):
        if not any(fnmatchcase(name, pattern) for pattern in patterns.split("|") for name in files):
            return patterns.replace("|", " or ")
    return None
