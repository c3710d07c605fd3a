"""The page in headless Chromium: seen, heard, clicked, typed at and printed."""

import json
import re

import numpy as np
import pytest

from kd2mobile.pages.devices import collect_devices, write_devices
from kd2mobile.pages.page import write_report
from tests.chromium import browser, needs_chromium

MODELS = "document.querySelector('#models table')"
TOP1 = "[...document.querySelectorAll('#models tbody tr')].map(row => row.cells[3].textContent)"


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as chromium:
        yield chromium


@pytest.fixture
def chromium(started):
    """A tab of the test's own."""
    started.new_tab()
    return started


@pytest.fixture(scope="module")
def file(make_report, tmp_path_factory):
    written = tmp_path_factory.mktemp("page") / "report.html"
    write_report(written, make_report())
    return written


@pytest.fixture
def page(chromium, file):
    """The browser with the made-up page open."""
    chromium.open(file)
    return chromium


@needs_chromium
def test_light_and_dark_both_draw_without_a_word_on_the_console(page):
    light, dark = page.shot(), page.shot("dark")
    assert page.said == []
    assert light.shape == dark.shape == (1600, 1280, 3)
    assert (light[5, 5] == 255).all() and dark[5, 5].max() < 40
    for drawn in (light, dark):
        far = np.abs(drawn - drawn[5, 5]).sum(2) > 120
        assert 0.01 < far.mean() < 0.5, "the page is blank or covered"
    blue = (light[..., 2] - light[..., 0] > 120).sum()
    assert blue > 500, "the student's points are not drawn in their colour"


