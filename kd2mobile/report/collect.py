"""From a run's folder to what its page shows."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from kd2mobile.artifact import RECORD, read_artifact
from kd2mobile.data.split import SPLIT_NAMES, Split, read_split
from kd2mobile.report.pictures import HOW_CHOSEN, choose_pictures
from kd2mobile.report.view import Paired, Picture, ReportData, Stage
from kd2mobile.report.words import best_student, tables
from kd2mobile.runs import Run

if TYPE_CHECKING:
    from kd2mobile.measure.record import BenchmarkRecord


def collect(run: Run, root: Path, records: "list[BenchmarkRecord]", comparisons: list[Paired]) -> ReportData:
    """Everything on the page of a run that was measured.

    root: the folder of the pictures. records, comparisons: what `benchmark` measured. The test pictures and their
    probabilities come from the run's predictions.npz, everything else from the records of its artifacts.
    """
    folders = {role: run.folder / folder for role, folder in run.record["artifacts"].items()}
    gone = [role for role, folder in folders.items() if not (folder / RECORD).is_file()]
    made = {role: read_artifact(folder).record for role, folder in folders.items() if role not in gone}
    split = read_split(folders["split"])
    recommended = best_student(tables(records))["precision"]
    with np.load(run.folder / "predictions.npz") as predictions:
        pictures = _pictures(split, root, predictions["teacher"], predictions[f"student-{recommended}"])
    names = {"student": "with the teacher", "baseline": "on labels alone"}
    exports = {role: record for role, record in made.items() if record["stage"] == "tflite"}
    return ReportData(
        title=f"{run.recipe.student.name} taught by {Path(run.recipe.teacher.name).name}",
        run=run.folder.name,
        recipe=msgspec.to_builtins(run.recipe),
        records=records,
        paired=comparisons,
        histories={names[r]: _history(folders[r] / "history.jsonl") for r in names if r in folders},
        pictures=pictures,
        pictures_chosen=HOW_CHOSEN,
        classes=split.classes,
        splits={name: len(split.of(name)) for name in SPLIT_NAMES},
        set_aside=[(aside.path, aside.reason) for aside in split.set_aside],
        stages=[_stage(role, record) for role, record in made.items()],
        exports=[record["results"] | {"role": role.partition("-")[0]} for role, record in exports.items()],
        versions=_versions(run.record["made_with"]),
        commands=_commands(run.folder.as_posix()),
        notes=[*_notes(split), *(f"The {role} artifact is not in the store any more." for role in gone)],
    )


def _pictures(split: Split, root: Path, teacher: np.ndarray, student: np.ndarray) -> list[Picture]:
    samples = split.of("test")
    labels = np.array([sample.label for sample in samples])
    return [
        Picture(
            path=samples[i].path,
            image=root / samples[i].path,
            true_class=split.classes[labels[i]],
            teacher=_named(teacher[i], split.classes),
            student=_named(student[i], split.classes),
        )
        for i in choose_pictures(labels, teacher, student)
    ]


def _named(probabilities: np.ndarray, classes: list[str]) -> list[tuple[str, float]]:
    return [(name, float(probability)) for name, probability in zip(classes, probabilities, strict=True)]


def _history(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def _stage(role: str, record: dict[str, Any]) -> Stage:
    size = sum(file["bytes"] for file in record["files"].values())
    what = f"{len(record['files'])} file{'s' if len(record['files']) != 1 else ''}, {size / 1e6:,.1f} MB"
    return Stage(stage=role, fingerprint=record["fingerprint"], seconds=record["seconds"], what=what)


def _versions(made_with: dict[str, Any]) -> dict[str, str]:
    own = {name: made_with[name] for name in ("kd2mobile", "python", "platform")}
    return own | made_with["packages"]


def _commands(folder: str) -> list[str]:
    run = shlex.quote(folder)
    later = [f"kd2mobile {verb} --run {run}" for verb in ("export --tflite", "benchmark", "report")]
    return [f"kd2mobile distill --recipe {shlex.quote(folder + '/recipe.toml')} --run {run}", *later]


def _notes(split: Split) -> list[str]:
    notes = []
    if split.duplicates:
        notes.append(f"{len(split.duplicates)} groups of identical pictures; those that are drawn stay in one split.")
    if split.leaks:
        notes.append(f"{len(split.leaks)} pictures are in more than one split, as they were given.")
    return notes
