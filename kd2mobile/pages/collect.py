"""From a run's folder to what its page shows."""

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd2mobile.backend.checkpoint import HISTORY_FILE
from kd2mobile.data.sources.roots import Root
from kd2mobile.data.split import SPLIT_NAMES, Groups, Split, SplitResults, read_groups, read_split
from kd2mobile.files import decode_json
from kd2mobile.measure.roles import STUDENT, TEACHER, Role, trained_roles
from kd2mobile.pages import findings
from kd2mobile.pages.shown_images import HOW_CHOSEN, choose_images
from kd2mobile.pages.view import Answer, Example, Measurements, Paired, ReportData, ShownFile, ShownImage, Stage
from kd2mobile.pages.words import best_student, tables, variant_name
from kd2mobile.recipe.toml import shown_tables
from kd2mobile.store.artifact import RECORD, Artifact, read_artifact
from kd2mobile.store.run import MadeWith, Run
from kd2mobile.store.stage_records import FORMS
from kd2mobile.teachers.kinds import titles
from kd2mobile.text import count_of, listed, size_of
from kd2mobile.tflite.results import TfliteResults
from kd2mobile.transfer.results import TransferResults

if TYPE_CHECKING:
    from kd2mobile.measure.record import BenchmarkRecord


def collect(
    run: Run,
    root: Root,
    records: "list[BenchmarkRecord]",
    comparisons: list[Paired],
    measurements: Measurements,
    answers: dict[str, np.ndarray],
) -> ReportData:
    """Everything on the page of a run that was measured.

    root: where the images are. records, comparisons: what `benchmark` measured; measurements: of these files on every
    device; answers: of its files to the test images, `teacher` and `<role>-<variant>`, float [n, classes]. Everything
    else comes from the records of its artifacts.
    """
    # what the run refers to and the store still holds
    folders = run.artifacts
    gone = [role for role, folder in folders.items() if not (folder / RECORD).is_file()]
    made = {role: read_artifact(folder) for role, folder in folders.items() if role not in gone}
    folder = run.artifact("split").folder
    split, groups = read_split(folder), read_groups(folder)
    # the file that the page is about decides which images are shown
    recommended = variant_name(best_student(tables(records)))
    images = _images(split, root, answers[TEACHER.name], answers[STUDENT.key(recommended)])
    return ReportData(
        title=title_of(run),
        run=run.folder.name,
        recipe=shown_tables(run.recipe),
        records=records,
        measurements=measurements.records,
        paired=comparisons,
        histories={
            role.name: _history(run.artifact(role.name).folder / HISTORY_FILE)
            for role in trained_roles()
            if role.name in folders
        },
        images=images,
        images_chosen=HOW_CHOSEN,
        classes=split.classes,
        splits=split_sizes(split),
        skipped=[(one.path, one.reason) for one in split.skipped],
        duplicates=split.duplicates,
        leaks=[leak.paths for leak in split.leaks],
        contradictions=split.contradictions,
        near_duplicates=[group.paths for group in groups.near_duplicates],
        leaked=groups.leaked,
        **_findings(run, split, root, answers, recommended),
        stages=[_stage(role, one.record) for role, one in made.items()],
        exports=[
            ShownFile(_role_of(name), one.results_as(TfliteResults))
            for name, one in made.items()
            if one.record["stage"] == "tflite"
        ],
        versions=_versions(run.record.made_with),
        commands=_commands(run.folder.as_posix()),
        notes=[
            *_notes(split),
            *_about_groups(split, groups),
            *_about_teachers(made),
            *_about_unlabelled(made),
            *measurements.left_out,
            *(f"The {role} artifact is no longer in the store." for role in gone),
        ],
    )


def _role_of(file: str) -> str:
    """The role of a file by what the run calls it."""
    return next(role.name for role in trained_roles() if role.variant_of(file))


def title_of(run: Run) -> str:
    """What a run is about, in a few words."""
    return f"{run.recipe.student.name} taught by {titles(run.recipe.teachers)}"


def _images(split: Split, root: Root, teacher: np.ndarray, student: np.ndarray) -> list[ShownImage]:
    samples = split.samples_of("test")
    labels = np.array([sample.label for sample in samples])
    return [
        ShownImage(
            path=samples[i].path,
            image=root / samples[i].path,
            true_class=split.classes[labels[i]],
            teacher=_named(teacher[i], split.classes),
            student=_named(student[i], split.classes),
        )
        for i in choose_images(labels, teacher, student)
    ]


