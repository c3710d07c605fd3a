"""Results of stages, made up: what a test does not name stands for a stage that did its work."""

from typing import Any

import msgspec

from kd2mobile.tflite.results import TfliteResults

SHA256 = "0" * 64
AGAINST = {"n": 50, "top1": 0.9}


def tflite_results(**known: Any) -> TfliteResults:
    """How a .tflite came to be; known: its fields, those that are structs as JSON."""
    made = {"precision": "int8", "compression": "none", "file": "small-int8.tflite", "size_bytes": 4, "sha256": SHA256}
    if against := known.get("against_student"):
        known = known | {"against_student": AGAINST | against}
    return msgspec.convert(made | {"parity": {"n": 3, "agreement": 1.0}} | known, TfliteResults)
