"""What came of a teacher's pass: as the record of a transfer set holds it and as readers get it."""

import msgspec

from kd2mobile.store.stage_records import Count, Sha256, Share, Validated


class TeacherFile(msgspec.Struct, frozen=True):
    """Whose logits a transfer set holds; of several teachers their names, parameters and bytes together, None where one
    of these is not known."""

    name: str = ""
    parameters: Count | None = None
    size_bytes: Count | None = None
    sha256: Sha256 | None = None


class Member(msgspec.Struct, frozen=True):
    """One of several teachers. val: None for unlabelled images."""

    name: str
    val: Validated | None = None


class DtypeEffect(msgspec.Struct, frozen=True):
    """How far the logits of so many validation images are from those of float32: see `transfer.dtype`. The differences
    are absolute, of single logits."""

    images: Count
    mean_difference: float
    largest_difference: float
    largest_logit: float
    top1_agreement: Share


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """How a network answered. batch_sizes_tried: their views/s, None where the memory did not suffice; workers:
    processes that decoded, 0 for threads; dtype_effect: None of float32."""

    batch_size: Count
    batch_sizes_tried: dict[str, float | None]
    workers: Count
    backend: str
    devices: list[str]
    dtype: str
    dtype_effect: DtypeEffect | None = None


class TransferResults(msgspec.Struct, frozen=True, kw_only=True):
    """samples, views: by split. bytes: of the logits; seconds, views_per_s: of the call that ended it.

    val: how good the logits are, None for unlabelled images. ran: None where no network ran. members, mean,
    temperatures, kept: of several teachers whose logits are combined; kept: the indices of those that count, empty in
    records from before teachers could be left out.
    """

    samples: dict[str, Count] = {}
    views: dict[str, Count] = {}
    classes: Count = 0
    bytes: Count = 0
    seconds: float = 0.0
    views_per_s: float | None = None
    val: Validated | None = None
    teacher: TeacherFile | None = None
    ran: Pass | None = None
    members: list[Member] = []
    mean: str = ""
    temperatures: list[float] = []
    kept: list[Count] = []

    @property
    def counted(self) -> list[int]:
        """The indices of the teachers that count."""
        return list(self.kept) or list(range(len(self.members)))
