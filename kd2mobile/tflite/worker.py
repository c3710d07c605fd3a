"""The process that converts: `python -m kd2mobile.tflite.worker`, see tensorflow_process."""

import time
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from keras import Model
from keras.utils import clear_session
from msgspec.structs import asdict, replace

from kd2mobile import pixels
from kd2mobile.backend.tensorflow_process import Tell, serve
from kd2mobile.errors import ExportError, RecipeError
from kd2mobile.files import write_bytes
from kd2mobile.inspection.graph import read_model
from kd2mobile.inspection.size import deflated_size
from kd2mobile.inspection.weights import count_weights
from kd2mobile.metrics import hits
from kd2mobile.tflite import contract, convert, metadata, parity, provenance
from kd2mobile.tflite.job import Job
from kd2mobile.tflite.layer_errors import layer_errors
from kd2mobile.tflite.results import Agreement, CountedWeights, LayerErrors, TfliteResults
from kd2mobile.tflite.settings import PER_TENSOR, described, is_clustered

BATCH = 32
"""Images the student sees at once in the parity check."""

ERROR_IMAGES = 100
"""Validation images on which the layers of a quantized file are compared with those of the float one."""
LAYER_BY_LAYER = ("int8",)
"""The precisions whose tensors between the layers are quantized."""


def work(job: Job, tell: Tell) -> None:
    """Converts, checks and writes every precision of the job, and raises the first refusal when the others are done.

    A file appears under its name only after it has passed, so a precision that fails costs the others nothing.
    """
    clear_session()  # what the job before left would take memory, and number this one's tensors on
    student, px = convert.load_student(Path(job.student), len(job.classes))
    converted, faults = {}, []
    tell("stage", label="export: converting", total=len(job.folders), unit="files")
    calibration = (_load(job, image, px) for image in job.calibration)
    settings = {"options": job.options, "fake_quantized": job.fake_quantized}
    settings["keep_clusters"] = is_clustered(job.compression)
    with convert.Converter(student, px, calibration, **settings) as converter:
        for precision in job.folders:
            try:
                converted[precision] = _convert(job, precision, converter, px)
            except (ExportError, RecipeError) as fault:
                faults.append(fault)
            tell("done", count=1)
        _add_layer_errors(job, px, converted, converter, tell)
    if not converted:
        raise faults[0]
    before = _hits_before(job, px)
    by_precision = _compared(job, student, px, {precision: model for precision, (model, _) in converted.items()}, tell)
    for precision, (model, result) in converted.items():
        try:
            worst = [one.layer for one in result.worst_layers()]
            faithful = precision == "int8" and job.fake_quantized is not None
            parity.check_parity(by_precision[precision], precision, job.file_name(precision), faithful, worst)
        except ExportError as fault:
            faults.append(fault)
            continue
        write_bytes(Path(job.folders[precision], job.file_name(precision)), model)
        same = by_precision[precision]
        compared = Agreement(same.n, same.agreement, same.largest_difference)
        lost = provenance.against_student(same if before is None else same._replace(student_hits=before))
        tell("result", result=replace(result, parity=compared, against_student=lost))
    if faults:
        raise faults[0]


def _compared(job: Job, student: Model, px: int, models: dict[str, bytes], tell: Tell) -> dict[str, parity.Parity]:
    """Each file beside what it was made from."""
    by_precision = {}
    quantized = {"int8": models["int8"]} if job.fake_quantized and "int8" in models else {}
    others = {precision: model for precision, model in models.items() if precision not in quantized}
    for some, reference in ((others, convert.probabilities_of(student)), (quantized, None)):
        if some:
            answers = reference or convert.probabilities_of_graph(job.fake_quantized)
            label = "export: comparing with the " + ("student" if reference else "fake-quantized student")
            tell("stage", label=label, total=len(job.validation), unit="images")
            done = partial(_report_done, tell)
            by_precision |= parity.compare(
                some, answers, _batches(job, px), done, job.validation_labels, ties=reference is None
            )
    return by_precision


