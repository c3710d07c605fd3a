"""What browsers call themselves, in fewer words."""

import pytest

from kd2mobile.measure.browser.user_agent import browser_words

WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X)"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (f"Mozilla/5.0 (X11; Linux x86_64) {WEBKIT} Chrome/141.0.0.0 Safari/537.36", "Chrome 141 on Linux x86_64"),
        (
            f"Mozilla/5.0 (X11; Linux aarch64) {WEBKIT} HeadlessChrome/141.0.0.0 Safari/537.36",
            "HeadlessChrome 141 on Linux aarch64",
        ),
        (
            f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/141.0.0.0 Safari/537.36",
            "Chrome 141 on ChromeOS x86_64",
        ),
        (f"{WINDOWS}) {WEBKIT} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.3537.57", "Edge 141 on Windows x64"),
        (f"{WINDOWS}) {WEBKIT} Chrome/130.0.0.0 Safari/537.36 OPR/115.0.0.0", "Opera 115 on Windows x64"),
        (f"{WINDOWS}; rv:131.0) Gecko/20100101 Firefox/131.0", "Firefox 131 on Windows x64"),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
            "Firefox 131 on Linux x86_64",
        ),
        ("Mozilla/5.0 (Android 14; Mobile; rv:131.0) Gecko/131.0 Firefox/131.0", "Firefox 131 on Android 14"),
        (
            f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {APPLE} Version/17.5 Safari/605.1.15",
            "Safari 17.5 on macOS",
        ),
        (f"{IPHONE} {APPLE} Version/17.5 Mobile/15E148 Safari/604.1", "Safari 17.5 on iPhone, iOS 17.5.1"),
        (f"{IPHONE} {APPLE} CriOS/141.0.7390.41 Mobile/15E148 Safari/604.1", "Chrome 141 on iPhone, iOS 17.5.1"),
        (
            f"Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) {APPLE} FxiOS/131.0 Mobile/15E148 Safari/605.1.15",
            "Firefox 131 on iPad, iPadOS 17.5",
        ),
        (f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} Chrome/141.0.0.0 Mobile Safari/537.36", "Chrome 141 on Android"),
        (
            f"Mozilla/5.0 (Linux; Android 10; K) {WEBKIT} SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
            "Samsung Internet 27 on Android",
        ),
        (
            f"Mozilla/5.0 (Linux; Android 12; SM-G991B) {WEBKIT} Chrome/99.0.4844.73 Mobile Safari/537.36",
            "Chrome 99 on Android 12, SM-G991B",
        ),
    ],
)
def test_browser_version_and_system(user_agent, words):
    assert browser_words(user_agent) == words


@pytest.mark.parametrize(
    "user_agent",
    [
        "",
        "a browser",
        "curl/8.5.0",
        "Mozilla/5.0",
        f"Mozilla/5.0 (PlayStation 5) {APPLE} Version/17.0 Safari/605.1.15",
        f"{WINDOWS}) {WEBKIT} Chrome/141.0.0.0 Safari/537.36 Vivaldi/7.0",
        f"{WINDOWS}) {WEBKIT} Chrome/141.0.0.0 Safari/537.36 OPR/115.0.0.0 Edg/141.0.0.0",
        f"{WINDOWS}) {WEBKIT} Chrome/new Safari/537.36",
        f"Mozilla/5.0 (Linux; Android 14; K; wv) {WEBKIT} Version/4.0 Chrome/141.0.0.0 Mobile Safari/537.36",
        f"{IPHONE} {APPLE} Mobile/15E148",
        "((((",
        "Mozilla/5.0 (X11; Linux x86_64) Chrome/141 (",
    ],
)
def test_an_unknown_user_agent_stays_as_it_is(user_agent):
    assert browser_words(user_agent) == user_agent
