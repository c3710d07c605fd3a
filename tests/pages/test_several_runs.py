"""Several runs on one page: made-up runs in folders, without a network that was ever trained."""

import re

import msgspec
import numpy as np
import pytest

from kd2mobile.data.split import Sample, Split
from kd2mobile.errors import ArtifactError
from kd2mobile.pages.plots.accuracy import comparison_plots
from kd2mobile.pages.recommending import with_recommendation
from kd2mobile.pages.several_runs import collect_comparison, render_comparison, write_comparison
from kd2mobile.pages.words import tables
from kd2mobile.recipe.compose import compose
from kd2mobile.store.artifact import Step
from kd2mobile.store.run import start_run

HOSTILE = '<img src=x onerror=alert(1)> "quote" $x$ </title></style></svg>'
LABELS = [0, 0, 1, 1, 0, 1]
FILES = ("fp32", "int8")


@pytest.fixture
def make_run(tmp_path, make_record):
    """A function that writes a run's folder. right: which of the test images each file of the student gets right."""

    def make(name, right, *, classes=("cat", "dog"), order=range(6), hashes="abcdef", settings=None):
        recipe = compose(settings={"student.name": "mobilenet025"} | (settings or {}))
        run = start_run(recipe, tmp_path / name, tmp_path / "store")
        samples = [Sample(f"{place}-{i}.jpg", LABELS[i], "test", hashes[i], 8, 8) for place, i in enumerate(order)] + [
            Sample("t.jpg", 0, "train", "t", 8, 8)
        ]
        split = Split(classes=list(classes), samples=samples)

        def write(folder, inputs):
            (folder / "split.json").write_bytes(msgspec.json.encode(split))
            (folder / "groups.json").write_text("{}")
            return {}

        run.refer({"split": run.store.make(Step("split", 1, {"name": name}, {}, write)).folder})
        labels = np.array([LABELS[i] for i in order])
        said = {p: np.where([right[p][i] for i in order], labels, 1 - labels) for p in right}
        answers = {f"student-{p}": np.eye(2)[named] * 0.9 + 0.05 for p, named in said.items()}
        records = [make_record(precision=p, top1=float(np.mean(right[p])), n=6) for p in right]
        return run, records, answers, run.folder / "report.html"

    return make


def test_students_are_paired_image_by_image_in_whatever_order_they_lie(make_run, tmp_path):
    one = make_run("one", {"fp32": [1, 1, 1, 1, 0, 1], "int8": [1, 1, 1, 0, 0, 0]})
    other = make_run("other", {"fp32": [1, 0, 1, 1, 1, 0], "int8": [1, 1, 1, 0, 0, 0]}, order=[5, 3, 1, 0, 2, 4])
    found = collect_comparison([one, other], tmp_path / "both.html")
    assert found.incomparable == []
    assert [(p.a, p.b, p.precision, p.only_a, p.only_b, p.n) for p in found.paired] == [
        ("A", "B", "fp32", 2, 1, 6),
        ("A", "B", "int8", 0, 0, 6),
    ]
    assert found.paired[0].difference == pytest.approx(1 / 6) and found.paired[0].p_value == 1.0
    assert [run.page for run in found.runs] == ["one/report.html", "other/report.html"]


def test_only_files_of_one_precision_are_paired(make_run, tmp_path):
    runs = [make_run("one", {"fp32": [1] * 6}), make_run("other", {"int8": [1] * 6})]
    found = collect_comparison(runs, tmp_path / "both.html")
    assert found.paired == [] and found.incomparable == []


def test_other_test_images_are_not_comparable_and_said_so(make_run, tmp_path):
    right = {"int8": [1, 1, 1, 1, 0, 1]}
    runs = [make_run("one", right), make_run("two", right, hashes="abcdxy"), make_run("three", right)]
    found = collect_comparison(runs, tmp_path / "all.html")
    assert [(p.a, p.b) for p in found.paired] == [("A", "C")]
    assert [sentence[:9] for sentence in found.incomparable] == ["A and B: ", "B and C: "]
    assert "4 are in both, 2 in the first alone, 2 in the second alone" in found.incomparable[0]
    assert render_comparison(found).count("<strong>Not comparable.</strong>") == 2


def test_other_class_names_are_not_comparable(make_run, tmp_path):
    right = {"int8": [1] * 6}
    runs = [make_run("one", right), make_run("two", right, classes=("kitten", "puppy"))]
    (sentence,) = collect_comparison(runs, tmp_path / "all.html").incomparable
    assert "the same test images have different class names" in sentence


