"""A published model: a folder with model.tflite, CARD.md and record.json, as under models/. Measured by its record."""

from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.api.measurement import Benchmarked, protocol_of
from kd2mobile.errors import ModelFileError
from kd2mobile.files import read_json
from kd2mobile.inspection.inspect import MODEL
from kd2mobile.measure.record import BenchmarkRecord
from kd2mobile.measure.roles import STUDENT
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.schema import Benchmark
from kd2mobile.stages.plan import plan_splits
from kd2mobile.store.artifact import Store

RECORD, CARD = "record.json", "CARD.md"


class Published(msgspec.Struct, kw_only=True, frozen=True):
    """record.json of a published model.

    recipe: the tables that it was made by; split_content: the fingerprint of the images that these split; benchmark:
    what was measured of the file on the test images; made_with: versions.
    """

    recipe: dict[str, dict[str, Any]]
    split_content: str
    benchmark: BenchmarkRecord
    made_with: dict[str, Any]
    finished: str
    export: dict[str, Any]


def read_published(folder: Path) -> Published:
    """The record of a published model. Raises ModelFileError if the folder holds none or it cannot be read."""
    record = folder / RECORD
    for path, what in ((folder / MODEL, "a model"), (record, "its record")):
        if not path.is_file():
            must = f"must hold {what}, {path.name}, as the folders under models/ do"
            raise ModelFileError(folder, must, "no such file", "Give the .tflite itself, with --data.")
    return read_json(record, Published, "Download the published model again.", error=ModelFileError)


def measure_published(folder: Path, store: Store, how: Benchmark) -> Benchmarked:
    """Measures a published model on the test images that its record names, split as they were.

    Needs what its data needs: the embedded digits come with scikit-learn. Raises ModelFileError if the images of that
    name are others today, DataError.
    """
    import numpy as np

    from kd2mobile.data.split import leaked_mask, read_split
    from kd2mobile.measure.files import FileToMeasure
    from kd2mobile.measure.measured import measure_files, with_leaks

    published = read_published(folder)
    data = {"groups": False} | published.recipe.get("data", {})  # a record of before there were groups has none
    data = {f"data.{field}": value for field, value in data.items()}
    images, step = plan_splits(compose(settings=data), store)[0]
    if images.scan.content != published.split_content:
        next_step = "Measure it on a folder of your own with --data."
        got = f"images with the fingerprint {images.scan.content}, not {published.split_content}"
        raise ModelFileError(folder / RECORD, "must refer to unchanged images", got, next_step)
    split = store.make(step).folder
    samples = read_split(split).samples_of("test")
    labels = np.array([sample.label for sample in samples])
    (measured,) = measure_files(
        [FileToMeasure(path=folder / MODEL, role=STUDENT.name)],
        [images.root / sample.path for sample in samples],
        labels,
        device=how.device,
        protocol=protocol_of(how),
    )
    leaked = leaked_mask(split, samples)
    records = [with_leaks(record, measured.probabilities, labels, leaked) for record in measured.records]
    return Benchmarked(None, records, [])
