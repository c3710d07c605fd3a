"""Results of stages, made up: what a test does not name stands for a stage that did its work."""

from typing import Any

import msgspec

from kd2mobile.tflite.results import TfliteResults
from kd2mobile.training.results import StudentResults

SHA256 = "0" * 64
STUDENT = StudentResults(
    best_epoch=1,
    epochs_run=1,
    val_top1=0.5,
    val_logloss=1.0,
    seconds=0.1,
    images_per_s=9.0,
    parameters=5,
    trainable_parameters=4,
)
AGAINST = {"n": 50, "top1": 0.9}


def tflite_results(**known: Any) -> TfliteResults:
    """How a .tflite came to be; known: its fields, those that are structs as JSON."""
    made = {"precision": "int8", "compression": "none", "file": "small-int8.tflite", "size_bytes": 4, "sha256": SHA256}
    if against := known.get("against_student"):
        known = known | {"against_student": AGAINST | against}
    return msgspec.convert(made | {"parity": {"n": 3, "agreement": 1.0}} | known, TfliteResults)
