"""The results in the record of a transfer set that later code reads."""

import msgspec

from kd2mobile.store.stage_records import Count, Sha256, Validated


class TeacherFile(msgspec.Struct, frozen=True):
    """The teacher of a transfer set; for several teachers their joined names and the sums of their numbers."""

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
