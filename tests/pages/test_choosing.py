"""Accuracies that do not compare, or were evaluated elsewhere: made-up records, choices worked out by hand."""

import json

import pytest

from kd2mobile.api.results import as_json
from kd2mobile.pages.choosing import sentence
from kd2mobile.pages.devices import collect_devices, render_devices
from kd2mobile.pages.terminal.table import devices_table

HOST, BOARD = "host: a laptop, 8 cores", "ssh: a board, 4 cores"
ONE, OTHER = "1111aaaabbbbcccc", "2222aaaabbbbcccc"
NOT_EVALUATED = {"top1": None, "n": 0, "unknown": {"top1": "evaluated with the first setting alone: 1 thread, XNNPACK"}}


@pytest.fixture
def of(make_record):
    """A function that makes a record of the file that a letter stands for."""

    def make(letter, top1, p50, images=ONE, device=HOST, **more):
        fields = {
            "model": f"net-{letter}",
            "sha256": letter * 64,
            "device": device,
            "n": 200,
            "images": images,
            "val": None,
        }
        return make_record(**fields | {"top1": top1, "p50": p50, "xnnpack": True} | more)

    return make


def chosen(data):
    return [(c.key, *(one and one["model"] for one in (c.smallest, c.fastest))) for c in data.choices]


def everywhere(data):
    """What page, terminal and JSON say, each on one line."""
    page = render_devices(data)
    return page, " ".join(devices_table(data, terminal=False).split()), as_json(data)


def test_a_choice_is_among_the_files_evaluated_on_the_same_images(of):
    records = [of("a", 0.90, 2.0), of("b", 0.897, 1.0), of("c", 0.99, 0.1, OTHER, size_bytes=1)]
    data = collect_devices(records)
    assert chosen(data) == [("A", "net-a", "net-b")], "of equal downloads the more accurate"
    (choice,) = data.choices
    assert (choice.images, choice.n, choice.evaluated, choice.within) == (ONE, 200, 2, 2)
    assert choice.left_out == [
        {
            "name": "net-c int8 (1 thread)",
            "sha256": "c" * 64,
            "images": OTHER,
            "n": 200,
            "why": "evaluated on other test images",
        }
    ]
    page, terminal, as_json = everywhere(data)
    for said in (page, terminal):
        assert "2 of 2 files reach 89.5 % top-1 on 200 test images (#1111)" in said
        assert "Left out, evaluated on other test images: net-c int8 (1 thread) (200 #2222)." in said
        assert (
            "Not all were evaluated on the same test images (# begins their name in the records): 200 #1111 (A); "
            in said
        )
        assert "Images" in said
    assert json.loads(as_json)["choices"][0]["left_out"] == choice.left_out
    assert page.count('class="plot"') == 2 and "There is a plot for each set of test images" in page
    ids = [part.partition('"')[0] for part in page.split(' id="')[1:]]
    assert len(ids) == len(set(ids))


def test_each_device_has_the_images_that_most_of_its_files_were_evaluated_on(of):
    there = [of("a", 0.9, 2.0, OTHER, BOARD), of("b", 0.8, 3.0, OTHER, BOARD), of("d", 0.99, 1.0, ONE, BOARD)]
    data = collect_devices([of("a", 0.95, 1.0), of("c", 0.95, 2.0), *there])
    assert [(choice.key, choice.images, choice.evaluated) for choice in data.choices] == [
        ("A", ONE, 2),
        ("B", OTHER, 2),
    ]
    assert chosen(data) == [("A", "net-a", "net-a"), ("B", "net-a", "net-a")]


def test_the_same_images_are_one_choice_without_a_word(of):
    data = collect_devices([of("a", 0.90, 2.0), of("b", 0.897, 1.0), of("a", 0.9, 5.0, device=BOARD)])
    page, terminal, _ = everywhere(data)
    assert data.notes == [] and all(choice.left_out == [] for choice in data.choices)
    assert "Images" not in terminal and page.count('class="plot"') == 1
    assert "Measured on 200 test images." in page


def test_records_of_before_the_images_had_a_name_are_one_set_a_number(of):
    old = {"images": None}
    data = collect_devices([of("a", 0.90, 2.0, **old), of("b", 0.9, 1.0, **old), of("c", 0.99, 0.1, **old, n=300)])
    assert chosen(data) == [("A", "net-a", "net-b")]
    assert data.choices[0].left_out[0]["why"] == "evaluated on other test images"
    for said in everywhere(data)[:2]:
        assert "whether the 200 of A are the same images is unknown. They are taken as the same here." in said
        assert "on 200 test images (#?)" in said
    assert collect_devices([of("a", 0.90, 2.0, **old)]).notes == []
    known = collect_devices([of("a", 0.90, 2.0, **old), of("b", 0.9, 1.0)])
    assert known.choices[0].images == ONE, "of as many files those whose images are known"


