"""The chain, verb by verb. Each verb makes the stages before it that are missing and skips those that are there.

photos -> split -> views -> teacher -> transfer set -> student -> .tflite -> measured -> report
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from kd2mobile.api.export import check_out, check_out_folder, copy_out, export_run, exported_variants
from kd2mobile.api.ladder import walk
from kd2mobile.api.measurement import (
    Benchmarked,
    measure,
    protocol_of,
    read_measurement,
    read_measurements,
    validations,
)
from kd2mobile.api.results import Compared, Distilled, Exported, Labelled, Reported
from kd2mobile.api.report import RecordsReported, report_records
from kd2mobile.api.start import all_settings, composed, open_or_start
from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.errors import ArtifactError, Kd2MobileError, RecipeError
from kd2mobile.files import disk_errors, system_errors
from kd2mobile.recipe.compose import compose
from kd2mobile.recipe.schema import Recipe, fields
from kd2mobile.recipe.toml import in_toml
from kd2mobile.recipe.variants import Variant, variants_of
from kd2mobile.stages.plan import (
    Stages,
    check_student_weights,
    split_step,
    stages,
    unlabelled_split_step,
)
from kd2mobile.store.artifact import RECORD, Artifact, Step, Store, read_artifact
from kd2mobile.store.output_files import check_output, is_drawing, is_page
from kd2mobile.store.run import (
    EXPORT,
    PAGE,
    RUNS,
    STORE,
    Run,
    check_outside_data,
    check_outside_results,
    open_run,
    start_run,
)
from kd2mobile.tflite.export import converting_process
from kd2mobile.tflite.settings import check_has_effect

if TYPE_CHECKING:
    from kd2mobile.data.check import Checked
    from kd2mobile.inspection.inspect import Inspection
    from kd2mobile.measure.predict import Prediction
    from kd2mobile.pages.plots.bars import DarkKnowledge


@system_errors()
def distill(
    recipe: Path | None = None,
    *,
    run: Path | None = None,
    store: Path = STORE,
    transfer_set: Path | list[Path] | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Distilled:
    """Trains a student on the logits of a teacher, and the baseline if the recipe wants it.

    recipe: a TOML file; settings: fields by dotted name over it; flags: the fields that have a keyword of their own
    (`recipe.FLAGS`): `distill(data="photos", temperature=4)`. run: the folder of results; store: of artifacts;
    transfer_set: one made elsewhere, or two where the recipe has unlabelled pictures; refused if it is not that of the
    recipe. Raises Kd2MobileError.
    """
    load_keras()
    meant, artifacts = composed(recipe, settings, flags), Store(store)
    check_outside_data(meant, {"--store": store, "--run": run or RUNS})
    plan = stages(meant, artifacts)
    started = start_run(meant, run, store)
    try:
        return _distill(started, plan, transfer_set)
    except Kd2MobileError:
        started.forget()
        raise


@system_errors()
def check(
    recipe: Path | None = None,
    *,
    store: Path = STORE,
    sheet: Path | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> "Checked":
    """Looks at the pictures as `distill` would split them, before anything is trained; needs no framework.

    sheet: a PNG to draw them on, a row a class. The split that is made here is found by `distill`. settings, flags: of
    the [data] table, and student.input_px. Raises DataError for pictures that cannot be used, as `distill` would.
    """
    from kd2mobile.data.check import Looked, check_split
    from kd2mobile.data.places import several
    from kd2mobile.data.split import read_groups, read_split
    from kd2mobile.pixels import DeepImages

    if sheet:
        check_output(sheet, "sheet", is_drawing)
        check_outside_results(sheet, "sheet")
    meant, artifacts = composed(recipe, settings, flags), Store(store)
    check_outside_data(meant, {"--store": store, "sheet": sheet})
    found, step = split_step(meant, artifacts)
    places = [(found.root, found.scan, step)]
    if found.unlabelled:
        places.append((found.unlabelled_root, found.unlabelled, unlabelled_split_step(meant, found, step)))
    looked = []
    for root, scan, one in places:
        made = artifacts.make(one)
        split, groups = read_split(made.folder), read_groups(made.folder)
        deep = msgspec.convert(made.results.get("deep_images"), DeepImages | None)
        looked.append(Looked(root, split, groups, scan.ignored, scan.system_files, deep))
    data = meant.data
    beside = {"val": data.val_source or (), "test": data.test_source or ()}
    also = [f"{one} ({part})" for part, named in beside.items() for one in several(named)]
    source = " and ".join([*map(str, several(data.source)), *also])
    checked = check_split(source, meant.student.input_px, *looked)
    if sheet:
        from kd2mobile.pages.contact_sheet import draw_contact_sheet

        with disk_errors(sheet):
            draw_contact_sheet(Path(sheet), checked, *looked)
    return checked


@system_errors()
def label(
    recipe: Path | None = None,
    *,
    store: Path = STORE,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Labelled:
    """The teacher's pass alone: its logits for every view, as `distill` would make and will find them."""
    load_keras()
    meant, artifacts = composed(recipe, settings, flags), Store(store)
    check_outside_data(meant, {"--store": store})
    plan = stages(meant, artifacts)
    transfer = artifacts.make(plan.transfer)
    unlabelled = artifacts.make(plan.unlabelled.transfer).folder if plan.unlabelled else None
    return Labelled(transfer.folder, artifacts.folder(plan.teacher), _val_top1(transfer), unlabelled)


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
    """Converts the students of a run to .tflite files, each checked beside its Keras student on validation pictures.

    run: its folder, by default the newest; where there is none, one is made as `distill` would without arguments.
    out: a folder into which the student's files are copied as well, of `auto` the found one; with force they replace
    others of their names. store: another one than the run's own. settings, flags: of the [export] and [compress]
    tables, for this call; of [export] the run keeps version, author and licence.
    Raises ExportError if a file does not hold its contract or does not answer as its student does; the others stay.
    RecipeError for another file of the same name in `out`, before anything is made where the names are known.
    """
    if force and out is None:
        raise RecipeError("--force", "must be given with --out", "it alone", "Give --out DIR, or leave --force away.")
    if out is not None:
        check_out_folder(Path(out))
        check_outside_results(Path(out), "--out")
    given = all_settings(settings, flags)
    opened, plan = open_or_start(run, store, given)
    check_outside_data(opened.recipe, {"--out": out})
    check_has_effect(opened.recipe.export, given)
    if opened.recipe.export.auto:
        done = _find_smallest(opened, plan)
    else:
        variants = variants_of(opened.recipe.export)
        if out is not None:
            check_out(opened, plan, variants, Path(out), force)
        done = _export(opened, plan, variants)
    if out is None:
        return done
    copied = [done.found] if done.found else [file for (role, _), file in done.files.items() if role == "student"]
    return dataclasses.replace(done, copies=copy_out(copied, Path(out), force))


