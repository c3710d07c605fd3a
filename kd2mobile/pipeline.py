"""The chain, verb by verb. Each verb makes the stages before it that are missing and skips those that are there.

photos -> split -> views -> teacher -> transfer set -> student -> .tflite -> measured -> report
"""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.artifact import Step, Store, disk_errors, sha256_of, write_json
from kd2mobile.backend import load_keras
from kd2mobile.errors import UnknownNameError
from kd2mobile.progress import say
from kd2mobile.recipe import FLAGS, Recipe, compose, fields
from kd2mobile.runs import RUNS, Run, newest_run, open_run, start_run

if TYPE_CHECKING:
    import numpy as np

    from kd2mobile.data.shards import Shards
    from kd2mobile.measure.predict import Prediction
    from kd2mobile.measure.record import BenchmarkRecord
    from kd2mobile.report.view import Paired
    from kd2mobile.stages import Stages

STORE = Path(".kd2mobile")
RECORDS, COMPARISONS, PREDICTIONS = "benchmark.json", "comparisons.json", "predictions.npz"


@dataclass(frozen=True)
class Labelled:
    """A transfer set. folder: its artifact; val_top1: the teacher's accuracy on the validation pictures, 0..1."""

    folder: Path
    teacher: Path
    val_top1: float


@dataclass(frozen=True)
class Distilled:
    """A run with its student. folder: the run's; student, baseline: .keras files.

    val_top1: accuracy on the validation pictures, 0..1, of teacher, student and, if there is one, baseline.
    """

    folder: Path
    student: Path
    baseline: Path | None
    val_top1: dict[str, float]


@dataclass(frozen=True)
class Exported:
    """The .tflite files of a run. files: by role and precision; records: how each came to be, likewise."""

    folder: Path
    files: dict[tuple[str, str], Path]
    records: dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class Benchmarked:
    """What was measured. folder: the run's, None for someone else's file; comparisons: paired tests on the test set."""

    folder: Path | None
    records: list["BenchmarkRecord"]
    comparisons: list["Paired"]

    def json(self) -> str:
        """The records as a JSON list, one object a measured model."""
        return msgspec.json.format(msgspec.json.encode(self.records), indent=1).decode()


@dataclass(frozen=True)
class Reported:
    """The page of a run and what it shows."""

    page: Path
    measured: Benchmarked


