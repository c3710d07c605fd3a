"""Chromium opens the page that is served, as a person's browser would."""

import shutil
import subprocess
from queue import Queue
from threading import Thread

import pytest

from kd2mobile.measure.browser.device import Options
from kd2mobile.measure.browser.litert_js import installed_version, locked_version
from kd2mobile.measure.browser.measure import measure
from kd2mobile.measure.files import opened_as
from kd2mobile.measure.litert.runtime import Classifier
from tests.chromium import browser

LITERT_JS_LIES_THERE = installed_version() == locked_version()
needs_litert_js = pytest.mark.skipif(
    not LITERT_JS_LIES_THERE, reason=f"LiteRT.js {locked_version()} is not installed; `make web`"
)


def opened(files, protocol):
    """The files as the browser's side needs them: what they are, in this process, since no host asks them."""
    threads, xnnpack = protocol.settings[0]
    how = {"threads": threads, "xnnpack": xnnpack}
    return [opened_as(file, Classifier(file.path, mean=file.mean, std=file.std, **how)) for file in files]


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium"), "--use-fake-device-for-media-stream") as chromium:
        yield chromium


@pytest.fixture
def chromium(started):
    """A tab of the test's own."""
    started.new_tab()
    return started


@pytest.fixture
def measured_in(chromium):
    """measured_in(opened, images, protocol): what Chromium measures. look: called while the page is at it."""

    def measured(opened, images, protocol, *, look=None, width=800, page=chromium, options=None, **how):
        results, urls = [], Queue()

        def work():
            try:
                results.append(measure("", options or Options(), opened, images, protocol, show=urls_of(urls), **how))
            except Exception as fault:
                urls.put(fault)
                results.append(fault)

        thread = Thread(target=work, daemon=True)
        thread.start()
        url = urls.get()
        if not isinstance(url, Exception):
            page.open(url, width, 900)
            (look or until_it_ends)(page)
        thread.join()
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    return measured


def urls_of(urls):
    return lambda url, where: urls.put(url)


def until_it_ends(chromium):
    chromium.until("['Done', 'Stopped early'].includes(document.getElementById('doing').textContent)")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate that signs itself, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    pair = folder / "cert.pem", folder / "key.pem"
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", pair[0], "-keyout", pair[1]]
    subprocess.run([*new, *names], check=True, capture_output=True)
    return pair
