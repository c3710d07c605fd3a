"""What the compressing process is asked to do."""

import msgspec

from kd2mobile.recipe.schema import Compress, Distill


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one student. Paths are absolute, as text; labels are in the order of the stores.

    student: a student.keras; name: its name in the registry of students. folder: where the results go, and what a
    killed process left. method: `qat`, `prune` or `cluster`; preserve: the methods before it whose work must stay.
    unlabelled: pixel store and logits of the images without labels, or None. transfer: None for labels alone.
    """

    student: str
    name: str
    folder: str
    method: str
    preserve: list[str]
    compress: Compress
    distill: Distill
    classes: int
    train_labels: list[int]
    val_labels: list[int]
    pixels: str
    transfer: str | None
    unlabelled: tuple[str, str] | None
