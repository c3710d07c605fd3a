"""What the converting process is asked to do."""

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One student to several precisions. Paths are absolute, as text; pictures are ids relative to `pictures`."""

    student: str
    folders: dict[str, str]
    """The folder of each precision's file."""
    classes: list[str]
    resize: str
    model_name: str
    student_fingerprint: str
    pictures: str
    calibration: list[str]
    validation: list[str]

    def file_name(self, precision: str) -> str:
        """`mobilenet025-int8.tflite`"""
        return f"{self.model_name}-{precision}.tflite"
