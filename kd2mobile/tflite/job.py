"""What the converting process is asked to do."""

from pathlib import Path

import msgspec

from kd2mobile.data.places import Places, Root
from kd2mobile.variants import Variant


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One student to several precisions. Paths are absolute, as text; pictures are ids under `pictures`."""

    student: str
    folders: dict[str, str]
    """The folder of each precision's file."""
    classes: list[str]
    resize: str
    model_name: str
    student_fingerprint: str
    compression: str = "none"
    fake_quantized: str | None = None
    """The SavedModel that int8 is made from, in the place of the student."""
    pictures: str | Places
    calibration: list[str]
    validation: list[str]

    @property
    def root(self) -> Root:
        """What the ids are taken from."""
        return Path(self.pictures) if isinstance(self.pictures, str) else self.pictures

    def file_name(self, precision: str) -> str:
        """`mobilenet025-int8.tflite`, `mobilenet025-qat-int8.tflite`"""
        return f"{self.model_name}-{Variant(self.compression, precision).name}.tflite"
