"""`export`: the .tflite files of a run: made, checked and copied into its folder, variant by variant."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.api.distill import make_students
from kd2mobile.api.ladder import walk
from kd2mobile.api.results import Exported, ExportedFile
from kd2mobile.api.start import all_settings, open_or_start
from kd2mobile.backend.tensorflow_process import TensorFlowProcess
from kd2mobile.compress.methods import GRAPH_FOLDER
from kd2mobile.errors import CompressionError, ExportError, RecipeError
from kd2mobile.files import copy_file, disk_errors, inside, sha256_of, system_errors
from kd2mobile.measure.roles import ROLES, STUDENT
from kd2mobile.recipe.schema import Compress, Export
from kd2mobile.recipe.variants import Variant, variants_of
from kd2mobile.stages.plan import Plan
from kd2mobile.store.artifact import RECORD, Building, Step, Store, read_artifact
from kd2mobile.store.run import EXPORT, Run, check_outside_data, check_outside_results
from kd2mobile.tflite.export import converting_process
from kd2mobile.tflite.results import TfliteResults
from kd2mobile.tflite.settings import check_has_effect
from kd2mobile.training.results import STUDENT_FILE

if TYPE_CHECKING:
    from kd2mobile.tflite.job import Job


@system_errors()
def export(
    run: Path | None = None,
    *,
    out: Path | None = None,
    force: bool = False,
    store: Path | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Exported:
    """Converts the students of a run to .tflite files, each checked beside its Keras student on validation images.

    run: its folder, by default the newest; where there is none, one is made as `distill` would without arguments.
    out: a folder into which the student's files are copied as well, of `auto` the found one; with force they replace
    others of their names. store: another one than the run's own. settings, flags: of the [export] and [compress]
    tables, for this call; of [export] the run keeps version, author and licence.
    Raises ExportError if a file does not hold its contract or does not answer as its student does; the others stay.
    RecipeError for another file of the same name in `out`, before anything is made where the names are known.
    """
    if force and out is None:
        raise RecipeError(
            "--force", "must be given with --out", "--force alone", "Give --out DIR, or leave out --force."
        )
    if out is not None:
        check_out_folder(Path(out))
        check_outside_results(Path(out), "--out")
    given = all_settings(settings, flags)
    if "export.max_drop" in given and not given.get("export.auto"):
        got = ", ".join(given.get("export.precisions", ())) or "no --precision"
        raise RecipeError(given.origin("export.max_drop"), "must be given with --precision auto", got, "Add it.")
    opened, plan = open_or_start(run, store, given)
    check_outside_data(opened.recipe, {"--out": out})
    check_has_effect(opened.recipe.export, given)
    if opened.recipe.export.auto:
        done = _find_smallest(opened, plan)
    else:
        variants = variants_of(opened.recipe.export)
        if out is not None:
            check_out(opened, plan, variants, Path(out), force)
        done = make_files(opened, plan, variants)
    if out is None:
        return done
    copied = [done.found] if done.found else [file for (role, _), file in done.files.items() if ROLES[role].main]
    return msgspec.structs.replace(done, copies=copy_out(copied, Path(out), force))


def make_files(run: Run, plan: Plan, variants: list[Variant], as_before: bool = False) -> Exported:
    """Makes the students of a run where they are missing, then their files: see `export_run`."""
    make_students(run, plan)
    with converting_process() as process:
        return export_run(run, plan, variants, process, as_before)


def _find_smallest(run: Run, plan: Plan) -> Exported:
    made: list[ExportedFile] = []
    make_students(run, plan)
    with converting_process() as process:

        def make(variants: list[Variant]) -> Exported:
            exported = export_run(run, plan, variants, process)
            made.extend(exported.made)
            return exported

        rungs, found = walk(make, run.recipe.export.max_drop)
    exported = Exported(run.folder / EXPORT, made, rungs)
    return msgspec.structs.replace(exported, found=exported.files[STUDENT.name, found.variant.name])


def exported_variants(run: Run) -> list[Variant]:
    """Every variant that was exported into the run, else those of its recipe."""
    return [Variant.named(name) for name in run.record.exported] or variants_of(run.recipe.export)


def export_run(
    run: Run, plan: Plan, variants: list[Variant], process: TensorFlowProcess, as_before: bool = False
) -> Exported:
    """Makes the files of a run whose students are made, and copies them into its folder.

    process: that converts, see `tflite.export`. as_before: each variant as it was last exported, not as the recipe says
    now. Raises what `tflite.export` raises, when the files that can be made are made.
    """
    how = {v: run.export_of(v) if as_before else (run.recipe.export, run.recipe.compress) for v in variants}
    requested = _requested(plan, variants)
    steps = {(role, variant): plan.exported(role, variant, *how[variant]) for role, variant in requested}
    if not as_before:
        run.describe()
    exported = Exported(run.folder / EXPORT, [])
    with disk_errors(exported.folder):
        exported.folder.mkdir(exist_ok=True)
    refused = []
    for role, compression, tables in dict.fromkeys((role, v.compression, how[v]) for role, v in requested):
        alike = [v for other, v in requested if (other, v.compression, how[v]) == (role, compression, tables)]
        build = _Conversion(process, run.store, plan, tables[0]).build
        try:
            run.store.make_together([steps[role, variant] for variant in alike], build)
            if compression != "none":
                run.refer({ROLES[role].key(compression): run.store.folder(steps[role, alike[0]].inputs["student"])})
        except (CompressionError, ExportError) as fault:
            refused.append(fault)
        finally:
            for variant in alike:
                _hand_out(run, role, variant, steps[role, variant], tables, exported)
    if refused:
        raise refused[0]
    return exported


def check_out(run: Run, plan: Plan, variants: list[Variant], out: Path, force: bool) -> None:
    """Refuses a file in the folder `out` that is not the student's which an export would put there; makes nothing.

    force: other files are replaced. Raises RecipeError. A file whose content is not made yet is another one.
    """
    from kd2mobile.tflite.settings import file_name

    table = run.recipe.export
    for variant in variants:
        name = file_name(plan.recipe.student.name, variant, table)
        made = run.store.find(plan.exported(STUDENT.name, variant))
        _needs_copy(made.folder / name if made else None, out / name, force)


def copy_out(files: Iterable[Path], out: Path, force: bool) -> list[Path]:
    """Copies the files into the folder `out`, which is made if its own folder is there; those that lie there already
    stay. Returns where they are. Raises RecipeError, before any is copied, for a file that `force` would replace."""
    targets = {file: out / file.name for file in files}
    copied = {file: target for file, target in targets.items() if _needs_copy(file, target, force)}
    with disk_errors(out):
        out.mkdir(exist_ok=True)
        for file, target in copied.items():
            copy_file(file, target)
    return list(targets.values())


def check_out_folder(out: Path) -> None:
    """Raises RecipeError unless `out` is a folder, or can be made in one."""
    if not out.is_dir() and (os.path.lexists(out) or not out.parent.is_dir()):
        must = "must be a folder, or a new one in an existing folder"
        raise RecipeError("--out", must, out, "Choose another, or create its parent folder first.")


def _needs_copy(file: Path | None, target: Path, force: bool) -> bool:
    """file: what the target shall hold, None if it is not made yet."""
    if not os.path.lexists(target):
        return True
    if target.is_dir():
        raise RecipeError(target, "must not exist yet", "a folder", "Move it away, or choose another --out.")
    if file and target.is_file() and sha256_of(target) == sha256_of(file):
        return False
    if not force:
        got = f"a file of {target.lstat().st_size:,} bytes"
        raise RecipeError(target, "must not exist yet", got, "Give --force to replace it.")
    return True


def _requested(plan: Plan, variants: list[Variant]) -> list[tuple[str, Variant]]:
    """Which student in which variant: one whose role is not compressed only without a compression."""
    return [
        (role, variant)
        for role in plan.requested_students
        for variant in variants
        if ROLES[role].compressed or variant.compression == "none"
    ]


def _hand_out(
    run: Run, role: str, variant: Variant, step: Step, tables: tuple[Export, Compress], exported: Exported
) -> None:
    """Copies a .tflite that is made into the run's folder. tables: how it was made."""
    folder = run.store.reference(step)
    if folder is None:
        return
    results = read_artifact(folder).results_as(TfliteResults)
    file = inside(exported.folder, ROLES[role].prefix + results.file, folder / RECORD)
    with disk_errors(exported.folder):
        copy_file(folder / results.file, file)
    exported.made.append(ExportedFile(role, variant.name, file, results))
    run.add_export(variant, {ROLES[role].key(variant.name): folder}, *tables)