def _hits_before(job: Job, px: int) -> tuple[float, ...] | None:
    """What top-1 the student got for each validation image before it was compressed; None where it was not."""
    if job.distilled is None or not job.validation_labels:
        return None
    distilled, _ = convert.load_student(Path(job.distilled), len(job.classes))
    answers = convert.probabilities_of(distilled)
    probabilities = np.concatenate([answers(batch) for batch in _batches(job, px)])
    return tuple(hits(probabilities, np.array(job.validation_labels), 1))


def _report_done(tell: Tell, count: int) -> None:
    tell("done", count=count)


def _convert(job: Job, precision: str, converter: convert.Converter, px: int) -> tuple[bytes, TfliteResults]:
    """The file and how it was made, not yet compared with the student."""
    start = time.monotonic()
    name = job.file_name(precision)
    bare, bias_correction = converter.convert(precision, name)
    graph = contract.read_graph(bare, name)
    contract.check_graph(graph, precision, px, len(job.classes), name, converter.names, job.options.keep_float)
    per_tensor = job.options.per_tensor and precision in PER_TENSOR
    if per_tensor:
        provenance.check_per_tensor(graph, name)
    model = metadata.attach(
        bare,
        classes=job.classes,
        resize=job.resize,
        input_px=px,
        model_name=job.model_name,
        precision=precision,
        student_fingerprint=job.student_fingerprint,
        compression=job.compression,
        takes_floats=graph.tensors[graph.input].dtype == "float32",
        **described(job.options),
    )
    weights = count_weights(bare, read_model(bare))
    return model, TfliteResults(
        precision=precision,
        compression=job.compression,
        file=name,
        size_bytes=len(model),
        compressed_bytes=deflated_size(model),
        sha256=sha256(model).hexdigest(),
        ops=graph.op_counts(),
        op_types=provenance.op_types(graph),
        per_tensor=per_tensor,
        keep_float=sorted(set(job.options.keep_float)) if precision == "int8" else [],
        weights=CountedWeights(**asdict(weights)) if weights else None,
        weight_scales=provenance.weight_scales(graph),
        input=contract.describe(graph.tensors[graph.input], contract.INPUT),
        output=contract.describe(graph.tensors[graph.output], contract.OUTPUT),
        calibration=[] if precision == "fp32" or (precision == "int8" and job.fake_quantized) else job.calibration,
        bias_correction=bias_correction,
        converter=convert.CONVERTER,
        seconds=round(time.monotonic() - start, 3),
        parity=None,
    )


def _add_layer_errors(
    job: Job, px: int, converted: dict[str, tuple[bytes, TfliteResults]], converter: convert.Converter, tell: Tell
) -> None:
    """Adds to the results of each file with quantized tensors what every layer loses, on validation images."""
    quantized = [precision for precision in converted if precision in LAYER_BY_LAYER]
    last = len(job.validation) - 1
    chosen = [job.validation[round(i)] for i in np.linspace(0, last, min(ERROR_IMAGES, last + 1))]
    if not quantized or not chosen:
        return
    tell("stage", label="export: measuring each layer's error", total=len(chosen) * len(quantized), unit="images")

    def shown() -> Iterator[np.ndarray]:
        for image in chosen:
            yield _load(job, image, px)
            tell("done", count=1)

    for precision in quantized:
        (model, result), name = converted[precision], job.file_name(precision)
        errors = layer_errors(model, converter.float_model(name), shown(), converter.names, name)
        converted[precision] = model, replace(result, layer_errors=LayerErrors(len(chosen), errors))


def _batches(job: Job, px: int) -> Iterator[np.ndarray]:
    for start in range(0, len(job.validation), BATCH):
        yield np.stack([_load(job, image, px) for image in job.validation[start : start + BATCH]])


def _load(job: Job, image: str, px: int) -> np.ndarray:
    return pixels.load(job.root / image, px, job.resize)


if __name__ == "__main__":
    serve(work, Job)
