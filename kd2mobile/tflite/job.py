"""The job of the converting process."""

import msgspec

from kd2mobile.data.sources.roots import Joined, Root, root_at
from kd2mobile.recipe.schema import Export
from kd2mobile.recipe.variants import Variant
from kd2mobile.tflite.settings import file_name


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One student to several precisions. Paths are absolute, as text; images are ids (relative paths) under `images`.

    student: a .keras file, float32 [batch, px, px, 3] RGB in [-1, 1] to logits [batch, classes]. classes: names in the
    order of the logits. resize: how an image becomes pixels, stored in the file. calibration: training images for all
    but fp32, see choose_calibration; validation: those on which each file must agree with the student. compression:
    what the student went through, for the file's name and description.
    """

    student: str
    folders: dict[str, str]
    """The folder of each precision's file."""
    classes: list[str]
    resize: str
    model_name: str
    student_fingerprint: str
    compression: str = "none"
    fake_quantized: str | None = None
    """The SavedModel that is converted to int8 instead of the student."""
    distilled: str | None = None
    """The student before its compression, to say what a file loses to it; None where it is the student."""
    images: str | Joined
    calibration: list[str]
    validation: list[str]
    validation_labels: list[int] = []
    """The class of each validation image, to say what a file loses; or none."""
    options: Export = Export()
    """The [export] table: what of it changes a file is the converter's, or the metadata's, to know."""

    def file_name(self, precision: str) -> str:
        """`mobilenet025-int8.tflite`, `mobilenet025-qat-int8.tflite`"""
        variant = Variant(self.compression, precision)
        return file_name(self.model_name, variant, self.options)

    @property
    def root(self) -> Root:
        """What the ids are taken from."""
        return root_at(self.images)
