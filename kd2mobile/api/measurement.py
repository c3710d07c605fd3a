"""What the files of a run are worth: measured on its test images, kept in the run's folder, read back."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from kd2mobile.api.results import Benchmarked, Files
from kd2mobile.errors import RecordError
from kd2mobile.files import disk_errors, locked, read_json, replaced, sha256_of, write_json
from kd2mobile.measure.roles import ROLES, STUDENT, TEACHER, trained_roles
from kd2mobile.progress import say
from kd2mobile.recipe.schema import Benchmark
from kd2mobile.recipe.variants import Variant
from kd2mobile.stages.plan import Plan
from kd2mobile.store.run import COMPARISONS, MEASUREMENTS, PREDICTIONS, RECORDS, Run
from kd2mobile.text import one_line
from kd2mobile.tflite.results import TfliteResults
from kd2mobile.transfer.results import TeacherFile, TransferResults

if TYPE_CHECKING:
    import numpy as np

    from kd2mobile.measure.protocol import Protocol
    from kd2mobile.measure.record import BenchmarkRecord, Validation
    from kd2mobile.pages.view import Measurements, Paired

BY_LOGITS = "the teacher is evaluated by its stored logits and is not a file"
Validations = dict[str, "Validation"]
"""What is known of files on the validation images, by SHA-256."""
AGAIN = "Remove it and run `kd2mobile benchmark`."
XNNPACK = {"on": (True,), "off": (False,), "both": (True, False)}


def protocol_of(table: Benchmark) -> "Protocol":
    """The protocol that a recipe's [benchmark] requests."""
    from kd2mobile.measure.protocol import Protocol

    return Protocol(
        threads=(table.threads,) if isinstance(table.threads, int) else table.threads,
        xnnpack=XNNPACK[table.xnnpack],
        cores=table.cores,
        rule=table.rule,
        runs=table.latency_runs,
    )


def validations(run: Run, plan: Plan, made: Iterable[TfliteResults]) -> Validations:
    """What is known of the files of a run on the validation images; nothing of one whose export had no labels.

    made: what the record of each file says of it.
    """
    from kd2mobile.data.split import read_split
    from kd2mobile.measure.record import Validation, image_set

    samples = read_split(run.store.make(plan.steps["split"]).folder).samples_of("val")
    images = image_set([sample.sha256 for sample in samples], [sample.label for sample in samples])
    of_file = {one.sha256: one.against_student for one in made if one.against_student}
    return {sha256: Validation(top1=one.top1, n=one.n, images=images) for sha256, one in of_file.items()}


