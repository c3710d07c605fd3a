"""`report`: the page of a run, of several beside each other, or of any records."""

from collections.abc import Sequence
from pathlib import Path

from kd2mobile.api.export import exported_variants, make_files
from kd2mobile.api.measurement import measure, read_measurement, read_measurements, validations
from kd2mobile.api.results import Benchmarked, Compared, RecordsReported, Reported
from kd2mobile.api.start import open_or_start
from kd2mobile.errors import RecipeError, RecordError
from kd2mobile.files import system_errors
from kd2mobile.measure.roles import TEACHER
from kd2mobile.stages.plan import Plan
from kd2mobile.store.output_files import check_output, is_page
from kd2mobile.store.run import PAGE, Run, check_outside_data, check_outside_results

DEVICES_PAGE = Path("devices.html")


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
    records, within, min_top1: as `report_records` takes them, without a run.
    """
    if records:
        return report_records(records, within=within, min_top1=min_top1, out=out)
    several = [] if run is None or isinstance(run, str | Path) else [Path(folder) for folder in run]
    if len(several) < 2:
        if out is not None:
            must = "must be given with several runs, as the file of their comparison"
            raise RecipeError("--out", must, "one run", "Give --run twice or more, or leave out --out.")
        opened, plan = open_or_start(several[0] if several else run, store, {})
        return _report(opened, plan)[0]
    return _compare(several, store, Path(out) if out else several[0] / "comparison.html")


def _report(opened: Run, plan: Plan) -> tuple[Reported, Benchmarked]:
    """The page of one run, and what it shows, the answers to the test images among it."""
    from kd2mobile.pages.collect import collect
    from kd2mobile.pages.page import write_report

    page = opened.folder / PAGE
    check_output(page, "report", is_page)
    done = make_files(opened, plan, exported_variants(opened), as_before=True)
    known = validations(opened, plan, done.records.values())
    measured = read_measurement(opened, plan, done.files, known) or measure(opened, plan, done.files, known)
    everywhere = read_measurements(opened, done.files, known)
    data = collect(opened, plan.root, measured.records, measured.comparisons, everywhere, measured.answers)
    write_report(page, data)
    return Reported(page, measured.records, measured.comparisons), measured


def _compare(folders: list[Path], store: Path | None, out: Path) -> Compared:
    from kd2mobile.pages.several_runs import collect_comparison, write_comparison

    twice = [
        folder for index, folder in enumerate(folders) if folder.resolve() in [f.resolve() for f in folders[:index]]
    ]
    if twice:
        raise RecipeError("--run", "must give each run once", f"{twice[0]} twice", "Leave one of them out.")
    opened = [open_or_start(folder, store, {}) for folder in folders]
    check_output(out, "--out", is_page)
    check_outside_results(out, "--out")
    for one, _ in opened:
        check_outside_data(one.recipe, {"--out": out})
    reports = [_report(run, plan) for run, plan in opened]
    runs = [
        (run, measured.records, measured.answers, done.page)
        for (run, _), (done, measured) in zip(opened, reports, strict=True)
    ]
    write_comparison(out, collect_comparison(runs, out))
    return Compared(out, [done for done, _ in reports])


def report_records(
    files: Sequence[Path], *, within: float | None = None, min_top1: float | None = None, out: Path | None = None
) -> RecordsReported:
    """Lays the records of the files side by side: the models on each device, and which of them to take there.

    files: what `benchmark --json` wrote, a benchmark.json, files of a run's measurements/, a record.json of models/.
    within: the points of top-1 that a choice may lose to the most accurate file on its device, 0.5 if nothing else is
    asked; min_top1: the percentage that it must reach. out: the page, devices.html here by default. Raises RecordError,
    RecipeError.
    """
    from kd2mobile.measure.record import read_records
    from kd2mobile.pages.devices import collect_devices, write_devices

    out = Path(out or DEVICES_PAGE)
    if within is not None and not 0 <= within <= 100:
        raise RecipeError("--within", "must be points of top-1 from 0 to 100", within, "For example `--within 1`.")
    if min_top1 is not None and not 1 < min_top1 <= 100:
        next_step = "For example `--min-top1 90`."
        raise RecipeError("--min-top1", "must be a percentage above 1, at most 100", min_top1, next_step)
    check_output(out, "--out", is_page)
    check_outside_results(out, "--out")
    records = [record for file in files for record in read_records(Path(file))]
    if all(record.role == TEACHER.name for record in records):
        raise RecordError(
            files[0], "must hold records of files", "only records of a teacher", "Run `kd2mobile benchmark`."
        )
    fractions = [None if percent is None else percent / 100 for percent in (within, min_top1)]
    data = collect_devices(records, *fractions)
    write_devices(out, data)
    return RecordsReported(out, data)
