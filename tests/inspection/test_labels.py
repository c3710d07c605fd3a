"""Label files in each form, the names known beforehand."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kd2mobile.errors import ModelFileError
from kd2mobile.inspection import labels
from kd2mobile.inspection.labels import label_lines, read_labels

CHARACTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp", "Zs"], exclude_characters="\ufeff")
WORDS = st.lists(st.text(CHARACTERS, min_size=1, max_size=6), min_size=1, max_size=3).map(" ".join)
NAMES = st.lists(WORDS.filter(lambda name: name == name.strip() and not name[0].isdigit()), min_size=2, max_size=9)
WRITTEN = ["{number} {name}", "{number}  {name}", "{number}\t{name}", "{number}: {name}", "{number}:{name}"]
WRITTEN += ["{number},{name}", "{number} : {name}", "{name}\t{number}"]


def numbered(names, form, order):
    return "".join(form.format(number=i, name=names[i]) + "\n" for i in order).encode()


@given(st.data(), NAMES.filter(lambda names: len(set(names)) > 1), st.sampled_from(WRITTEN))
@example(None, ["\u0660 a", "b"], WRITTEN[0])  # a digit, but no decimal one of ASCII
def test_the_numbers_decide_whatever_the_order_and_the_form(data, names, form):
    order = range(len(names)) if data is None else data.draw(st.permutations(range(len(names))))
    if form in WRITTEN[:3] and any(name[0] in ":," for name in names):
        return  # `0 : name` is a name behind a colon
    assert label_lines(numbered(names, form, order), "labels.txt") == names


@given(NAMES)
def test_plain_names_keep_their_order(names):
    assert label_lines("\n".join(names).encode(), "labels.txt") == names


@given(st.lists(st.tuples(st.integers(0, 10**12), WORDS), min_size=2, max_size=9))
def test_a_number_without_a_blank_or_mark_behind_it_is_part_of_the_name(parts):
    names = [f"{number}{re.sub(r'^[0-9:,]+', 'x', word)}" for number, word in parts]
    assert label_lines("\n".join(names).encode(), "labels.txt") == names


@pytest.mark.parametrize(
    "names",
    [
        ["7up", "5alive"],
        ["7 up", "5 alive"],
        ["1 euro", "2 euro", "5 cent", "5 cents"],
        ["0 degrees", "90 degrees", "180 degrees", "270 degrees"],
        ["0:00", "1:00", "2:00"],
        ["0", "1", "2"],
        ["0 cat", "dog"],
        ["0 cat", "1: dog"],
        ["a\t0 b", "c\t1 d"],
        ["0 ", "1 x"],
    ],
)
def test_what_is_part_of_the_names(names):
    assert label_lines("\n".join(names).encode(), "labels.txt") == [name.strip() for name in names]


def test_numbers_before_numbers():
    assert label_lines(b"0 7 up\n1 5 alive\n", "labels.txt") == ["7 up", "5 alive"]
    assert label_lines(b"1 0 degrees\n0 90 degrees\n", "labels.txt") == ["90 degrees", "0 degrees"]
    assert label_lines(b"0 0\n1 1\n", "labels.txt") == ["0", "1"]
    assert label_lines(b"5 alive\t0\n7 up\t1\n", "labels.txt") == ["5 alive", "7 up"]


def test_equal_names_and_empty_lines_and_other_line_ends():
    text = "\ufeff0  crane\r\n\r\n2  maillot\r\n1  crane\r\n\r\n"
    assert label_lines(text.encode(), "labels.txt") == ["crane", "crane", "maillot"]


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("0 cat\n2 dog\n", "got no 1."),
        ("0 cat\n1 dog\n1 bird\n", "got 1 more than once."),
        ("0,cat\n0,dog\n", "got 0 more than once."),
        ("cat\t0\ndog\t3\n", "got no 1."),
    ],
)
def test_gaps_and_numbers_that_come_twice_are_refused(text, got):
    with pytest.raises(ModelFileError) as refused:
        label_lines(text.encode(), "labels.txt")
    lines = text.split()
    count = len(text.strip().split("\n"))
    assert str(refused.value).startswith(f"labels.txt: must number its {count} labels from 0 to {count - 1}, each once")
    assert got in str(refused.value) and "number the lines as well, as in `0 " in str(refused.value) and lines


@given(st.binary(max_size=60))
@example(b"0\t" + b"9" * 20_000)
def test_any_bytes_give_names_or_one_refusal(text):
    try:
        names = label_lines(text, "labels.txt")
    except ModelFileError as fault:
        assert "\n" not in str(fault)
    else:
        assert names


def test_a_label_file_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "latin.txt").write_bytes("ä\n".encode("latin-1"))
    (tmp_path / "empty.txt").write_bytes(b"\n\n")
    (tmp_path / "large.txt").write_bytes(b"a\n" * 50)
    monkeypatch.setattr(labels, "LARGEST_FILE", 64)
    for name, message in [
        ("none.txt", "must be a readable file of labels, got No such file or directory. Check --labels."),
        ("a\0b.txt", "must be a readable file of labels, got embedded null byte. Check --labels."),
        ("latin.txt", "must be UTF-8 text, got byte 0 of 2 that is none."),
        ("empty.txt", "must have the names of the outputs, one per line, got an empty file"),
        ("large.txt", "must be a file of labels of at most 64 bytes, got a larger one"),
    ]:
        with pytest.raises(ModelFileError) as refused:
            read_labels(tmp_path / name)
        assert message in str(refused.value)