def _findings(run: Run, split: Split, root: Path, answers: dict[str, np.ndarray], recommended: str) -> dict[str, Any]:
    """The parts of the page that look at each image; answers: as `collect` takes them."""
    samples = split.samples_of("test")
    labels = np.array([sample.label for sample in samples])
    files = {role.name: _files(answers, role) for role in trained_roles()}
    student = files[STUDENT.name][recommended]
    others = {role: own[recommended] for role, own in files.items() if role != STUDENT.name and recommended in own}
    other = next(iter(others), None)
    evaluated = {TEACHER.name: answers[TEACHER.name]} | {name: own.get(recommended) for name, own in files.items()}
    name = run.recipe.student.name
    names = {TEACHER.name: titles(run.recipe.teachers)} | dict.fromkeys(files, f"{name} {recommended}")

    def exemplify(i: int, answers: list[Answer]) -> Example:
        sample = samples[i]
        return Example(
            path=sample.path, image=root / sample.path, true_class=split.classes[sample.label], answers=answers
        )

    return {
        "confusion": findings.confusion(
            names[STUDENT.name], labels, student, answers[TEACHER.name], split.classes, exemplify
        ),
        "calibrations": [
            findings.calibration(role, names[role], probabilities, labels)
            for role, probabilities in evaluated.items()
            if probabilities is not None
        ],
        "class_scores": findings.class_scores(labels, student, others[other], split.classes) if other else [],
        "scored": (STUDENT.name, other) if other else (),
        "disagreements": findings.disagreements(files[STUDENT.name], labels, split.classes, exemplify),
    }


def _files(answers: dict[str, np.ndarray], role: Role) -> dict[str, np.ndarray]:
    """The answers of a role's files by the name of their variant."""
    return {variant: answers[key] for key in answers if (variant := role.variant_of(key))}


def split_sizes(split: Split) -> dict[str, int]:
    """Images in train, val and test, and then in whatever other split there is."""
    counts = Counter(sample.split for sample in split.samples)
    return {name: counts[name] for name in dict.fromkeys((*SPLIT_NAMES, *counts))}


def _named(probabilities: np.ndarray, classes: list[str]) -> list[tuple[str, float]]:
    return [(name, float(probability)) for name, probability in zip(classes, probabilities, strict=True)]


def _history(file: Path) -> list[dict[str, Any]]:
    again = f"Remove {file.parent}; it will be built again."
    lines = file.read_text("utf-8").splitlines()
    return [
        decode_json(line, dict[str, float | None], f"{file}, line {number}", again)
        for number, line in enumerate(lines, 1)
    ]


def _stage(role: str, record: dict[str, Any]) -> Stage:
    size = sum(file["bytes"] for file in record["files"].values())
    what = f"{FORMS[record['stage']].title}: {count_of(len(record['files']), 'file')}, {size_of(size)}"
    return Stage(stage=role, fingerprint=record["fingerprint"], seconds=record["seconds"], what=what)


def _versions(made_with: MadeWith) -> dict[str, str]:
    own = {name: getattr(made_with, name) for name in ("kd2mobile", "python", "platform")}
    return own | made_with.packages


def _commands(folder: str) -> list[str]:
    run = shlex.quote(folder)
    later = [f"kd2mobile {command} --run {run}" for command in ("export --tflite", "benchmark", "report")]
    return [f"kd2mobile distill --recipe {shlex.quote(folder + '/recipe.toml')} --run {run}", *later]


def _about_teachers(made: dict[str, Artifact]) -> list[str]:
    if "transfer" not in made:
        return []
    results = made["transfer"].results_as(TransferResults)
    if not results.members or not results.val:
        return []
    every = [
        f"{member.name} {member.val.top1:.1%} (temperature {temperature:g})"
        for member, temperature in zip(results.members, results.temperatures, strict=True)
        if member.val
    ]
    kept = len(results.counted)
    of = "" if kept == len(every) else f" of the {len(every)} that were trained, the best {kept} on validation"
    names = "" if not of else f" ({listed([results.members[index].name for index in results.counted], kept)})"
    return [
        f"The teacher is the {results.mean} mean of {kept} networks' answers{of}{names}. Validation top-1: "
        f"{', '.join(every)}; combined {results.val.top1:.1%}."
    ]


def _about_unlabelled(made: dict[str, Artifact]) -> list[str]:
    if "unlabelled-split" not in made:
        return []
    found = made["unlabelled-split"].results_as(SplitResults)
    images, skipped = count_of(found.unlabelled, "image"), count_of(found.skipped, "file", "skipped")
    note = "Beside the training images, and from the teacher's logits alone, the student learned from"
    return [f"{note} {images} without a label; {skipped}."]


def _about_groups(split: Split, groups: Groups) -> list[str]:
    notes = []
    if groups.group_by:
        alone = f"; {count_of(groups.without_key, 'image')} without one, each alone" * bool(groups.without_key)
        notes.append(f"Images with one key by {groups.group_by!r} are in one split where it is drawn{alone}.")
    if not groups.kept:
        notes.append("The splits were drawn without regard to near duplicates (--no-groups).")
    if groups.leaked:
        tested = len(split.samples_of("test"))
        of_all, others = count_of(tested, "test image"), tested - len(groups.leaked)
        notes.append(
            f"{len(groups.leaked):,} of {of_all} are also in train or val, as copies, near duplicates or by their key. "
            f"The column No leaks is the top-1 of the other {others:,}."
        )
    return notes


def _notes(split: Split) -> list[str]:
    notes = []
    if split.duplicates:
        groups = count_of(len(split.duplicates), "group", "of identical images")
        notes.append(f"{groups}; drawn splits keep each group in one split.")
    if split.leaks:
        notes.append(f"{count_of(len(split.leaks), 'image')} in more than one given split.")
    if split.contradictions:
        notes.append(f"{count_of(len(split.contradictions), 'image')} in more than one class.")
    return notes
