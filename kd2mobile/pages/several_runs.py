"""Several runs beside each other on one page: what they measured, where their recipes differ, who is better on the
same test images."""

import os
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from kd2mobile.data.split import Split, read_split
from kd2mobile.errors import MissingExtraError
from kd2mobile.measure.roles import STUDENT
from kd2mobile.metrics import mcnemar, top1
from kd2mobile.pages import columns, words
from kd2mobile.pages.collect import title_of
from kd2mobile.pages.templates import fill, write_page
from kd2mobile.pages.view import ComparedRun, ComparisonData, Paired
from kd2mobile.recipe.toml import shown_tables
from kd2mobile.recipe.variants import in_order
from kd2mobile.store.run import Run

if TYPE_CHECKING:
    from kd2mobile.measure.record import BenchmarkRecord

Answers = dict[str, np.ndarray]
Tested = list[tuple[str, str]]
"""The test images of a run in the order of its answers: SHA-256 and class name of each."""


def collect_comparison(runs: "list[tuple[Run, list[BenchmarkRecord], Answers, Path]]", out: Path) -> ComparisonData:
    """Everything on the page of several runs. runs: each with its records, its answers as `collect` takes them, and its
    own page; out: this page's place.

    The students of two runs are compared file by file of the same precision if both were evaluated on the same
    images: equal by SHA-256 and class, in whatever order or place they lie. Where they were not, a sentence says in
    what.
    """
    keys = [words.letters(index) for index in range(len(runs))]
    tested = {key: _tested(run) for key, (run, *_) in zip(keys, runs, strict=True)}
    right = {key: _right(run, tested[key], answers) for key, (run, _, answers, _) in zip(keys, runs, strict=True)}
    paired, incomparable = [], []
    for a, b in combinations(keys, 2):
        fault = difference_of_images(tested[a], tested[b])
        if fault:
            incomparable.append(f"{a} and {b}: {fault}")
            continue
        for variant in in_order(right[a].keys() & right[b].keys()):
            paired.append(_paired(a, b, variant, right[a][variant], right[b][variant]))
    recipes = [shown_tables(run.recipe) for run, *_ in runs]
    return ComparisonData(
        runs=[
            ComparedRun(
                key=key,
                run=run.folder.name,
                title=title_of(run),
                page=_link(page, out),
                recipe=recipe,
                records=records,
            )
            for key, (run, records, _, page), recipe in zip(keys, runs, recipes, strict=True)
        ],
        differing=differing_fields(recipes),
        paired=paired,
        incomparable=incomparable,
    )


def write_comparison(out: Path, view: ComparisonData) -> None:
    """The page at `out`, a file in UTF-8. Raises ArtifactError, MissingExtraError as `write_report` does."""
    write_page(out, render_comparison(view))


def render_comparison(view: ComparisonData) -> str:
    """The page as text. Everything in `view` is data: escaped on its way in, in HTML and in the plots."""
    try:
        from markupsafe import Markup

        from kd2mobile.pages.plots import accuracy
    except ModuleNotFoundError as fault:
        raise MissingExtraError("report", fault.name or "jinja2", "train") from fault

    records = {run.key: words.tables(run.records) for run in view.runs}
    shown = columns.shown([record for own in records.values() for record in own], columns.COLUMNS)
    keyed_rows = [(key, row) for key, own in records.items() for row in columns.rows(own, shown)]
    return fill(
        "comparison.html.j2",
        view=view,
        headlines=[words.headline(own, []) for own in records.values()],
        columns=shown,
        keyed_rows=keyed_rows,
        order={key: index for index, key in enumerate(records)},
        measured=columns.measured([row for _, row in keyed_rows]),
        numbers=columns.numbered([row for _, row in keyed_rows]),
        accuracy=[Markup(plot) for plot in accuracy.comparison_plots(records)],
        recommended={key: reason for key, own in records.items() if (reason := words.why_recommended(own))},
        downloads=columns.DOWNLOAD in shown,
    )


def differing_fields(recipes: list[dict[str, dict[str, Any]]]) -> list[tuple[str, list[Any]]]:
    """The fields that are not the same in all recipes, by dotted name, with the value of each; None where it is not.

    >>> differing_fields([{"views": {"count": 4, "flip": True}}, {"views": {"count": 8, "flip": True}}])
    [('views.count', [4, 8])]
    """
    flat = [{f"{t}.{f}": value for t, fields in r.items() for f, value in fields.items()} for r in recipes]
    names = dict.fromkeys(name for fields in flat for name in fields)
    values = {name: [fields.get(name) for fields in flat] for name in names}
    return [(name, found) for name, found in values.items() if any(value != found[0] for value in found)]


def difference_of_images(one: Tested, other: Tested) -> str | None:
    """In what two lists of test images differ, as a sentence; None if they hold the same, in any order."""
    mine, theirs = Counter(one), Counter(other)
    if mine == theirs:
        return None
    both = (mine & theirs).total()
    if both == 0 and {sha256 for sha256, _ in one} & {sha256 for sha256, _ in other}:
        return "the same test images have different class names, so their top-1 cannot be compared."
    return (
        f"they were evaluated on different test images: {words.count(both)} are in both, "
        f"{words.count(len(one) - both)} in "
        f"the first alone, {words.count(len(other) - both)} in the second alone. The higher top-1 may have had the "
        "easier images."
    )


def _tested(run: Run) -> Tested:
    split = _split(run)
    return [(sample.sha256, split.classes[sample.label]) for sample in split.samples_of("test")]


def _right(run: Run, tested: Tested, answers: Answers) -> dict[str, np.ndarray]:
    """Whether each file of the student is right, by variant; bool [n] in the order of the sorted test images."""
    labels = _split(run).labels_of("test")
    order = sorted(range(len(tested)), key=tested.__getitem__)
    files = {variant: answers[name] for name in answers if (variant := STUDENT.variant_of(name))}
    return {variant: (top1(probabilities) == labels)[order] for variant, probabilities in files.items()}


def _split(run: Run) -> Split:
    return read_split(run.artifact("split").folder)


def _paired(a: str, b: str, variant: str, right_a: np.ndarray, right_b: np.ndarray) -> Paired:
    return Paired(
        label=f"{a} and {b}, {variant}",
        a=a,
        b=b,
        precision=variant,
        **mcnemar(right_a, right_b)._asdict(),
    )


def _link(page: Path, out: Path) -> str | None:
    """A relative link from the comparison to a run's page; None if there is none, from one drive to another."""
    try:
        return quote(Path(os.path.relpath(page, out.parent)).as_posix())
    except ValueError:
        return None