@system_errors()
def benchmark(
    run: Path | None = None,
    *,
    model: Path | None = None,
    data: Path | None = None,
    labels: Path | None = None,
    mean: float | list[float] | None = None,
    std: float | list[float] | None = None,
    resize: str | None = None,
    range: tuple[float, float] | None = None,
    store: Path | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Benchmarked:
    """Measures the files of a run on this host, or any .tflite image classifier on a folder (benchmarks/RULES.md).

    run: its folder, by default the newest. model, data: someone else's file and a folder of class folders instead; then
    labels, mean, std, resize and range say how to read them. A model may also be a folder with its record, as under
    models/: without data it is measured on the pictures that the record names. settings, flags: of the [benchmark]
    table, for this call. The device is looked at first: a wrong one is refused before anything is made.
    """
    from kd2mobile.measure.devices import check_device

    def look(recipe: Recipe) -> None:
        check_device(recipe.benchmark.device, protocol_of(recipe.benchmark))

    settings = all_settings(settings, flags)
    if model is not None:
        look(composed := compose(settings=settings))
        how = composed.benchmark
    if model is not None and Path(model).is_dir():
        from kd2mobile.api.published import MODEL, measure_published

        if data is None:
            return measure_published(Path(model), Store(store or STORE), how)
        model = Path(model) / MODEL
    if model is not None and data is not None:
        from kd2mobile.measure.external import measure_on_folder

        reading = {"labels": labels, "mean": mean, "std": std, "resize": resize, "value_range": range}
        measured = {"device": how.device, "protocol": protocol_of(how)}
        return Benchmarked(None, measure_on_folder(Path(model), Path(data), **reading, **measured).records, [])
    opened, plan = open_or_start(run, store, settings, look)
    done = _export(opened, plan, exported_variants(opened), as_before=True)
    return measure(opened, plan, done.files, validations(opened, plan, done.records.values()))


@system_errors()
def predict(
    model: Path,
    images: Path | list[Path],
    *,
    top: int = 5,
    range: tuple[float, float] | None = None,
    **reading: Any,
) -> list["Prediction"]:
    """The `top` classes of each picture with their probabilities, by a .tflite file.

    range: what is black and white in greyscale of more than 8 bits. reading: labels, mean, std.
    """
    from kd2mobile.measure.predict import predict as classify

    images = [images] if isinstance(images, str | Path) else images
    return classify(Path(model), [Path(image) for image in images], top=top, value_range=range, **reading)


@system_errors()
def inspect(model: Path) -> "Inspection":
    """What is in a .tflite file, whoever made it, or in that of a folder as under models/; no runtime opens it.

    Raises ModelFileError if it is none.
    """
    from kd2mobile.api.inspect import with_records
    from kd2mobile.inspection.inspect import inspect_file

    return with_records(inspect_file(Path(model)))


@system_errors()
def show(
    image: str | Path,
    *,
    run: Path | None = None,
    temperatures: list[float] | None = None,
    top: int = 5,
    view: int | None = None,
    png: Path | None = None,
    store: Path | None = None,
) -> "DarkKnowledge":
    """The dark knowledge of one picture: the teacher's top classes, softened, beside the student's; drawn as a PNG.

    image: a picture file, or the id of a sample of the run, `class/name.png`. run: its folder, by default the newest.
    temperatures: 1 and the run's by default; 1 is always among them. top: classes of the teacher; the student's
    likeliest and the true one come after them if they are others. view: which stored view of a training picture,
    from 0, instead of the whole. png: the file drawn, by default `<run>/show-<picture>.png`. store: another one than
    the run's own. Raises Kd2MobileError.
    """
    from kd2mobile.api.show import dark_knowledge

    opened = open_run(run, store)
    return dark_knowledge(opened, image, temperatures=temperatures, top=top, view=view, png=png)


@system_errors()
def report(
    run: Path | Sequence[Path] | None = None,
    *,
    store: Path | None = None,
    out: Path | None = None,
    records: Sequence[Path] | None = None,
    within: float | None = None,
    min_top1: float | None = None,
) -> Reported | Compared | RecordsReported:
    """Writes the page of a run, after measuring it if that was not done with the files that it now has.

    run: its folder, by default the newest. With several runs each gets its page, and another shows them beside each
    other: out, by default comparison.html in the first run's folder. Returns Reported, or Compared for several.
    records, within, min_top1: as `side_by_side.report_records` takes them, without a run.
    """
    if records:
        return report_records(records, within=within, min_top1=min_top1, out=out)
    several = [] if run is None or isinstance(run, str | Path) else [Path(folder) for folder in run]
    if len(several) < 2:
        if out is not None:
            must = "must be given with several runs: it is where their comparison goes"
            raise RecipeError("--out", must, "one run", "Give --run twice or more, or leave --out away.")
        opened, plan = open_or_start(several[0] if several else run, store, {})
        return _report(opened, plan)
    return _compare(several, store, Path(out) if out else several[0] / "comparison.html")


def _report(opened: Run, plan: Stages) -> Reported:
    from kd2mobile.pages.collect import collect
    from kd2mobile.pages.page import write_report

    page = opened.folder / PAGE
    check_output(page, "report", is_page)
    done = _export(opened, plan, exported_variants(opened), as_before=True)
    known = validations(opened, plan, done.records.values())
    measured = read_measurement(opened, plan, done.files, known) or measure(opened, plan, done.files, known)
    everywhere = read_measurements(opened, done.files, known)
    data = collect(opened, plan.root, measured.records, measured.comparisons, everywhere, measured.answers)
    write_report(page, data)
    return Reported(page, measured)


def _compare(folders: list[Path], store: Path | None, out: Path) -> Compared:
    from kd2mobile.pages.comparison import collect_comparison, write_comparison

    twice = [
        folder for place, folder in enumerate(folders) if folder.resolve() in [f.resolve() for f in folders[:place]]
    ]
    if twice:
        raise RecipeError("--run", "must name each run once", f"{twice[0]} twice", "Leave one of them away.")
    opened = [open_or_start(folder, store, {}) for folder in folders]
    check_output(out, "--out", is_page)
    check_outside_results(out, "--out")
    for one, _ in opened:
        check_outside_data(one.recipe, {"--out": out})
    reports = [_report(run, plan) for run, plan in opened]
    runs = [
        (run, done.measured.records, done.measured.answers, done.page)
        for (run, _), done in zip(opened, reports, strict=True)
    ]
    write_comparison(out, collect_comparison(runs, out))
    return Compared(out, reports)


def names(kind: str) -> dict[str, str]:
    """The names of a registry, or the recipe's fields, each with a line about it. kind: `teachers`, ..., `fields`."""
    if kind == "fields":
        return {name: f"{field.description} [{in_toml(field.default)}]" for name, field in fields().items()}
    from kd2mobile.data.sources import SOURCES
    from kd2mobile.losses import LOSSES
    from kd2mobile.students import STUDENTS
    from kd2mobile.teachers.zoo import TEACHERS

    return {"data": SOURCES, "losses": LOSSES, "students": STUDENTS, "teachers": TEACHERS}[kind].listing()


def _distill(run: Run, plan: Stages, transfer_set: Path | list[Path] | None = None) -> Distilled:
    for folder in transfer_set if isinstance(transfer_set, list) else [transfer_set] if transfer_set else []:
        run.store.adopt(_transfer_meant(plan, Path(folder)), folder)
    if not run.store.reference(plan.student):
        check_student_weights(run.recipe)
    transfer = run.store.make(plan.transfer)
    students = {role: run.store.make(step) for role, step in plan.students.items()}
    before = {"thumbnails": plan.split.inputs["thumbnails"], "split": plan.split, "views": plan.views}
    before |= {"teacher": plan.teacher, "pixels": plan.pixels}
    if plan.unlabelled:
        steps = {field: getattr(plan.unlabelled, field) for field in ("split", "views", "transfer", "pixels")}
        before |= {f"unlabelled-{field}": step for field, step in steps.items()}
    found = {role: folder for role, step in before.items() if (folder := run.store.reference(step))}
    run.refer(found | {"transfer": transfer.folder} | {role: made.folder for role, made in students.items()})
    files = {role: made.folder / "student.keras" for role, made in students.items()}
    val_top1 = {role: made.results["val_top1"] for role, made in students.items()}
    val_top1 = {"teacher": _val_top1(transfer)} | val_top1
    return Distilled(run.folder, files["student"], files.get("baseline"), val_top1)


def _val_top1(transfer: Artifact) -> float:
    """The teacher's accuracy on the validation images, 0..1."""
    if not (val := transfer.results.get("val")):
        where = f"{transfer.folder / RECORD}: results.val"
        raise ArtifactError(where, "must be there", None, f"Remove {transfer.folder}; it is made again.")
    return val["top1"]


def _transfer_meant(plan: Stages, folder: Path) -> Step:
    """The step that a transfer set made elsewhere is of: that of the unlabelled pictures if it says so."""
    unlabelled = plan.unlabelled.transfer if plan.unlabelled else None
    if (
        unlabelled
        and (folder / RECORD).is_file()
        and read_artifact(folder, copied=True).fingerprint == unlabelled.fingerprint
    ):
        return unlabelled
    return plan.transfer


def _find_smallest(run: Run, plan: Stages) -> Exported:
    made: list[Exported] = []

    _distill(run, plan)
    with converting_process() as process:

        def make(variants: list[Variant]) -> Exported:
            made.append(export_run(run, plan, variants, process))
            return made[-1]

        rungs, found = walk(make, run.recipe.export.max_drop)
    files = {key: file for one in made for key, file in one.files.items()}
    records = {key: record for one in made for key, record in one.records.items()}
    return Exported(run.folder / EXPORT, files, records, rungs, files["student", found.variant.name])


def _export(run: Run, plan: Stages, variants: list[Variant], as_before: bool = False) -> Exported:
    _distill(run, plan)
    with converting_process() as process:
        return export_run(run, plan, variants, process, as_before)