def measure(run: Run, plan: Plan, files: Files, known: Validations) -> Benchmarked:
    """Measures the files on the run's test images, from file to class, and the teacher by its stored logits.

    known: of these files on the validation images, by which one of them is recommended. The size of the teacher's file
    is the one that the transfer set's record has: the file may be on another machine. Every record goes to a new file
    under measurements/. On this host the first setting of the protocol is the run's own measurement too: benchmark.json
    (the records), comparisons.json (paired tests) and predictions.npz.
    """
    import numpy as np

    from kd2mobile.data.split import leaked_mask, read_split
    from kd2mobile.measure.devices import word_of
    from kd2mobile.measure.files import FileToMeasure
    from kd2mobile.measure.measured import measure_files, record_of_probabilities, with_leaks
    from kd2mobile.measure.record import image_set, with_reasons
    from kd2mobile.metrics import softmax, top1
    from kd2mobile.pages.recommending import with_recommendation
    from kd2mobile.teachers.kinds import model_name
    from kd2mobile.transfer.store import Transfer

    split = run.store.make(plan.steps["split"]).folder
    samples = read_split(split).samples_of("test")
    leaked = leaked_mask(split, samples)
    labels = np.array([sample.label for sample in samples])
    transfer = run.store.make(plan.steps["transfer"])
    # the teacher first, by its stored logits: the files are compared with its answers
    logits = Transfer(transfer.folder).logits("test")
    teacher = softmax(logits.take(np.arange(len(logits)), np.zeros(len(logits), int)))
    file = transfer.results_as(TransferResults).teacher or TeacherFile()
    teacher_record = record_of_probabilities(
        TEACHER.name,
        model_name(run.recipe.teachers),
        teacher,
        labels,
        precision="fp32",
        compression="none",
        images=image_set([sample.sha256 for sample in samples], labels),
        teacher_top1=top1(teacher),
        size_bytes=file.size_bytes,
        sha256=file.sha256,
    )
    teacher_record = with_reasons(teacher_record, **dict.fromkeys(teacher_record.__struct_fields__, BY_LOGITS))
    teacher_record = with_leaks(teacher_record, teacher, labels, leaked)
    # then every file on the device, from image file to class
    device = run.recipe.benchmark.device
    measured = measure_files(
        [FileToMeasure(path=file, role=key[0], val=known.get(sha256_of(file))) for key, file in files.items()],
        [plan.root / sample.path for sample in samples],
        labels,
        device=device,
        protocol=protocol_of(run.recipe.benchmark),
        teacher_top1=top1(teacher),
    )
    measured = [
        m._replace(records=[with_leaks(record, m.probabilities, labels, leaked) for record in m.records])
        for m in measured
    ]
    # what they are worth beside each other, and last what is kept: a recommendation needs all records
    by_name = {ROLES[role].key(variant): m for (role, variant), m in zip(files, measured, strict=True)}
    answers = {name: m.probabilities for name, m in by_name.items() if m.probabilities is not None}
    comparisons = _compared(answers, labels)
    everywhere = read_measurements(run, files, known).records
    records = with_recommendation([teacher_record, *(record for m in measured for record in m.records)], everywhere)
    in_order = iter(records[1:])
    of_first_setting = [[next(in_order) for _ in m.records][0] for m in measured]
    own = [records[0], *of_first_setting] if word_of(device) == "host" else []
    kept = Kept(own, comparisons, {TEACHER.name: teacher, **answers})
    written = keep(run.folder, word_of(device), records[1:], kept)
    return Benchmarked(run.folder, records, comparisons, written, kept.answers)


class Kept(NamedTuple):
    """A run's own measurement: its records, paired tests and answers, which belong together. No records: none."""

    records: list["BenchmarkRecord"]
    comparisons: list["Paired"]
    answers: dict[str, "np.ndarray"]


def keep(folder: Path, word: str, records: list["BenchmarkRecord"], kept: Kept) -> Path:
    """Writes the records to a new file of measurements/, and what is kept of them into the run's folder; returns the
    file that says most. Another process that reads or writes there waits. word: of the device, in the file's name."""
    import numpy as np

    with disk_errors(folder), locked(folder / RECORDS):
        written = _append(folder / MEASUREMENTS, word, records)
        if not kept.records:
            return written
        with replaced(folder / PREDICTIONS) as new:
            np.savez_compressed(new, **kept.answers)
        write_json(folder / COMPARISONS, msgspec.to_builtins(kept.comparisons))
        write_json(folder / RECORDS, msgspec.to_builtins(kept.records))
    return folder / RECORDS


def read_kept(folder: Path, names: Sequence[str], shape: tuple[int, int], of_files: set[str]) -> Kept | None:
    """What `keep` wrote last, or None if that is of other files. names, shape: of the answers, as `read_answers` takes
    them; of_files: the SHA-256 of each file. Raises RecordError for a file there that holds something else."""
    from kd2mobile.measure.record import read_records
    from kd2mobile.pages.answers import read_answers
    from kd2mobile.pages.view import Paired

    with disk_errors(folder), locked(folder / RECORDS):
        if not all((folder / name).is_file() for name in (RECORDS, COMPARISONS, PREDICTIONS)):
            return None
        records = read_records(folder / RECORDS, AGAIN)
        if {r.sha256 for r in records if r.role != TEACHER.name} != of_files:
            say("benchmark stale     the run's files have changed since they were measured")
            return None
        of_run = {name for name in names if name != TEACHER.name}
        in_records = {
            ROLES[r.role].key(Variant(r.compression, r.precision).name) for r in records if r.role != TEACHER.name
        }
        if in_records != of_run:
            must = "must have a measurement of each file of the run, by role, compression and precision"
            got = ", ".join(sorted(in_records - of_run)) or f"none of {', '.join(sorted(of_run - in_records))}"
            raise RecordError(folder / RECORDS, must, got, AGAIN)
        answers = read_answers(folder / PREDICTIONS, names, shape, AGAIN)
        return Kept(records, read_json(folder / COMPARISONS, list[Paired], AGAIN), answers)


