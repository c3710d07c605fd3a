"""How a .tflite came to be: the result of an export, as the record of its artifact holds it and as readers get it."""

from typing import Annotated

import msgspec
from msgspec import Meta

from kd2mobile.store.stage_records import Count, Sha256, Share


class OpTypes(msgspec.Struct, frozen=True):
    """count ops of one name and types: `int8`, `float32`, ..., as they are stored; weights: None where it has none."""

    op: str
    input: str
    weights: str | None
    output: str
    count: Count


class WeightScales(msgspec.Struct, frozen=True):
    """How many layers' weights have a scale per channel, one scale for all, or none."""

    per_channel: Count
    per_tensor: Count
    float: Count


class CountedWeights(msgspec.Struct, frozen=True):
    """What `inspection.weights.count_weights` counts."""

    layers: Count = 0
    zeros: Share | None = None
    clusters: Count | None = None
    clusters_of_output: Count | None = None


class TensorOfFile(msgspec.Struct, frozen=True):
    """The input or the output of a file."""

    name: str
    dtype: str
    shape: list[int]
    scale: float | None
    zero_point: int | None


class BiasCorrection(msgspec.Struct, frozen=True):
    """layers: those with rounded weights; corrected: how many of them."""

    layers: Count
    corrected: Count


class Agreement(msgspec.Struct, frozen=True):
    """How a file answers the n validation images beside its student. agreement: with the same top-1 class, 0..1;
    largest_difference: of a probability."""

    n: Count
    agreement: Share
    largest_difference: float | None = None


class AgainstStudent(msgspec.Struct, frozen=True):
    """Top-1 of a file on the n validation images, and what it differs by from its student's, before any compression.

    difference: a fraction, with its paired bootstrap interval; only_file, only_student: images that the one alone gets
    right, and p_value of McNemar's exact test of them.
    """

    n: Count
    top1: Share
    difference: Annotated[float, Meta(ge=-1, le=1)]
    interval_95: tuple[float, float]
    student_top1: Share | None = None
    only_file: Count | None = None
    only_student: Count | None = None
    p_value: Share | None = None


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
    """layers: in the order of the graph, measured on so many validation images."""

    images: Count
    layers: list[LayerError]

    def worst(self, count: int = 3) -> list[LayerError]:
        """The layers with the largest errors of their own, the largest first."""
        known = [layer for layer in self.layers if layer.own_error is not None]
        return sorted(known, key=lambda layer: -layer.own_error)[:count]


class MadeFrom(msgspec.Struct, frozen=True):
    """Fingerprints. transfer: None for a student on labels alone."""

    recipe: str
    student: str
    split: str
    transfer: str | None = None


class TfliteResults(msgspec.Struct, frozen=True, kw_only=True):
    """How a .tflite came to be.

    compressed_bytes: deflated, as in a ZIP. ops: how many of each name. weights: None where none can be counted.
    calibration: ids of images, none where none were needed. bias_correction: None where nothing was rounded here.
    parity, against_student: beside its student on validation; against_student: None without labels. layer_errors: of
    the precisions that have any. seconds: of the conversion.
    """

    precision: str
    compression: str
    file: str
    size_bytes: Count
    compressed_bytes: Count | None = None
    sha256: Sha256
    ops: dict[str, Count] = {}
    op_types: list[OpTypes] = []
    per_tensor: bool = False
    keep_float: list[str] = []
    weights: CountedWeights | None = None
    weight_scales: WeightScales | None = None
    input: TensorOfFile | None = None
    output: TensorOfFile | None = None
    calibration: list[str] = []
    bias_correction: BiasCorrection | None = None
    converter: str = ""
    seconds: float = 0.0
    parity: Agreement | None
    against_student: AgainstStudent | None = None
    layer_errors: LayerErrors | None = None
    made_from: MadeFrom | None = None

    def worst_layers(self) -> list[LayerError]:
        """The layers with the largest quantization errors of their own; none of a file without any."""
        return self.layer_errors.worst() if self.layer_errors else []