def test_of_one_file_what_was_evaluated_on_other_images_stays_beside_the_newest(of):
    def at(hour, top1, images, **more):
        return of("a", top1, float(hour), images, measured_at=f"2026-11-22T0{hour}:00:00Z", **more)

    both = collect_devices([at(1, 0.8, ONE), at(2, 0.9, OTHER)])
    assert [r["evaluated_top1"] for r in both.records["A"]] == [0.8, 0.9] and "older" not in " ".join(both.notes)
    assert [r["evaluated_top1"] for r in collect_devices([at(1, 0.8, None), at(2, 0.9, OTHER)]).records["A"]] == [0.9]
    newest = collect_devices([at(1, 0.8, ONE), at(2, None, None, n=0)])
    ((kept,),) = newest.records.values()
    assert (kept["latency_ms"]["p50"], kept["top1"], kept["evaluated_top1"], kept["evaluated_images"]) == (
        2.0,
        None,
        0.8,
        ONE,
    )


def test_another_setting_is_as_accurate_as_the_one_that_was_evaluated_on_that_device(of):
    def not_evaluated(p50, **more):
        return of("a", p50=p50, **{"images": None} | NOT_EVALUATED | more)

    sweep = [of("a", 0.9, 4.0), not_evaluated(1.0, threads=4), not_evaluated(9.0, xnnpack=False)]
    data = collect_devices([of("a", 0.7, 3.0, device=BOARD), *sweep])
    assert [(r["evaluated_top1"], r["evaluated_on"], r["evaluated_with"]) for r in data.records["B"]] == [
        (0.9, "B", None),
        (0.9, "B", "1 thread, XNNPACK"),
        (0.9, "B", "1 thread, XNNPACK"),
    ]
    assert data.choices[1].fastest["threads"] == 4 and data.choices[1].left_out == []
    note = (
        "B: accuracy was evaluated with 1 thread, XNNPACK; the choice and the plot use it for other "
        "settings too. Kernels other than XNNPACK's may give slightly different results."
    )
    assert data.notes == [note]
    page, terminal, _ = everywhere(data)
    assert note in terminal and "B (Top-1): evaluated with the first setting alone: 1 thread, XNNPACK" in page
    assert "B, net-a int8, 4 threads: 90.0 % at 1.00" in page
    threads = collect_devices([*sweep[:2], of("b", 0.9, 1.0)])
    assert threads.notes[0].endswith("for other settings too."), "with XNNPACK alone nothing answers differently"


def test_a_device_that_evaluated_the_file_takes_no_accuracy_from_elsewhere(of):
    """Though another one evaluated it on more images."""
    here = [
        of("a", 0.825, 2.0, OTHER, BOARD),
        of("a", p50=1.0, device=BOARD, **NOT_EVALUATED | {"images": None, "threads": 2}),
    ]
    data = collect_devices([of("a", 0.852, 1.0, n=359), *here])
    assert [(r["evaluated_on"], r["evaluated_top1"]) for r in data.records["B"]] == [("B", 0.825)] * 2
    assert data.choices[1].fastest["threads"] == 2 and data.choices[1].left_out == []
    assert not any("did not evaluate" in note for note in data.notes)


def test_a_device_that_evaluated_some_says_of_which_the_accuracy_is_from_elsewhere(of):
    there = [of("b", 0.9, 1.0, device=BOARD), of("a", p50=2.0, device=BOARD, **NOT_EVALUATED | {"images": None})]
    data = collect_devices(
        [of("a", 0.8, 1.0), *there, of("c", p50=1.0, device=BOARD, **NOT_EVALUATED | {"images": None})]
    )
    assert data.notes == ["B did not evaluate net-a int8: the choice and the plot use the accuracy on A."]
    assert "Left out, of unknown accuracy: net-c int8 (1 thread)." in sentence(data.choices[1])


def test_pages_that_are_isolated_and_not_are_two_settings(of):
    data = collect_devices([of("a", 0.9, 1.0, isolated=True), of("a", 0.9, 2.0, isolated=False)])
    assert len(data.records["A"]) == 2 and "int8, 1 thread, not isolated" in render_devices(data)


def test_the_plots_labels_name_the_model_where_there_are_several(of):
    def labels(*records):
        page = render_devices(collect_devices(records, 0.5))
        texts = [part.partition("</text>")[0].rpartition(">")[2] for part in page.split("<text")[1:]]
        return [text for text in texts if text.startswith("A ")]

    small = {"size_bytes": 1, "p50": 9.0}
    assert labels(of("a", 0.9, 1.0), of("b", 0.9, **small)) == ["A net-a int8", "A net-b int8"]
    assert labels(of("a", 0.9, 1.0), of("b", 0.9, **small, model="net-a", precision="fp32")) == ["A fp32", "A int8"]
