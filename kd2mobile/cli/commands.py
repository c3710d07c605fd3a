"""The command line: each command is one call to the Python API. Loads no framework to start."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

import kd2mobile
from kd2mobile import progress
from kd2mobile.api.results import Compared
from kd2mobile.cli import output as terminal
from kd2mobile.cli.exit_status import heed_signals, status_of
from kd2mobile.cli.help import FILES, INPUT, OUTPUT, TEACHER, option
from kd2mobile.cli.options import (
    PATH,
    CarefulCommand,
    ChannelValues,
    Numbers,
    OutputFile,
    device_options,
    flag_option,
    json_option,
    recipe_options,
    records_options,
    requested_device,
    run_options,
    set_option,
    settings,
    store_options,
    table_options,
    typed,
)
from kd2mobile.errors import InstallationError, RecipeError
from kd2mobile.store.output_files import is_drawing, is_page
from kd2mobile.store.run import STORE, check_outside_data
from kd2mobile.text import one_line


def run() -> None:
    """The entry point: prints an expected error on one line and exits with 2; a bug keeps its traceback."""
    heed_signals()
    sys.exit(main_status(sys.argv[1:]))


def main_status(arguments: list[str]) -> int:
    """Runs the command line with these arguments and returns its exit status."""
    return status_of(main, arguments)


class InOrder(click.Group):
    """Lists its commands in the order of definition."""

    command_class = CarefulCommand

    def list_commands(self, ctx):
        return list(self.commands)


@click.group(cls=InOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(kd2mobile.__version__)
def main() -> None:
    """Distil big image classifiers into tiny ones and prove them on the phone.

    \b
    kd2mobile check --data photos/          check the images and labels
    kd2mobile distill --data photos/        images -> teacher -> transfer set -> student
    kd2mobile export --tflite               student -> .tflite, quantized and checked
    kd2mobile benchmark                     accuracy, size and latency of the files
    kd2mobile report                        one HTML page

    Each command runs the earlier stages that are missing and skips those that are up to date. Without --data, the
    embedded handwritten digits are used.
    """


@main.command(example="kd2mobile distill --data photos/ --teacher xception --student mobilenet025 --baseline")
@recipe_options("data", "views", "teacher", "ensemble", "label", "student", "distill")
@option("--run", group=OUTPUT, type=PATH, metavar="DIR", help="The folder of the new run. [runs/<time>-<student>]")
@option(
    "--transfer-set",
    group=TEACHER,
    type=PATH,
    multiple=True,
    metavar="DIR",
    help="A transfer set from another machine, used instead of the teacher. May be repeated: with --unlabelled, give "
    "both sets.",
)
@json_option("kd2mobile.api.results:Distilled")
def distill(recipe, assignments, run, store, quiet, transfer_set, json_file, **flags) -> None:
    """Train a student with a teacher on labelled images.

    Defaults are in brackets. They are for images of your own: without --data, the embedded digits are used with the
    demo's recipe, which has small inputs and trains everything from scratch.
    """
    progress.configure(quiet)
    given = settings(flags, assignments)
    _check_outside_data(json_file, recipe, given)
    done = kd2mobile.distill(recipe, run=run, store=store, transfer_set=list(transfer_set), settings=given)
    if terminal.written(done, json_file):
        return
    print(terminal.top1_line(done.val_top1, done.members))
    _done(done.folder, "kd2mobile export --tflite", run, json_file)


@main.command(example="kd2mobile check --data photos/ --sheet sheet.png")
@recipe_options("data")
@flag_option("input_px")
@option(
    "--sheet",
    group=OUTPUT,
    type=OutputFile(is_drawing),
    metavar="FILE.png",
    help="Write a contact sheet: one row of images per class.",
)
@json_option("kd2mobile.data.check:Checked")
def check(recipe, assignments, store, quiet, sheet, json_file, **flags) -> None:
    """Check the images and labels before anything is trained.

    Lists classes and counts per split, unreadable files, copies and near duplicates within and across splits and
    classes and among unlabelled images, image sizes and class imbalance. Exits with 0 if the images can be used,
    otherwise with 2.
    """
    progress.configure(quiet)
    if sheet and sheet.suffix.lower() != ".png":
        raise RecipeError("--sheet", "must be a .png file", sheet, "For example `--sheet sheet.png`.")
    given = settings(flags, assignments)
    _check_outside_data(json_file, recipe, given)
    checked = kd2mobile.check(recipe, store=store, sheet=sheet, settings=given)
    if terminal.written(checked, json_file):
        return
    from kd2mobile.pages.terminal.check import check_text

    print(check_text(checked))
    terminal.show_written(json_file, sheet)


@main.command(example="kd2mobile label --data photos/ --teacher xception --views 8")
@recipe_options("data", "views", "teacher", "ensemble", "label")
@json_option("kd2mobile.api.results:Labelled")
def label(recipe, assignments, store, quiet, json_file, **flags) -> None:
    """Compute the teacher's logits: make the transfer set without training a student.

    `kd2mobile distill` with the same flags uses it. On another machine, copy the folder there and give it with
    --transfer-set.
    """
    progress.configure(quiet)
    given = settings(flags, assignments)
    _check_outside_data(json_file, recipe, given)
    done = kd2mobile.label(recipe, store=store, settings=given)
    if terminal.written(done, json_file):
        return
    print(terminal.top1_line({"teacher": done.val_top1}, done.members))
    if done.unlabelled:
        print(f"Unlabelled images: {done.unlabelled}")
    typed_again = [("recipe", recipe), *flags.items(), *(("set", text) for text in assignments), ("store", store)]
    each = [(flag, one) for flag, value in typed_again for one in (value if isinstance(value, tuple) else (value,))]
    again = [word for flag, value in each if value is not None for word in typed(flag, value)]
    _done(done.folder, shlex.join(["kd2mobile", "distill", *again]), None, json_file)


@main.command(example="kd2mobile export --tflite --precision fp32,int8 --out app/src/main/assets")
@option("--tflite", group=FILES, is_flag=True, default=True, help="Write .tflite files, the only format.")
@table_options("export")
@option(
    "--out",
    group=OUTPUT,
    type=PATH,
    metavar="DIR",
    help="Also copy the student's files to this folder; with precision auto, only the chosen file.",
)
@option("--force", group=OUTPUT, is_flag=True, help="With --out: replace existing files of the same names.")
@set_option
@run_options
@json_option("kd2mobile.api.results:Exported")
def export(tflite, run, store, quiet, out, force, assignments, json_file, **flags) -> None:
    """Convert the students of a run to .tflite files and check each.

    Each file runs on validation images beside its student, and is refused if their results differ.
    """
    progress.configure(quiet)
    done = kd2mobile.export(run, out=out, force=force, store=store, settings=settings(flags, assignments))
    if terminal.written(done, json_file):
        return
    for line in done.worst_layers():
        print(one_line(line))
    for rung in done.rungs:
        print(one_line(rung.text()))
    for copy in done.copies:
        print(f"Copied: {copy}.")
    _done(done.found or done.folder, "kd2mobile benchmark", run, json_file)


@main.command(example="kd2mobile show photo.jpg --temperatures 1,2,4,8")
@click.argument("image", type=PATH, metavar="IMAGE")
@option(
    "--top",
    group=OUTPUT,
    type=int,
    metavar="N",
    default=5,
    help="Number of the teacher's classes to show. [5]",
)
@option(
    "--temperatures", group=OUTPUT, type=Numbers(), help="Temperatures, such as 1,2,4,8. [1 and the run's temperature]"
)
@option(
    "--view",
    group=INPUT,
    type=int,
    metavar="N",
    help="Show stored view N of a training image, counted from 0. [the whole image]",
)
@option(
    "--png",
    group=OUTPUT,
    type=OutputFile(is_drawing),
    metavar="FILE.png",
    help="The drawing to write. [RUN/show-IMAGE.png]",
)
@json_option("kd2mobile.pages.plots.bars:DarkKnowledge")
@run_options
def show(image, top, temperatures, view, png, json_file, run, store, quiet) -> None:
    """Show the dark knowledge about one image, teacher beside student.

    Prints the top classes of both with their probabilities at several temperatures, and draws them as a PNG file.

    IMAGE is any image file, or the id of a sample of the run: its path in the data, such as class/name.png.
    """
    progress.configure(quiet)
    shown = kd2mobile.show(image, run=run, temperatures=temperatures, top=top, view=view, png=png, store=store)
    if not terminal.written(shown, json_file):
        print(f"{shown.text()}\n")
        terminal.show_written(shown.png, json_file)


@main.command(example="kd2mobile benchmark --device ssh:pi@raspberrypi.local --threads 1,4")
@table_options("benchmark")
@device_options
@option(
    "--model",
    group=INPUT,
    type=PATH,
    metavar="FILE.tflite",
    help="Measure this file on --data, or a published model, models/NAME. [the files of the run]",
)
@option(
    "--data",
    group=INPUT,
    type=PATH,
    metavar="DIR",
    help="With --model: a folder of class folders, all of which is the evaluation set.",
)
@option(
    "--labels",
    group=INPUT,
    type=PATH,
    metavar="FILE",
    help="With --model: a text file of its class names, one per line, with or without numbers. [the file's labels]",
)
@option(
    "--mean",
    group=INPUT,
    type=ChannelValues(),
    help="With --model: its input is (pixel - mean) / std. [the file's metadata]",
)
@option("--std", group=INPUT, type=ChannelValues(), help="With --model: the std of --mean. [the file's metadata]")
@option(
    "--resize",
    group=INPUT,
    type=click.Choice(["crop", "stretch", "pad"]),
    help="With --model: how an image becomes a square. [the file's metadata, or crop]",
)
@option(
    "--range",
    "value_range",
    group=INPUT,
    type=Numbers(),
    help="With --model: pixel values of black and white in greyscale images of more than 8 bits. [0,65535]",
)
@json_option("kd2mobile.measure.record:BenchmarkRecord[]")
@set_option
@run_options
def benchmark(
    model,
    data,
    labels,
    mean,
    std,
    resize,
    value_range,
    json_file,
    run,
    store,
    quiet,
    assignments,
    **flags,
) -> None:
    """Measure accuracy, size and latency of .tflite files.

    Measures the files of a run on its test images: top-1, top-5, logloss, calibration, latency and memory, on this
    host or on another device. With --model, measures any .tflite image classifier on a folder of images.
    """
    progress.configure(quiet)
    flags["device"] = requested_device(flags)
    reading = {"labels": labels, "mean": mean, "std": std, "resize": resize, "range": value_range}
    done = kd2mobile.benchmark(
        run, model=model, data=data, **reading, store=store, settings=settings(flags, assignments)
    )
    if terminal.written(done.records, json_file):
        return
    terminal.show_measured(done)
    if done.folder:
        _done(done.written, "kd2mobile report", run, json_file)
    elif json_file:
        _done(json_file, f"kd2mobile predict {shlex.quote(str(model))} IMAGE", None)


@main.command(example="kd2mobile report --run runs/a --run runs/b --out comparison.html")
@records_options
@json_option(
    "kd2mobile.api.results:Reported", "kd2mobile.api.results:Compared", "kd2mobile.api.results:RecordsReported"
)
@option(
    "--out",
    group=OUTPUT,
    type=OutputFile(is_page),
    metavar="FILE.html",
    help="With several runs or --records: the page to write. [comparison.html in the first run, or devices.html]",
)
@store_options
@option(
    "--run",
    "runs",
    group=INPUT,
    type=PATH,
    metavar="DIR",
    multiple=True,
    help="The folder of the run; repeat to compare several runs. [the newest run]",
)
def report(runs, store, quiet, out, json_file, records, files, **accuracy) -> None:
    """Write the HTML page of a run and print its table.

    With several --run, writes one page per run and one that compares them. With --records FILE..., writes one page of
    these benchmark records of any models and devices, with the smallest and the fastest model per device.
    """
    progress.configure(quiet)
    if records:
        if runs:
            raise click.UsageError("--run must be given without --records.")
        done = kd2mobile.report(records=[*records, *files], out=out, **accuracy)
        if not terminal.written(done, json_file):
            terminal.show_devices(done, json_file)
        return
    if files or any(value is not None for value in accuracy.values()):
        raise click.UsageError("FILE, --within and --min-top1 must be given with --records.")
    done = kd2mobile.report(runs or None, store=store, out=out)
    if terminal.written(done, json_file):
        return
    for one in done.runs if isinstance(done, Compared) else [done]:
        terminal.show_measured(one)
        print(f"Written: {one.page}. Open it in a browser.")
    if isinstance(done, Compared):
        print(f"Written: {done.page}. It compares the {len(done.runs)} runs.")
    if json_file:
        terminal.show_written(json_file)


@main.command(example="kd2mobile predict student.tflite photo.jpg --top 3")
@click.argument("model", type=PATH, metavar="FILE.tflite")
@click.argument("images", type=PATH, nargs=-1, required=True, metavar="IMAGE...")
@option(
    "--top",
    group=OUTPUT,
    type=click.IntRange(1, 100_000),
    metavar="N",
    default=5,
    help="Number of classes per image. [5]",
)
@option(
    "--labels",
    group=INPUT,
    type=PATH,
    metavar="FILE",
    help="A text file of the class names, one per line. [the model file's labels]",
)
@option(
    "--mean",
    group=INPUT,
    type=ChannelValues(),
    help="The network's input is (pixel - mean) / std. [the file's metadata]",
)
@option("--std", group=INPUT, type=ChannelValues(), help="The std of --mean. [the file's metadata]")
@option(
    "--range",
    "value_range",
    group=INPUT,
    type=Numbers(),
    help="Pixel values of black and white in greyscale images of more than 8 bits. [0,65535]",
)
@json_option("kd2mobile.measure.predict:Prediction[]")
def predict(model, images, top, labels, mean, std, value_range, json_file) -> None:
    """Classify images with a .tflite file."""
    answers = kd2mobile.predict(model, images, top=top, labels=labels, mean=mean, std=std, range=value_range)
    if terminal.written(answers, json_file):
        return
    for answer in answers:
        print(one_line(str(answer.image)))
        for name, probability in answer.classes:
            print(f"  {probability:6.1%}  {one_line(name)}")


@main.command(example="kd2mobile inspect student.tflite")
@click.argument("model", type=PATH, metavar="FILE.tflite")
@json_option("kd2mobile.inspection.inspect:Inspection")
def inspect(model, json_file) -> None:
    """Describe any .tflite file without running it.

    Lists its inputs, outputs and quantization, its ops and their types, floats left in an integer file, metadata,
    labels, size raw and compressed, and its record if there is one. The model may also be a published one, models/NAME.
    """
    found = kd2mobile.inspect(model)
    if terminal.written(found, json_file):
        return
    from kd2mobile.pages.terminal.inspect import inspect_text

    print(inspect_text(found))


@main.command(example="kd2mobile doctor")
@json_option("kd2mobile.cli.doctor:Diagnosis")
@store_options
def doctor(store, quiet, json_file) -> None:
    """Check the installation, and print the command that installs what is missing.

    Exits with 0 if distill, export, benchmark and report can run here, or if no framework is installed and measuring
    can run here; otherwise with 2.
    """
    from kd2mobile.cli.doctor import MAIN_CHAIN, MEASURING, TRAINING, diagnose, lines
    from kd2mobile.installation import install_command

    progress.configure(quiet)
    found = diagnose(store or STORE)
    if not terminal.written(found, json_file):
        print("\n".join(map(one_line, lines(found))))
    if not (found.main_chain or found.core_alone):
        bad = [finding for finding in found.findings if finding.status in ("missing", "broken")]
        raise InstallationError(
            "doctor",
            f"must find everything that {MAIN_CHAIN} need",
            ", ".join(f"{finding.name} {finding.status}" for finding in bad),
            f"First: {bad[0].fix}",
        )
    if str(json_file) == "-":
        return
    if found.core_alone:
        print(f"{MEASURING} can run here. {TRAINING} need [train]: `{install_command('train')}`")
    else:
        print(f"{MAIN_CHAIN} can run here.")


@main.command("list", example="kd2mobile list students")
@click.argument("kind", type=click.Choice(["teachers", "students", "losses", "data", "fields"]))
@json_option("kd2mobile.api.results:Names")
def list_names(kind, json_file) -> None:
    """List the names that flags and recipes accept."""
    listed = kd2mobile.names(kind)
    if terminal.written(listed, json_file):
        return
    width = max(map(len, listed.names))
    for name, summary in listed.names.items():
        print(f"{name:<{width}}  {summary}".replace("\n", "\n" + " " * (width + 2)))


def _check_outside_data(json_file: Path | None, recipe: Path | None, given: dict[str, Any]) -> None:
    """Refuses a file of --json that lies among the recipe's images."""
    if json_file and str(json_file) != "-":
        from kd2mobile.api.start import composed

        check_outside_data(composed(recipe, given, {}), {"--json": json_file})


def _done(written: Path, then: str, run: Path | None, json_file: Path | None = None) -> None:
    """Prints what was written, and the next command. run: the run that was named, for that command too."""
    flag = f" --run {shlex.quote(str(run))}" if run else ""
    print(f"Written: {', '.join(str(path) for path in (written, json_file) if path)}. Next: {then}{flag}")
