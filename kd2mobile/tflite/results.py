"""What the record of a .tflite says, as far as it is read."""

from typing import Annotated

import msgspec
from msgspec import Meta

from kd2mobile.store.stage_records import Count, Sha256, Share


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
