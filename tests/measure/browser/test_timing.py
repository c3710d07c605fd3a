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


def test_a_batch_is_found_before_the_minute_begins(timed):
    found = timed("0.5")
    assert found["again"] == 0 and 60 < found["seconds"] < 61
    assert found["steps"] * 0.5 >= SPAN_MS and len(found["times"]) >= MLPERF["runs"]
    assert all(abs(one - 0.5) <= CLOCK_MS / found["steps"] for one in found["times"])


def test_a_run_that_is_long_enough_is_timed_alone(timed):
    found = timed("6.25", seconds=1, runs=100)
    assert found["steps"] == 1 and len(found["times"]) == 160 and found["again"] == 0
    assert sum(found["times"]) / 160 == pytest.approx(6.25, abs=CLOCK_MS)


def test_runs_that_become_shorter_start_it_again_as_soon_as_it_shows(timed):
    """A third of the time after 5 s, so that half of the values are too short long before the minute is over."""
    found = timed("time < 5000 ? 0.5 : 0.125")
    assert found["again"] == 1 and 60 < found["seconds"] < 75
    enough = [one * found["steps"] >= SPAN_MS * 0.999 for one in found["times"]]
    assert sum(enough) > len(enough) / 2
    found = timed("time < 600 ? 0.5 : 0.125")
    assert found["again"] == 1 and found["seconds"] < 62


def test_one_batch_that_is_too_short_starts_nothing_again(timed):
    found = timed("time > 2000 && time < 2010 ? 0.05 : 0.5", seconds=5, runs=100)
    assert found["again"] == 0 and found["seconds"] < 6
    assert min(found["times"]) * found["steps"] < SPAN_MS


def test_runs_that_become_shorter_for_ever_are_a_fault(timed):
    found = timed("0.5 / 20 ** again * (time < 600 ? 1 : 0.05)")
    assert found["message"] == "the runs became shorter 4 times while they were timed" and found["again"] == 3
    assert found["seconds"] < 10
