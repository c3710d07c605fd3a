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


class LayerError(msgspec.Struct, frozen=True):
    """layer: its name in the student; op: LiteRT's. dtype: of the op's output in the quantized file.

    error: root mean square of the difference over the standard deviation of the float values, of all images and
    places together; None where these do not vary. own_error: the same of what the layer itself makes of its quantized
    input. sqnr_db: mean square of the float values over that of the whole difference, in dB; None without a difference.
    steps: root mean square of the whole difference in steps of the quantized tensor, None of a float one.
    """

    layer: str
    op: str
    dtype: str
    error: float | None
    own_error: float | None
    sqnr_db: float | None
    steps: float | None


class LayerErrors(msgspec.Struct, frozen=True):
    images: Count
    layers: list[LayerError]


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
    layer_errors: LayerErrors | None = None
