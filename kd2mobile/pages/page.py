"""One self-contained HTML page about a run. It opens without a network and says nothing that the data does not."""

import re
from pathlib import Path
from typing import Any

from kd2mobile.errors import MissingExtraError
from kd2mobile.measure.roles import ROLES, STUDENT, TEACHER, title_of, trained_roles
from kd2mobile.pages import columns, findings, timings, words
from kd2mobile.pages.devices import collect_devices, count_settings, devices_view
from kd2mobile.pages.templates import fill, write_page
from kd2mobile.pages.view import ClassScore, ReportData, ShownFile
from kd2mobile.progress import bar
from kd2mobile.text import one_line
from kd2mobile.tflite.results import TfliteResults

AGREEMENT = {
    "n": "Images",
    "agreement": "Same top-1",
    "largest_difference": "Largest difference of a probability",
}
"""What the table of files shows of their agreement with the student, with the headings."""
MOST_FILES = 200
MOST_GROUPS = 50
MOST_PATHS = 6
MOST_MOVED = 10
MOST_LAYERS = 15


def write_report(out: Path, view: ReportData) -> None:
    """The page at `out`, a file in UTF-8. The same data makes the same bytes.

    Raises ArtifactError if it cannot be written, MissingExtraError where jinja2 or matplotlib is not installed.
    """
    write_page(out, render(view))


def render(view: ReportData) -> str:
    """The page as text. Everything in `view` is data: escaped on its way in, in HTML and in the plots."""
    try:
        from markupsafe import Markup

        from kd2mobile.pages import shown_images
        from kd2mobile.pages.plots import accuracy, curves
    except ModuleNotFoundError as fault:
        raise MissingExtraError("report", fault.name or "jinja2", "train") from fault

    # tables and texts from the records, then the images, which take the time
    records = words.tables(view.records)
    shown = columns.shown(records, columns.COLUMNS)
    rows = columns.rows(records, shown)
    settings = columns.measured_on(rows)
    seconds = [stage.seconds for stage in view.stages if stage.seconds is not None]
    everywhere = collect_devices([*view.measurements, *(r for r in view.records if r.role == TEACHER.name)])
    pairs = view.confusion.pairs if view.confusion else []
    moved = most_moved(view.class_scores)
    examples = sum(len(one.examples) for one in [*pairs, *view.disagreements])
    with bar("thumbnails", len(view.images) + examples, "images") as advance:

        def shot(example):
            advance(1)
            return example, shown_images.thumbnail(example.image, shown_images.EXAMPLE_PX)

        def card(image):
            advance(1)
            return shown_images.card(image)

        cards = [card(image) for image in view.images]
        confused = [(pair, [shot(example) for example in pair.examples]) for pair in pairs]
        quantized = [(one, [shot(example) for example in one.examples]) for one in view.disagreements]
    # the template prints; it computes nothing
    return fill(
        "report.html.j2",
        view=view,
        headline=Markup.escape(_unbroken(words.headline(records, view.paired))),
        verdicts=[Markup.escape(_unbroken(words.verdict(pair))) for pair in view.paired],
        columns=shown,
        records=records,
        rows=rows,
        keyed_rows=[("", row) for row in rows],
        measured=columns.measured(rows),
        numbers=columns.numbered(rows),
        teacher_settings=_teachers(rows, settings),
        whys=columns.whys(rows, shown),
        devices=devices_view(everywhere) if count_settings(everywhere) > 1 else None,
        accuracy=[Markup(plot) for plot in accuracy.accuracy_plots(records)],
        role_titles={role.name: f"{role.name}, trained {role.title}" for role in trained_roles()},
        title_of=title_of,
        answering=(TEACHER.name, STUDENT.name),
        scored=[title_of(role) for role in view.scored],
        roles=[role for role in ROLES if any(r["role"] == role and r["top1"] is not None for r in records)],
        as_lines=[TEACHER.name] * any(_is_line(r) for r in records),
        curves=[Markup(plot) for plot in curves.curve_plots(view.histories)],
        kept=curves.kept_epochs(view.histories),
        cards=cards,
        confused=confused,
        most_examples=findings.IMAGES_PER_PAIR,
        calibrations=[Markup(curves.calibration_plot(one)) for one in view.calibrations],
        moved=moved,
        most_moved=max((abs(score.right - score.other_right) for score in moved), default=0),
        class_sums=words.class_sums(view.class_scores) if view.class_scores else "",
        quantized=quantized,
        variants=[words.variant_title(file.made.precision, file.made.compression) for file in view.exports],
        counted=any(file.made.weights and file.made.compression != "none" for file in view.exports),
        lost=[words.lost(file.made.against_student) for file in view.exports] if _known(view.exports) else [],
        layer_errors=[_layer_errors(index, file.made) for index, file in enumerate(view.exports) if _by_layer(file)],
        most_files=MOST_FILES,
        most_groups=MOST_GROUPS,
        most_paths=MOST_PATHS,
        agreements=AGREEMENT,
        total_seconds=sum(seconds) if seconds else None,
        recommended=words.why_recommended(records),
        timing_notes=timings.notes(records),
        downloads=columns.DOWNLOAD in shown,
    )


def _is_line(record: dict[str, Any]) -> bool:
    """Whether it is a teacher without a latency, which is drawn as a line."""
    return record["role"] == TEACHER.name and words.latency(record, "p50") is None


def _known(files: list[ShownFile]) -> bool:
    """Whether any file's record says what it loses: those made by earlier versions do not."""
    return any(file.made.against_student for file in files)


def _by_layer(file: ShownFile) -> bool:
    """Whether the file is the student's and its record says what each of its layers loses."""
    return file.made.layer_errors is not None and ROLES[file.role].main


def _layer_errors(index: int, made: TfliteResults) -> dict[str, Any]:
    """What layers.html.j2 shows of one file: its plot, and the rows with the largest errors first."""
    from markupsafe import Markup

    from kd2mobile.pages.plots import curves

    layers, name = made.layer_errors.layers, made.file.removesuffix(".tflite")
    order = sorted(layers, key=lambda layer: -1 if layer.own_error is None else layer.own_error, reverse=True)
    return {
        "name": name,
        "images": made.layer_errors.images,
        "count": len(layers),
        "calibrated": made.compression not in ("qat", "pcqat"),
        "rows": order[:MOST_LAYERS],
        "plot": Markup(curves.layer_plot(index, name, layers)),
    }


def most_moved(scores: list[ClassScore]) -> list[ClassScore]:
    """The classes that gain most images by the teacher, then those that lose most, ten of each at most.

    Of two that move by the same number of images, the smaller class moves further.
    """

    def move(score: ClassScore) -> tuple[int, float]:
        return score.right - score.other_right, (score.right - score.other_right) / score.n

    order = sorted(scores, key=move, reverse=True)
    gains = [score for score in order if move(score)[0] > 0][:MOST_MOVED]
    return gains + [score for score in order if move(score)[0] < 0][-MOST_MOVED:]


def _teachers(rows: list[columns.Row], settings: list[str]) -> list[str]:
    """Where the teacher was measured, if all files were in one other place."""
    teachers = [row.setting for row in rows if row.role == TEACHER.name and row.setting not in ("", *settings)]
    return list(dict.fromkeys(teachers)) if len(settings) == 1 else []


def _unbroken(text: str) -> str:
    """The text with spaces that do not break between a number and its unit, or inside `p = 0.004`."""
    space = r"(?<=\d) (?=%|KB|MB|ms|points)|(?<=\bp) (?=[=<] \d)|(?<=\bp [=<]) (?=\d)"
    return re.sub(space, "\xa0", one_line(text))