def test_where_the_recipes_differ(make_run, tmp_path):
    right = {"int8": [1] * 6}
    runs = [make_run("one", right), make_run("two", right, settings={"distill.temperature": 2.0})]
    found = collect_comparison(runs, tmp_path / "all.html")
    assert found.differing == [("distill.temperature", [runs[0][0].recipe.distill.temperature, 2.0])]
    same = collect_comparison([runs[0], make_run("three", right)], tmp_path / "all.html")
    assert same.differing == [] and "The runs have the same recipe" in render_comparison(same)


def test_runs_measured_in_different_places_have_their_numbers_below_the_table(make_run, make_record, tmp_path):
    right = {"int8": [1] * 6}
    found = collect_comparison([make_run("one", right), make_run("two", right)], tmp_path / "all.html")
    alike = render_comparison(found)
    assert "Measured on 6 test images; host: made up" in alike and "<sup>" not in alike
    elsewhere = [make_record("teacher", "big", p50=None), make_record(n=6), make_record(device="a board", n=9)]
    runs = [found.runs[0], msgspec.structs.replace(found.runs[1], records=elsewhere)]
    html = render_comparison(msgspec.structs.replace(found, runs=runs))
    notes = dict(re.findall('<li id="measured-([0-9])">(.*?)</li>', html))
    assert {number: note.partition(",")[0] for number, note in notes.items()} == {"1": "host: made up", "2": "a board"}
    assert re.findall('<sup><a href="#measured-([0-9]+)"', html) == ["1", "1", "1", "2"]
    assert re.findall('<td class="num">([0-9,]+) #', html) == ["6", "1,692", "6", "9"] and "last column" not in html


def test_everything_from_outside_is_escaped(make_run, make_record, tmp_path):
    one = make_run("javascript:x", {"int8": [1] * 6}, classes=(HOSTILE, "b"))
    other = make_run("two", {"int8": [1] * 6}, hashes="abcdxy", settings={"teacher.name": "a.keras"})
    found = collect_comparison([one, other], tmp_path / "all.html")
    assert found.runs[0].page == "javascript%3Ax/report.html"
    records = [make_record(model=HOSTILE, device=HOSTILE), make_record("teacher", HOSTILE, p50=None, size_bytes=None)]
    runs = [msgspec.structs.replace(run, run=HOSTILE, records=records) for run in found.runs]
    data = msgspec.structs.replace(found, runs=runs, differing=[(HOSTILE, [HOSTILE, None])], incomparable=[HOSTILE])
    html = render_comparison(data)
    assert "<img" not in html and html.count("&lt;img src=x") >= 15
    assert re.findall("<title>.*?</title>", html) == ["<title>2 runs compared · kd2mobile report</title>"]


def test_the_plot_names_what_each_run_recommends(make_record):
    runs = {
        "A": [
            make_record(p50=0.4),
            make_record(precision="fp32", size_bytes=999_999, sha256="cd" * 32),
            make_record("baseline"),
        ],
        "B": [make_record(top1=0.9, p50=2.0), make_record("teacher", "big", top1=0.95, p50=None)],
    }
    runs = {key: tables(with_recommendation(records)) for key, records in runs.items()}
    latency, _ = comparison_plots(runs)
    assert set(re.findall(r">([AB] [\w ]+)</text>", latency)) == {"A int8", "B int8"}
    assert "A, baseline mobilenet025 int8: 83.0 % at 0.23" in latency and "B, student mobilenet025 int8" in latency
    assert "var(--run-1)" in latency and "var(--run-2)" in latency


def test_many_runs_share_six_looks(make_record):
    runs = {f"run {i}": tables([make_record(top1=0.5 + i / 50, p50=0.2 + i / 9)]) for i in range(8)}
    latency, _ = comparison_plots(runs)
    assert "var(--run-6)" in latency and "var(--run-7)" not in latency and "#a1b2" not in latency


def test_a_place_that_cannot_be_written(make_run, tmp_path):
    found = collect_comparison([make_run("one", {"int8": [1] * 6})], tmp_path / "all.html")
    with pytest.raises(ArtifactError, match=r"/all\.html: must be there, got no such file"):
        write_comparison(tmp_path / "missing" / "all.html", found)
