"""The page's timing loop on a clock of the test's own: nothing is waited for."""

import pytest

from kd2mobile.measure.browser import measure
from kd2mobile.measure.browser.server import serve
from tests.chromium import needs_chromium

pytestmark = needs_chromium
CLOCK_MS = 0.1
SPAN_MS = 50 * CLOCK_MS
MLPERF = {"runs": 1024, "seconds": 60, "most": 1_000_000, "batch_steps": 50}
TIMES = """(async () => {{
    const {{timesOf}} = await import('./timing.js');
    let time = 0, again = 0;
    const run = async () => {{ time += {run_ms}; }};
    const now = () => Math.floor(time / {clock} + 1e-6) * {clock};
    const timing = {{runs: {runs}, seconds: {seconds}, most: {most}, batch_steps: {batch_steps}}};
    const restart = async () => {{ again++; }};
    const found = await timesOf(run, timing, {clock}, restart, now).catch(({{message}}) => ({{message}}));
    return {{...found, again, seconds: time / 1000}};
}})()"""


@pytest.fixture
def timed(chromium):
    """timed(run_ms): what timing gives, and how long it took. run_ms: milliseconds of one run, an expression of `time`,
    the milliseconds that are over, and of `again`, how often timing has started over."""
    with serve(measure._static({})) as url:
        chromium.open(f"{url}timing.js")
        yield lambda run_ms, **timing: chromium.value(
            TIMES.format(run_ms=run_ms, clock=CLOCK_MS, **{**MLPERF, **timing})
        )


def test_the_batch_is_chosen_before_the_minute_begins(timed):
    result = timed("0.5")
    assert result["again"] == 0 and 60 < result["seconds"] < 61
    assert result["steps"] * 0.5 >= SPAN_MS and len(result["times"]) >= MLPERF["runs"]
    assert all(abs(one - 0.5) <= CLOCK_MS / result["steps"] for one in result["times"])


def test_a_run_that_is_long_enough_is_timed_alone(timed):
    result = timed("6.25", seconds=1, runs=100)
    assert result["steps"] == 1 and len(result["times"]) == 160 and result["again"] == 0
    assert sum(result["times"]) / 160 == pytest.approx(6.25, abs=CLOCK_MS)


def test_runs_that_become_shorter_start_it_again_as_soon_as_it_shows(timed):
    """A third of the time after 5 s, so that half of the values are too short long before the minute is over."""
    result = timed("time < 5000 ? 0.5 : 0.125")
    assert result["again"] == 1 and 60 < result["seconds"] < 75
    enough = [one * result["steps"] >= SPAN_MS * 0.999 for one in result["times"]]
    assert sum(enough) > len(enough) / 2
    result = timed("time < 600 ? 0.5 : 0.125")
    assert result["again"] == 1 and result["seconds"] < 62


def test_one_batch_that_is_too_short_starts_nothing_again(timed):
    result = timed("time > 2000 && time < 2010 ? 0.05 : 0.5", seconds=5, runs=100)
    assert result["again"] == 0 and result["seconds"] < 6
    assert min(result["times"]) * result["steps"] < SPAN_MS


def test_runs_that_become_shorter_for_ever_are_a_fault(timed):
    result = timed("0.5 / 20 ** again * (time < 600 ? 1 : 0.05)")
    assert result["message"] == "the runs became shorter 4 times while they were timed" and result["again"] == 3
    assert result["seconds"] < 10
