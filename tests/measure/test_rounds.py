"""Files in turn, with stand-in timings: nothing here is timed."""

from itertools import count

import pytest

from kd2mobile.measure.rounds import WIDE, Rounds, ratio, spreads, take_turns


def stand_ins(calls, *times):
    """A turn for each endless iterator of medians; `calls` lists who was called."""

    def turn(name, values):
        def take():
            calls.append(name)
            return next(values)

        return take

    return [turn(name, iter(values)) for name, values in enumerate(times)]


def always(value):
    return (value for _ in count())


def test_every_file_has_its_turn_in_each_round_and_the_order_rotates():
    calls = []
    medians = take_turns(stand_ins(calls, always(1.0), always(2.0), always(3.0)), Rounds(5, 20))
    assert [calls[first : first + 3] for first in range(0, 15, 3)] == [
        [0, 1, 2],
        [1, 2, 0],
        [2, 0, 1],
        [0, 1, 2],
        [1, 2, 0],
    ]
    assert medians == [[1.0] * 5, [2.0] * 5, [3.0] * 5]


def test_a_host_whose_load_comes_and_goes_leaves_the_ratios():
    """Each round is 1 to 10 times as slow as the quiet host: 0.84 and 0.62 ms stay 1.355 apart."""
    slow = [1, 10, 3, 7, 2]
    spreads_reported = []
    int8, fp32 = take_turns(
        stand_ins([], (0.84 * by for by in slow), (0.62 * by for by in slow)), Rounds(5, 20), spreads_reported.append
    )
    assert spreads_reported == [], "five rounds are enough"
    assert ratio(int8, fp32) == pytest.approx([0.84 / 0.62] * 3)
    assert spreads([int8, fp32]) == pytest.approx([0, 0], abs=1e-9)
    (alone,) = spreads([fp32])
    assert alone == pytest.approx(9 / 3), "one file has nothing to compare with"


def test_rounds_are_added_while_the_spread_is_too_wide():
    """The last two of the first five are disturbed, which ten rounds take out but five do not: of ten the second least
    and the second most count, of fifteen the fourth."""
    spreads_reported = []
    values = [1.0, 1.0, 1.0, 1.3, 1.4, *[1.0] * 10]
    (medians,) = take_turns(stand_ins([], iter(values)), Rounds(5, 20), spreads_reported.append)
    assert spreads_reported == pytest.approx([0.4, 0.3]) and len(medians) == 15


def test_rounds_end_though_the_spread_stays_wide():
    spreads_reported = []
    (medians,) = take_turns(stand_ins([], (1.0 + i % 3 for i in count())), Rounds(5, 20), spreads_reported.append)
    assert len(medians) == 20 and len(spreads_reported) == 3
    assert spreads([medians])[0] > WIDE


def test_one_round_is_one_round():
    """MLPerf's single stream is not interrupted, whatever its spread."""
    calls = []
    assert take_turns(stand_ins(calls, always(1.0), always(2.0)), Rounds(1, 1)) == [[1.0], [2.0]]
    assert calls == [0, 1] and spreads([[1.0], [2.0]]) == [None, None]


def test_too_few_rounds_have_no_spread():
    assert ratio([1.0] * 4, [1.0] * 4) is None


def test_the_spread_of_two_files_that_disagree():
    """Both slow down in other rounds: the ratio of the two is 4, 1, 1, 1, 1/4, so each share of it 2 to 1/2."""
    first, second = [4.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 4.0]
    assert spreads([first, second]) == pytest.approx([1.5, 1.5])
    assert ratio(first, second) == (1.0, 0.25, 4.0)
