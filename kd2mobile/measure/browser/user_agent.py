"""Describes a browser and its system, from its user agent."""

import re

ENGINES = {"Mozilla", "AppleWebKit", "Gecko", "Chrome", "Safari", "Mobile", "Version"}
"""Products that many browsers name."""
BROWSERS = {
    "HeadlessChrome": "HeadlessChrome",
    "CriOS": "Chrome",
    "Edg": "Edge",
    "EdgA": "Edge",
    "EdgiOS": "Edge",
    "Firefox": "Firefox",
    "FxiOS": "Firefox",
    "OPR": "Opera",
    "SamsungBrowser": "Samsung Internet",
}


def browser_words(user_agent: str) -> str:
    """`Chrome 141 on Linux x86_64`; the user agent itself if a part of it is unknown.

    Values that browsers always report (Windows 10, macOS 10.15, Android 10 on a K) are left out.

    >>> browser_words("Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0")
    'Firefox 131 on Linux x86_64'
    """
    comments = re.findall(r"\(([^()]*)\)", user_agent)
    products = dict(re.findall(r"([^\s/()]+)(?:/(\S+))?", re.sub(r"\([^()]*\)", "", user_agent)))
    browser, system = _browser(products), _system(comments[0]) if comments else None
    return f"{browser} on {system}" if browser and system else user_agent


def _browser(products: dict[str, str]) -> str | None:
    own = [name for name in products if name not in ENGINES]
    if len(own) == 1 and own[0] in BROWSERS:
        return _versioned(BROWSERS[own[0]], products[own[0]], r"\d+")
    if own or "Safari" not in products or ("Chrome" in products and "Version" in products):  # the last is an app's view
        return None
    if "Chrome" in products:
        return _versioned("Chrome", products["Chrome"], r"\d+")
    return _versioned("Safari", products.get("Version", ""), r"\d+(\.\d+)?")


def _versioned(name: str, version: str, pattern: str) -> str | None:
    match = re.match(pattern, version)
    return f"{name} {match.group()}" if match else None


def _system(comment: str) -> str | None:
    first, *more = parts = [part.strip() for part in comment.split(";")]
    if first.startswith("Windows NT"):
        return "Windows x64" if "x64" in more else "Windows"
    if first == "Macintosh":
        return "macOS"
    if first in ("iPhone", "iPad") and (version := re.search(r" OS (\d+(?:_\d+)*) like ", comment)):
        return f"{first}, {'iPadOS' if first == 'iPad' else 'iOS'} {version.group(1).replace('_', '.')}"
    if first == "X11" and (match := re.search(r"\b(Linux|CrOS) (\w+)", comment)):
        return f"{match.group(1).replace('CrOS', 'ChromeOS')} {match.group(2)}"
    if first.startswith("Android "):
        return first
    if first == "Linux" and len(parts) == 3 and more[0].startswith("Android "):
        return "Android" if more[1] == "K" else f"{more[0]}, {more[1]}"
    return None
