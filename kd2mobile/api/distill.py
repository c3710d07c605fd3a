"""`distill`: train a student on the logits of a teacher."""

from pathlib import Path
from typing import Any

from kd2mobile.api.results import Distilled
from kd2mobile.api.start import composed
from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.errors import ArtifactError, Kd2MobileError
from kd2mobile.files import system_errors
from kd2mobile.measure.roles import STUDENT, TEACHER
from kd2mobile.stages.plan import Plan, check_student_weights, make_plan
from kd2mobile.store.artifact import RECORD, Artifact, Step, Store, read_artifact
from kd2mobile.store.run import RUNS, STORE, Run, check_outside_data, start_run
from kd2mobile.training.results import STUDENT_FILE, StudentResults
from kd2mobile.transfer.results import TransferResults


@system_errors()
def distill(
    recipe: Path | None = None,
    *,
    run: Path | None = None,
    store: Path | None = None,
    transfer_set: Path | list[Path] | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Distilled:
    """Trains a student on the logits of a teacher, and the baseline if the recipe wants it.

    recipe: a TOML file; settings: fields by dotted name over it; flags: the fields that have a keyword of their own
    (`recipe.FLAGS`): `distill(data="photos", temperature=4)`. run: the folder of results; store: of artifacts;
    transfer_set: one made elsewhere, or several with unlabelled images or several teachers; refused if it is not that
    of the recipe. Raises Kd2MobileError.
    """
    resolved, artifacts = composed(recipe, settings, flags), Store(store or STORE)
    check_outside_data(resolved, {"--store": artifacts.root, "--run": run or RUNS})
    load_keras()
    plan = make_plan(resolved, artifacts)
    started = start_run(resolved, run, artifacts.root)
    try:
        return make_students(started, plan, transfer_set)
    except Kd2MobileError:
        started.forget()
        raise


def make_students(run: Run, plan: Plan, transfer_set: Path | list[Path] | None = None) -> Distilled:
    for folder in transfer_set if isinstance(transfer_set, list) else [transfer_set] if transfer_set else []:
        run.store.adopt(_transfer_step(plan, Path(folder)), folder)
    if not run.store.reference(plan.students[STUDENT.name]):
        check_student_weights(run.recipe)
    transfer = run.store.make(plan.steps["transfer"])
    students = {role: run.store.make(step) for role, step in plan.requested_students.items()}
    run.refer({name: folder for name, step in plan.references.items() if (folder := run.store.reference(step))})
    files = {role: made.folder / STUDENT_FILE for role, made in students.items()}
    val_top1 = {role: made.results_as(StudentResults).val_top1 for role, made in students.items()}
    val_top1 = {TEACHER.name: teacher_val_top1(transfer)} | val_top1
    return Distilled(run.folder, files, val_top1, members_val_top1(transfer))


def teacher_val_top1(transfer: Artifact) -> float:
    """The teacher's accuracy on the validation images, 0..1."""
    if not (val := transfer.results_as(TransferResults).val):
        where = f"{transfer.folder / RECORD}: results.val"
        raise ArtifactError(where, "must be there", None, f"Remove {transfer.folder}; it will be built again.")
    return val.top1


def members_val_top1(transfer: Artifact) -> list[tuple[str, float]]:
    """Name and accuracy on the validation images, 0..1, of each of several teachers; nothing of one."""
    members = transfer.results_as(TransferResults).members
    return [(member.name, member.val.top1) for member in members if member.val]


def _transfer_step(plan: Plan, folder: Path) -> Step:
    """The step that a transfer set made elsewhere is of: the one with its fingerprint, or else the student's own."""
    if (folder / RECORD).is_file():
        fingerprint = read_artifact(folder, copied=True).fingerprint
        return next((step for step in plan.transfer_sets if step.fingerprint == fingerprint), plan.steps["transfer"])
    return plan.steps["transfer"]