def _append(folder: Path, word: str, records: list["BenchmarkRecord"]) -> Path:
    """Leaves the records in a file of their own, whose name no other one has, and returns it. Under the run's lock."""
    folder.mkdir(exist_ok=True)
    now, again = time.strftime("%Y%m%d-%H%M%S", time.gmtime()), 1
    while (file := folder / f"{now}-{word}{f'-{again}' if again > 1 else ''}.json").exists():
        again += 1
    write_json(file, msgspec.to_builtins(records))
    return file


def _compared(answers: dict[str, "np.ndarray"], labels: "np.ndarray") -> list["Paired"]:
    from kd2mobile.metrics import mcnemar, top1
    from kd2mobile.pages.view import Paired

    right = {name: top1(probabilities) == labels for name, probabilities in answers.items()}
    pairs = [
        (right[STUDENT.key(variant)], right[key], variant, role)
        for role in trained_roles()
        for key in right
        if not role.main and (variant := role.variant_of(key)) and STUDENT.key(variant) in right
    ]
    return [
        Paired(
            label=f"{STUDENT.name}, {precision}",
            a=STUDENT.title,
            b=role.title,
            precision=precision,
            **mcnemar(a, b)._asdict(),
        )
        for a, b, precision, role in pairs
    ]


def read_measurements(run: Run, files: Files, known: Validations) -> "Measurements":
    """Every record under measurements/ that is of a file as it now is, in the order in which they were made, with what
    is known of the files on the validation images.

    A file there that holds no records is left out, and that is said: nobody named it, and the others are whole.
    """
    from kd2mobile.measure.record import read_records
    from kd2mobile.pages.view import Measurements

    now = {sha256_of(file) for file in files.values()}
    records: list[BenchmarkRecord] = []
    left_out: list[str] = []
    for file in sorted((run.folder / MEASUREMENTS).glob("[!.]*.json")):
        try:
            records += [record for record in read_records(file) if record.sha256 in now]
        except RecordError as fault:
            got = "" if fault.got is None else f", got {fault.got}"
            why = f"is left out: it {fault.must}{got}"
            say(one_line(f"{file.as_posix()} {why}"))
            left_out.append(f"{MEASUREMENTS}/{file.name} {why}.")
    return Measurements(_with_validation(records, known), left_out)


def _with_validation(records: list["BenchmarkRecord"], known: Validations) -> list["BenchmarkRecord"]:
    """Those of an earlier version did not have it."""
    return [
        msgspec.structs.replace(record, val=known[record.sha256]) if record.sha256 in known else record
        for record in records
    ]


def read_measurement(run: Run, plan: Plan, files: Files, known: Validations) -> Benchmarked | None:
    """What an earlier benchmark of exactly these files left in the run, or None; the recommendation is that of today.

    Raises RecordError for a file there that holds something else.
    """
    from kd2mobile.data.split import read_split
    from kd2mobile.pages.recommending import with_recommendation

    split = read_split(run.store.make(plan.steps["split"]).folder)
    names = [TEACHER.name, *(ROLES[role].key(variant) for role, variant in files)]
    kept = read_kept(
        run.folder,
        names,
        (len(split.samples_of("test")), len(split.classes)),
        {sha256_of(file) for file in files.values()},
    )
    if kept is None:
        return None
    say(f"benchmark up to date {(run.folder / RECORDS).as_posix()}")
    everywhere = read_measurements(run, files, known).records
    records = with_recommendation(_with_validation(kept.records, known), everywhere)
    return Benchmarked(run.folder, records, kept.comparisons, run.folder / RECORDS, kept.answers)