@dataclass(frozen=True)
class _Conversion:
    """How files of one student are made. process: that converts; table: the [export] that says how."""

    process: TensorFlowProcess
    store: Store
    plan: Plan
    table: Export

    def build(self, building: Building) -> None:
        """The files of one student in one compression, a step per precision."""
        from kd2mobile.tflite.export import export_student
        from kd2mobile.tflite.settings import fingerprints

        by_precision = {step.config["precision"]: step for step in building.steps}
        made_from = fingerprints(self.plan.recipe, building.steps[0].inputs["student"])

        def commit(result: TfliteResults) -> None:
            building.commit(by_precision[result.precision], msgspec.structs.replace(result, made_from=made_from))

        export_student(self.job(building), self.process, commit)

    def job(self, building: Building) -> "Job":
        """What the converting process is to do. The steps share all but the precision."""
        from kd2mobile.data.sources.roots import absolute
        from kd2mobile.data.split import read_split
        from kd2mobile.tflite.calibration import choose_calibration
        from kd2mobile.tflite.job import Job
        from kd2mobile.tflite.settings import calibration_images

        inputs, step, recipe = building.inputs, building.steps[0], self.plan.recipe
        folders = zip(building.steps, building.folders, strict=True)
        split = read_split(inputs["split"])
        count = calibration_images(self.table, len(split.classes))
        compression, graph = step.config.get("compression", "none"), inputs["student"] / GRAPH_FOLDER
        distilled = self.store.folder(self.plan.students[STUDENT.name]) / STUDENT_FILE
        return Job(
            student=os.path.abspath(inputs["student"] / STUDENT_FILE),
            folders={one.config["precision"]: os.path.abspath(folder) for one, folder in folders},
            classes=split.classes,
            resize=recipe.data.resize,
            model_name=recipe.student.name,
            compression=compression,
            fake_quantized=os.path.abspath(graph) if graph.is_dir() else None,
            distilled=None if compression == "none" else os.path.abspath(distilled),
            student_fingerprint=step.inputs["student"].fingerprint,
            images=absolute(self.plan.root),
            calibration=[
                sample.path for sample in choose_calibration(split.samples_of("train"), count, recipe.data.seed)
            ],
            validation=[sample.path for sample in split.samples_of("val")],
            validation_labels=[sample.label for sample in split.samples_of("val")],
            options=self.table,
        )