def distill(
    recipe: Path | None = None,
    *,
    run: Path | None = None,
    store: Path = STORE,
    transfer_set: Path | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Distilled:
    """Trains a student on the logits of a teacher, and the baseline if the recipe wants it.

    recipe: a TOML file; settings: fields by dotted name over it; flags: the fields that have a keyword of their own
    (`recipe.FLAGS`): `distill(data="photos", temperature=4)`. run: the folder of results; store: of artifacts;
    transfer_set: one made elsewhere, refused if it is not that of the recipe. Raises Kd2MobileError.
    """
    load_keras()
    started = start_run(_composed(recipe, settings, flags), run, store)
    return _distill(started, _stages(started), transfer_set)


def label(
    recipe: Path | None = None,
    *,
    store: Path = STORE,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Labelled:
    """The teacher's pass alone: its logits for every view, as `distill` would make and will find them."""
    from kd2mobile.stages import stages

    load_keras()
    artifacts = Store(store)
    plan = stages(_composed(recipe, settings, flags), artifacts)
    transfer = artifacts.make(plan.transfer)
    return Labelled(transfer.folder, artifacts.folder(plan.teacher), transfer.results["val"]["top1"])


def export(
    run: Path | None = None, *, store: Path = STORE, settings: dict[str, Any] | None = None, **flags: Any
) -> Exported:
    """Converts the students of a run to .tflite files, each checked beside its Keras student on validation pictures.

    run: its folder, by default the newest; where there is none, one is made as `distill` would without arguments.
    Raises ExportError if a file does not hold its contract or does not answer as its student does.
    """
    opened = _open_or_start(run, store, _all_settings(settings, flags))
    return _export(opened, _stages(opened))


def benchmark(
    run: Path | None = None, *, store: Path = STORE, settings: dict[str, Any] | None = None, **flags: Any
) -> Benchmarked:
    """Measures the files of a run on this host: accuracy over the test pictures from file to class, size and latency.

    Writes benchmark.json (the records), comparisons.json (paired tests) and predictions.npz into the run's folder.
    """
    opened = _open_or_start(run, store, _all_settings(settings, flags))
    plan = _stages(opened)
    return _benchmark(opened, plan, _export(opened, plan))


def benchmark_model(
    model: Path,
    data: Path,
    *,
    labels: Path | None = None,
    mean: float | None = None,
    std: float | None = None,
    resize: str | None = None,
    threads: int = 1,
) -> Benchmarked:
    """Measures any .tflite image classifier on every picture of a folder of class folders (benchmarks/RULES.md)."""
    from kd2mobile.measure.external import measure_external

    record = measure_external(
        Path(model),
        Path(data),
        labels=labels,
        mean=mean,
        std=std,
        resize=resize,
        threads=threads,
        latency_runs=fields()["benchmark.latency_runs"].default,
    )
    return Benchmarked(None, [record], [])


def predict(model: Path, images: list[Path], *, top: int = 5, **reading: Any) -> list["Prediction"]:
    """The `top` classes of each picture with their probabilities, by a .tflite file. reading: labels, mean, std."""
    from kd2mobile.measure.predict import predict as classify

    return classify(Path(model), [Path(image) for image in images], top=top, **reading)


def report(run: Path | None = None, *, store: Path = STORE) -> Reported:
    """Writes the page of a run, after measuring it if that was not done with the files that it now has."""
    from kd2mobile.report.collect import collect
    from kd2mobile.report.page import write_report

    opened = _open_or_start(run, store, {})
    plan = _stages(opened)
    exported = _export(opened, plan)
    measured = _read_benchmark(opened, exported) or _benchmark(opened, plan, exported)
    page = opened.folder / "report.html"
    write_report(page, collect(opened, plan.root, measured.records, measured.comparisons))
    return Reported(page, measured)


def names(kind: str) -> dict[str, str]:
    """The names of a registry, or the recipe's fields, each with a line about it. kind: `teachers`, ..., `fields`."""
    if kind == "fields":
        return {name: f"{field.description} [{field.default!r}]" for name, field in fields().items()}
    from kd2mobile.data.sources import SOURCES
    from kd2mobile.losses import LOSSES
    from kd2mobile.students import STUDENTS
    from kd2mobile.teachers.zoo import TEACHERS

    registry = {"data": SOURCES, "losses": LOSSES, "students": STUDENTS, "teachers": TEACHERS}[kind]
    return {name: registry.summary(name) for name in registry}


def _composed(recipe: Path | None, settings: dict[str, Any] | None, flags: dict[str, Any]) -> Recipe:
    return compose(recipe, _all_settings(settings, flags))


def _all_settings(settings: dict[str, Any] | None, flags: dict[str, Any]) -> dict[str, Any]:
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown:
        raise UnknownNameError("keyword", unknown[0], list(FLAGS), see="kd2mobile list fields")
    return (settings or {}) | {FLAGS[flag]: _plain(value) for flag, value in flags.items()}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _open_or_start(run: Path | None, store: Path, settings: dict[str, Any]) -> Run:
    if run is None and newest_run() is None:
        say(f"no run under {RUNS}/ yet: making one with the demo's settings")
        return start_run(compose(settings=settings), None, store)
    return open_run(run, store, settings)


def _stages(run: Run) -> "Stages":
    from kd2mobile.stages import stages

    return stages(run.recipe, run.store)


def _distill(run: Run, plan: "Stages", transfer_set: Path | None = None) -> Distilled:
    if transfer_set:
        run.store.adopt(plan.transfer, transfer_set)
    transfer = run.store.make(plan.transfer)
    students = {role: run.store.make(step) for role, step in plan.students.items()}
    before = {"split": plan.split, "views": plan.views, "teacher": plan.teacher, "pixels": plan.pixels}
    found = {role: artifact.folder for role, step in before.items() if (artifact := run.store.find(step))}
    run.refer(found | {"transfer": transfer.folder} | {role: made.folder for role, made in students.items()})
    files = {role: made.folder / "student.keras" for role, made in students.items()}
    val_top1 = {role: made.results["val_top1"] for role, made in students.items()}
    val_top1 = {"teacher": transfer.results["val"]["top1"]} | val_top1
    return Distilled(run.folder, files["student"], files.get("baseline"), val_top1)


def _export(run: Run, plan: "Stages") -> Exported:
    load_keras()
    _distill(run, plan)
    exported = Exported(run.folder / "export", {}, {})
    exported.folder.mkdir(exist_ok=True)
    precisions = run.recipe.export.precisions
    for role in plan.students:
        steps = [plan.exported(role, precision) for precision in precisions]
        artifacts = run.store.make_together(steps, partial(_convert, plan, role))
        for precision, artifact in zip(precisions, artifacts, strict=True):
            name = f"{run.recipe.student.name}-{precision}.tflite"
            file = exported.folder / (name if role == "student" else f"{role}-{name}")
            shutil.copyfile(artifact.folder / name, file)
            exported.files[role, precision] = file
            exported.records[role, precision] = artifact.results
            run.refer({f"{role}-{precision}": artifact.folder})
    return exported


def _convert(
    plan: "Stages", role: str, steps: list[Step], folders: list[Path], inputs: dict[str, Path]
) -> list[dict[str, Any]]:
    from kd2mobile.data.split import read_split
    from kd2mobile.tflite.calibration import choose_calibration
    from kd2mobile.tflite.export import export_student

    recipe, split = plan.recipe, read_split(inputs["split"])
    calibration = choose_calibration(split.of("train"), recipe.export.calibration_pictures, recipe.data.seed)
    return export_student(
        inputs["student"] / "student.keras",
        {step.config["precision"]: folder for step, folder in zip(steps, folders, strict=True)},
        classes=split.classes,
        resize=recipe.data.resize,
        model_name=recipe.student.name,
        student_fingerprint=plan.students[role].fingerprint,
        pictures=plan.root,
        calibration=[sample.path for sample in calibration],
        validation=[sample.path for sample in split.of("val")],
    )


def _benchmark(run: Run, plan: "Stages", exported: Exported) -> Benchmarked:
    import numpy as np

    from kd2mobile.data.split import read_split
    from kd2mobile.measure.files import FileToMeasure, measure_files
    from kd2mobile.measure.record import record_of_probabilities
    from kd2mobile.transfer.store import Transfer

    samples = read_split(run.store.make(plan.split).folder).of("test")
    labels = np.array([sample.label for sample in samples])
    teacher = _softmax(Transfer(run.store.make(plan.transfer).folder).logits("test"))
    made = run.store.find(plan.teacher)
    known = made.record["files"]["teacher.keras"] if made else {"bytes": None, "sha256": None}
    records = [
        record_of_probabilities(
            "teacher",
            Path(run.recipe.teacher.name).stem,
            teacher,
            labels,
            precision="fp32",
            compression="none",
            teacher_top1=teacher.argmax(axis=1),
            size_bytes=known["bytes"],
            sha256=known["sha256"],
        )
    ]
    measured = measure_files(
        [FileToMeasure(path=file, role=role) for (role, _), file in exported.files.items()],
        [plan.root / sample.path for sample in samples],
        labels,
        threads=run.recipe.benchmark.threads,
        latency_runs=run.recipe.benchmark.latency_runs,
        teacher_top1=teacher.argmax(axis=1),
    )
    answers = {f"{role}-{p}": m.probabilities for (role, p), m in zip(exported.files, measured, strict=True)}
    done = Benchmarked(run.folder, records + [m.record for m in measured], _compared(answers, labels))
    with disk_errors(run.folder):
        np.savez_compressed(run.folder / PREDICTIONS, teacher=teacher, **answers)
        write_json(run.folder / COMPARISONS, msgspec.to_builtins(done.comparisons))
        write_json(run.folder / RECORDS, msgspec.to_builtins(done.records))
    return done


def _compared(answers: dict[str, "np.ndarray"], labels: "np.ndarray") -> list["Paired"]:
    from kd2mobile.measure.accuracy import mcnemar
    from kd2mobile.report.view import Paired

    right = {name: probabilities.argmax(axis=1) == labels for name, probabilities in answers.items()}
    precisions = [name.removeprefix("baseline-") for name in right if name.startswith("baseline-")]
    pairs = [(right[f"student-{p}"], right[f"baseline-{p}"], p) for p in precisions]
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


def _read_benchmark(run: Run, exported: Exported) -> Benchmarked | None:
    """What an earlier benchmark of exactly these files left in the run, or None."""
    from kd2mobile.measure.record import BenchmarkRecord
    from kd2mobile.report.view import Paired

    if not all((run.folder / name).is_file() for name in (RECORDS, COMPARISONS, PREDICTIONS)):
        return None
    records = msgspec.json.decode((run.folder / RECORDS).read_bytes(), type=list[BenchmarkRecord])
    if {sha256_of(file) for file in exported.files.values()} != {r.sha256 for r in records if r.role != "teacher"}:
        say("benchmark stale     the run's files changed since they were measured")
        return None
    say(f"benchmark current   {(run.folder / RECORDS).as_posix()}")
    comparisons = msgspec.json.decode((run.folder / COMPARISONS).read_bytes(), type=list[Paired])
    return Benchmarked(run.folder, records, comparisons)


def _softmax(logits: "Shards") -> "np.ndarray":
    import numpy as np

    z = logits.take(np.arange(len(logits)), np.zeros(len(logits), int)).astype(np.float64)
    exponentials = np.exp(z - z.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
