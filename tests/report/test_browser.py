"""The page in headless Chromium: it draws, in light and dark, and the console has nothing to say."""

import os
import shutil
import signal
import subprocess

import numpy as np
import pytest
from PIL import Image

from kd2mobile.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--enable-logging=stderr",
]
DARK, LIGHT = 0, 1

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium installed; `apt-get install chromium`")


def screenshot(page, folder, width=1280, height=1600, scheme=LIGHT):
    """Pixels [height, width, 3] of the page, and the console's lines."""
    shot = folder / "shot.png"
    shot.unlink(missing_ok=True)
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--screenshot={shot}"]
    command += [f"--window-size={width},{height}", f"--blink-settings=preferredColorScheme={scheme}", page.as_uri()]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as browser:
        try:
            _, log = browser.communicate(timeout=90)
        finally:
            if browser.poll() is None:
                os.killpg(browser.pid, signal.SIGKILL)
    with Image.open(shot) as drawn:
        return np.asarray(drawn.convert("RGB")).astype(int), [ln for ln in log.decode().splitlines() if "CONSOLE" in ln]


@pytest.fixture
def page(make_report, tmp_path):
    write_report(tmp_path / "report.html", make_report())
    return tmp_path / "report.html"


@needs_chromium
def test_light_and_dark_both_draw_without_a_word_on_the_console(page, tmp_path):
    light, said = screenshot(page, tmp_path)
    dark, said_too = screenshot(page, tmp_path, scheme=DARK)
    assert said == said_too == []
    assert light.shape == dark.shape == (1600, 1280, 3)
    assert (light[5, 5] == 255).all() and dark[5, 5].max() < 40
    for drawn in (light, dark):
        far = np.abs(drawn - drawn[5, 5]).sum(2) > 120
        assert 0.01 < far.mean() < 0.5, "the page is blank or covered"
    blue = (light[..., 2] - light[..., 0] > 120).sum()
    assert blue > 500, "the student's points are not drawn in their colour"


@needs_chromium
def test_a_phone_sees_no_sideways_scrolling(page, tmp_path):
    """In a frame of 360 px, nothing of the page is drawn beyond its margin: tables scroll in their own box."""
    frame = tmp_path / "phone.html"
    frame.write_text(
        '<!DOCTYPE html><body style="margin:0;background:#fff">'
        '<iframe src="report.html" style="width:360px;height:7000px;border:0"></iframe>'
    )
    drawn, _ = screenshot(frame, tmp_path, 500, 7000)
    assert (drawn[:, 350:] == 255).all()
    assert (drawn[:, :350] != 255).any()


@needs_chromium
def test_the_policy_stops_what_escaping_would_have_missed(page, tmp_path):
    """A picture and a script are put into the page by force: neither is fetched or run."""
    html = page.read_text()
    forced = '<script>document.body.remove()</script><img src="other.png" alt="">'
    page.write_text(html.replace("<main>", "<main>" + forced))
    drawn, said = screenshot(page, tmp_path)
    assert (np.abs(drawn - 255).sum(2) > 120).mean() > 0.01
    assert any("Content Security Policy" in line for line in said)
