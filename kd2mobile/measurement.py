"""What the files of a run are worth: measured on its test pictures, kept in the run's folder, read back."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from kd2mobile.errors import RecordError, one_line
from kd2mobile.files import disk_errors, sha256_of, write_json
from kd2mobile.progress import say
from kd2mobile.runs import MEASUREMENTS, PREDICTIONS, RECORDS, Run
from kd2mobile.stages import Stages

if TYPE_CHECKING:
    import numpy as np

    from kd2mobile.measure.record import BenchmarkRecord
    from kd2mobile.report.view import Measurements, Paired

COMPARISONS = "comparisons.json"
BY_LOGITS = "the teacher is judged by its stored logits, not measured as a file"
Files = dict[tuple[str, str], Path]
"""The .tflite files of a run by role (student, baseline) and name of the variant, `int8` or `qat-int8`."""


@dataclass(frozen=True)
class Benchmarked:
    """What was measured. folder: the run's, None for someone else's file; comparisons: paired tests on the test set;
    written: the file of the run that holds the records."""

    folder: Path | None
    records: list["BenchmarkRecord"]
    comparisons: list["Paired"]
    written: Path | None = None

    def json(self) -> str:
        """The records as a JSON list, one object a measured model."""
        return msgspec.json.format(msgspec.json.encode(self.records), indent=1).decode()


def measure(run: Run, plan: Stages, files: Files) -> Benchmarked:
    """Measures the files on the run's test pictures, from file to class, and the teacher by its stored logits.

    The size of the teacher's file is the one that the transfer set's record has: the file may be on another machine.
    Every record goes to a new file under measurements/. On this host the first setting of the protocol is the run's own
    measurement too: benchmark.json (the records), comparisons.json (paired tests) and predictions.npz.
    """
    import numpy as np

    from kd2mobile.data.split import read_split
    from kd2mobile.measure.devices import measure_files
    from kd2mobile.measure.files import FileToMeasure
    from kd2mobile.measure.outputs import softmax
    from kd2mobile.measure.protocol import protocol_of
    from kd2mobile.measure.record import picture_set, record_of_probabilities, with_reasons
    from kd2mobile.transfer.store import Transfer

    samples = read_split(run.store.make(plan.split).folder).of("test")
    labels = np.array([sample.label for sample in samples])
    transfer = run.store.make(plan.transfer)
    logits = Transfer(transfer.folder).logits("test")
    teacher = softmax(logits.take(np.arange(len(logits)), np.zeros(len(logits), int)))
    file = transfer.results.get("teacher", {})
    teacher_record = record_of_probabilities(
        "teacher",
        Path(run.recipe.teacher.name).stem,
        teacher,
        labels,
        precision="fp32",
        compression="none",
        pictures=picture_set([sample.sha256 for sample in samples], labels),
        teacher_top1=teacher.argmax(axis=1),
        size_bytes=file.get("size_bytes"),
        sha256=file.get("sha256"),
    )
    teacher_record = with_reasons(teacher_record, **dict.fromkeys(teacher_record.__struct_fields__, BY_LOGITS))
    device = run.recipe.benchmark.device
    measured = measure_files(
        [FileToMeasure(path=file, role=role) for (role, _), file in files.items()],
        [plan.root / sample.path for sample in samples],
        labels,
        device=device,
        protocol=protocol_of(run.recipe.benchmark),
        teacher_top1=teacher.argmax(axis=1),
    )
    by_name = {f"{role}-{variant}": m for (role, variant), m in zip(files, measured, strict=True)}
    answers = {name: m.probabilities for name, m in by_name.items() if m.probabilities is not None}
    records = [record for m in measured for record in m.records]
    comparisons = _compared(answers, labels)
    with disk_errors(run.folder):
        written = _append(run.folder / MEASUREMENTS, device.partition(":")[0], records)
        if device == "host":
            written = run.folder / RECORDS
            half = run.folder / f".{PREDICTIONS}"
            np.savez_compressed(half, teacher=teacher, **answers)
            half.replace(run.folder / PREDICTIONS)
            write_json(run.folder / COMPARISONS, msgspec.to_builtins(comparisons))
            write_json(written, msgspec.to_builtins([teacher_record, *(m.record for m in measured)]))
    return Benchmarked(run.folder, [teacher_record, *records], comparisons, written)


def _append(folder: Path, word: str, records: list["BenchmarkRecord"]) -> Path:
    """Leaves the records in a file of their own, whose name no other one has, and returns it."""
    folder.mkdir(exist_ok=True)
    now, again = time.strftime("%Y%m%d-%H%M%S", time.gmtime()), 1
    while (file := folder / f"{now}-{word}{f'-{again}' if again > 1 else ''}.json").exists():
        again += 1
    write_json(file, msgspec.to_builtins(records))
    return file


def _compared(answers: dict[str, "np.ndarray"], labels: "np.ndarray") -> list["Paired"]:
    from kd2mobile.measure.accuracy import mcnemar
    from kd2mobile.report.view import Paired

    right = {name: probabilities.argmax(axis=1) == labels for name, probabilities in answers.items()}
    variants = [name.removeprefix("baseline-") for name in right if name.startswith("baseline-")]
    pairs = [(right[f"student-{v}"], right[f"baseline-{v}"], v) for v in variants if f"student-{v}" in right]
    return [
        Paired(
            label=f"student, {precision}",
            a="with the teacher",
            b="on labels alone",
            difference=float(a.mean() - b.mean()),
            n=len(labels),
            precision=precision,
            **mcnemar(a, b)._asdict(),
        )
        for a, b, precision in pairs
    ]


def read_measurements(run: Run, files: Files) -> "Measurements":
    """Every record under measurements/ that is of a file as it now is, in the order in which they were made.

    A file there that holds no records is left out, and that is said: nobody named it, and the others are whole.
    """
    from kd2mobile.measure.record import read_records
    from kd2mobile.report.view import Measurements

    now = {sha256_of(file) for file in files.values()}
    records: list[BenchmarkRecord] = []
    left_out: list[str] = []
    for file in sorted((run.folder / MEASUREMENTS).glob("*.json")):
        try:
            records += [record for record in read_records(file) if record.sha256 in now]
        except RecordError as fault:
            why = f"is left out: it {fault.must}, got {fault.got}"
            say(one_line(f"{file.as_posix()} {why}"))
            left_out.append(f"{MEASUREMENTS}/{file.name} {why}.")
    return Measurements(records, left_out)


def read_measurement(run: Run, files: Files) -> Benchmarked | None:
    """What an earlier benchmark of exactly these files left in the run, or None."""
    from kd2mobile.measure.record import BenchmarkRecord
    from kd2mobile.report.view import Paired

    if not all((run.folder / name).is_file() for name in (RECORDS, COMPARISONS, PREDICTIONS)):
        return None
    records = msgspec.json.decode((run.folder / RECORDS).read_bytes(), type=list[BenchmarkRecord])
    if {sha256_of(file) for file in files.values()} != {r.sha256 for r in records if r.role != "teacher"}:
        say("benchmark stale     the run's files changed since they were measured")
        return None
    say(f"benchmark current   {(run.folder / RECORDS).as_posix()}")
    comparisons = msgspec.json.decode((run.folder / COMPARISONS).read_bytes(), type=list[Paired])
    return Benchmarked(run.folder, records, comparisons, run.folder / RECORDS)