@needs_chromium
def test_a_phone_sees_no_sideways_scrolling(chromium, file):
    chromium.open(file, 360, 800)
    assert chromium.value("document.documentElement.scrollWidth") == 360, "tables scroll in their own box"
    assert chromium.value("document.documentElement.scrollHeight") > 5000
    wide = "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, pre, svg, .vh'))"
    assert chromium.value(f"Math.max(...{wide}.map(e => e.getBoundingClientRect().right))") <= 360


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_is_shown_that_the_table_goes_on(chromium, file, scheme):
    chromium.open(file, 360, 900)
    line, box = "document.querySelector('#models .sideways')", "document.querySelector('#models .scroll')"
    assert chromium.value(f"getComputedStyle({line}).display") == "block"
    chromium.value(f"{box}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    top, bottom, right = chromium.value(f"(b => [b.top, b.bottom, b.right])({box}.getBoundingClientRect())")

    def shaded():
        edge = chromium.shot(scheme)[round(top) + 2 : min(round(bottom), 900) - 2, round(right) - 3 : round(right)]
        return (np.abs(edge - chromium.shot(scheme)[2, 2]).sum(2) > 40).mean()

    before = shaded()
    chromium.value(f"{box}.scrollLeft = {box}.scrollWidth")
    assert before > 0.7 and shaded() < 0.4, "the shade stands while there is more, and goes at the end"
    first = "document.querySelector('#models tbody th')"
    assert chromium.value(f"{first}.getBoundingClientRect().left") < 20, "a row's name stays in sight"
    assert chromium.value(f"{first}.innerText").split() == ["teacher", "fp32", "mobilenetv2"]


@needs_chromium
def test_where_the_whole_table_is_seen_nothing_says_to_scroll(page):
    assert page.value("getComputedStyle(document.querySelector('#models .sideways')).display") == "none"
    assert ("paragraph", "The table goes on to the right: scroll it sideways.") not in page.heard()


@needs_chromium
def test_a_table_of_devices_with_every_column_fits_a_laptops_window(chromium, make_record, tmp_path):
    around = ((36.0, 2400.0), (48.0, 2100.0))
    states = [{"governor": "schedutil", "temperature_c": celsius, "clock_mhz": mhz} for celsius, mhz in around]
    told = {"conditions": {"before": states[0], "after": states[1], "throttled": False}, "compressed_bytes": 317_000}
    told |= {"latency_ms": {"p50": 0.312, "p90": 0.345, "p95": 0.372, "p99": 0.4, "mean": 0.32, "n": 300}}
    of = [{"compression": "prune"}, {"threads": 4, "xnnpack": False}, {"device": "a board", "n": 359}]
    write_devices(tmp_path / "devices.html", collect_devices([make_record(**told | more) for more in of]))
    chromium.open(tmp_path / "devices.html", 1280, 900)
    box = "document.querySelector('#models .scroll')"
    headings = chromium.value(f"[...{box}.querySelectorAll('th[scope=col]')].map(th => th.textContent.split(' ')[0])")
    assert {"Images", "p95", "Download", "Throttled", "Temp.", "Clock", "Governor"} <= {*headings}
    assert chromium.value(f"{box}.scrollWidth - {box}.clientWidth") == 0


@needs_chromium
def test_the_policy_stops_what_escaping_would_have_missed(chromium, file, tmp_path):
    """An image and scripts are put into the page by force: none is fetched or run, and ours still runs."""
    forced = (
        '<script>document.title = "forced"</script><img src="other.png" alt="" onerror="document.title = \'forced\'">'
    )
    (tmp_path / "forced.html").write_text(file.read_text().replace("<main>", "<main>" + forced))
    chromium.open(tmp_path / "forced.html")
    assert chromium.value("document.title") != "forced" and chromium.value(
        f"{MODELS}.querySelectorAll('button').length"
    )
    assert sum("Content Security Policy" in json.dumps(said) for said in chromium.said) >= 2


@needs_chromium
def test_a_click_on_a_heading_sorts_up_then_down_then_as_it_was(page):
    cells = TOP1.replace("cells[3]", "cells[9]")
    heading = f"{MODELS}.tHead.rows[0].cells[9]"
    before, found = page.value(cells), []
    for _ in range(3):
        page.click(f"{heading}.querySelector('button')")
        found.append((page.value(f"{heading}.ariaSort"), page.value(cells)))
    assert before == ["–", "0.42", "0.43", "0.71", "0.23", "0.42", "0.43", "0.71", "0.23"]
    up = ["0.23", "0.23", "0.42", "0.42", "0.43", "0.43", "0.71", "0.71"]
    assert found == [("ascending", [*up, "–"]), ("descending", [*up[::-1], "–"]), ("none", before)]


@needs_chromium
def test_numbers_sort_as_numbers_and_what_is_not_known_stays_last(page):
    size = f"{MODELS}.tHead.rows[0].cells[8]"
    cells = TOP1.replace("cells[3]", "cells[8]")
    page.click(f"{size}.querySelector('button')")
    assert page.value(cells) == ["352", "352", "391", "391", "612", "612", "1,180", "1,180", "–"]
    page.click(f"{size}.querySelector('button')")
    assert page.value(cells) == ["1,180", "1,180", "612", "612", "391", "391", "352", "352", "–"]
    page.click(f"{MODELS}.tHead.rows[0].cells[0].querySelector('button')")
    assert page.value(f"{size}.ariaSort") == "none", "only one column is sorted"
    assert page.value("document.querySelector('#models tbody tr').cells[0].textContent.trim()") == "baseline"


@needs_chromium
@pytest.mark.parametrize("key", ["Enter", " "])
def test_the_keyboard_reaches_and_sorts_every_column(page, key):
    page.press("Tab")
    assert page.value("document.activeElement.className") == "skip"
    assert page.value("document.activeElement.getBoundingClientRect().top") >= 0, (
        "the skip link shows when it has focus"
    )
    page.press("Enter")
    page.press("Tab")
    assert page.value("document.activeElement.className") == "scroll", "the skip link led past the navigation"
    for place in range(3):
        page.press("Tab")
        assert page.value(f"document.activeElement.closest('th') === {MODELS}.tHead.rows[0].cells[{place}]")
        assert page.value("getComputedStyle(document.activeElement).outlineStyle") == "solid", "focus is seen"
        page.press(key)
        assert page.value("document.activeElement.closest('th').ariaSort") == "ascending", "focus stays where it was"


@needs_chromium
def test_a_screen_reader_hears_the_parts_and_what_the_plots_say(page):
    heard = page.heard()
    roles = [role for role, _ in heard]
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert roles.count(landmark) == 1, landmark
    assert ("navigation", "On this page") in heard and heard.count(("heading", "Confused classes")) == 1
    for role in ("table", "image", "region", "button", "columnheader", "link", "heading"):
        assert all(name.strip() for kind, name in heard if kind == role), f"a {role} has no name"
    table = "Accuracy and cost of each measured model (the buttons in the column headings sort)"
    assert ("table", table) in heard and ("button", "Top-1 %") in heard
    assert any(
        name.startswith("student, ECE") and "overconfident in" in name for role, name in heard if role == "image"
    )
    assert ("image", "right") in heard and ("image", "recommended") in heard
    assert not any("▲" in name or "→" in name for role, name in heard if role in ("columnheader", "heading"))


@needs_chromium
def test_without_its_script_the_page_reads_the_same(chromium, file, tmp_path):
    bare = re.sub("<script>.*?</script>", "", file.read_text(), flags=re.DOTALL)
    (tmp_path / "bare.html").write_text(bare)
    chromium.open(tmp_path / "bare.html")
    heard = chromium.heard()
    assert chromium.value(TOP1)[0] == "90.7" and not [1 for role, _ in heard if role == "button"]
    assert ("columnheader", "Top-1 %") in heard and chromium.said == []


@needs_chromium
def test_on_paper_everything_is_unfolded_and_nothing_is_dark(page):
    page.send("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.value("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    assert page.value("getComputedStyle(document.querySelector('#models tbody tr')).breakInside") == "avoid"
    folded = "document.querySelectorAll('details:not([open])').length"
    page.value(f"window.counted = -1; addEventListener('beforeprint', () => {{ counted = {folded} }})")
    assert page.value("document.querySelectorAll('details[open]').length") == 0
    printed = page.pdf()
    assert printed.startswith(b"%PDF") and page.value("counted") == 0, "what is folded is opened first"
    assert page.value("document.querySelectorAll('details[open]').length") == 0, "and folded again"
