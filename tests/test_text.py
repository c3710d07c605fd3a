"""Golden: worked out by hand from the rule that each docstring states."""

import pytest

from kd2mobile.text import count_of, did_you_mean, duration_of, listed, size_of


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (9_999, "9,999 bytes"), (10_000, "10 KB"), (9_999_499, "9,999 KB"), (1e7, "10 MB")]
    + [
        (12_340_000, "12.3 MB"),
        (88_000_000, "88 MB"),
        (150_000_000, "150 MB"),
        (12_640_000_000, "12.6 GB"),
        (4e13, "40,000 GB"),
    ],
)
def test_a_size_is_read_in_its_unit(size, words):
    assert size_of(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_a_duration_is_read_in_its_unit(seconds, words):
    assert duration_of(seconds) == words


def test_a_list_ends_with_how_many_more_there_are():
    assert listed("abc") == "a, b, c" and listed(iter("abcd")) == "a, b, c and 1 more"
    assert listed(map(str, range(2000)), most=1, between="; ") == "0 and 1,999 more"


def test_counts():
    assert [count_of(n, "image") for n in (0, 1, 1_000)] == ["0 images", "1 image", "1,000 images"]


def test_nothing_near_is_no_question():
    assert did_you_mean("zzz", ["vgg16"]) == ""
