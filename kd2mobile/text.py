"""Words for messages and pages: counts, lists, sizes and durations, and text that cannot break a line.

count_of, listed          "3 files", "a, b, c and 4 more"
size_of, duration_of      "312 KB", "4 min"
nearest, did_you_mean     the known names that are like what was typed
one_line, shortened       anybody's text inside a line of ours
"""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_SHOWN = 500
"""Characters of a path or a value in a message."""


def count_of(number: int, noun: str, what: str = "") -> str:
    """A count in a message.

    >>> count_of(1, "file", "skipped"), count_of(2000, "class")
    ('1 file skipped', '2,000 classes')
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending} {what}".rstrip()


def listed(items: Iterable[str], most: int = 3, between: str = ", ") -> str:
    """The first of the items and how many more there are; "none" without any.

    >>> listed(["cat", "dog", "emu", "fox", "gnu"]), listed(["cat"]), listed([])
    ('cat, dog, emu and 2 more', 'cat', 'none')
    """
    items = list(items)
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return (between.join(items[:most]) or "none") + more


def size_of(size_bytes: float) -> str:
    """A number of bytes in the unit in which it is read; 1 KB is 1,000 bytes, 1 MB is 1,000 KB, 1 GB is 1,000 MB.

    >>> size_of(456), size_of(312_432), size_of(88_240_000), size_of(88_000_000), size_of(12_640_000_000)
    ('456 bytes', '312 KB', '88.2 MB', '88 MB', '12.6 GB')
    """
    if size_bytes < 10_000:
        return f"{size_bytes:,.0f} bytes"
    if size_bytes < 1e7:
        return f"{size_bytes / 1e3:,.0f} KB"
    if size_bytes < 1e9:
        return f"{size_bytes / 1e6:,.{1 if size_bytes < 1e8 else 0}f}".removesuffix(".0") + " MB"
    return f"{size_bytes / 1e9:,.{1 if size_bytes < 1e11 else 0}f}".removesuffix(".0") + " GB"


def duration_of(seconds: float) -> str:
    """A duration in the unit in which it is read.

    >>> duration_of(40), duration_of(250), duration_of(9000)
    ('40 s', '4 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.4, most: int = 1) -> list[str]:
    """Of the known names at most so many that are like this one, the nearest first; small and capital letters are the
    same. cutoff: the least likeness, 0 to 1, as `difflib` counts it.

    >>> nearest("conv1x", ["pool", "conv12", "Conv1"], most=3)
    ['Conv1', 'conv12']
    """
    by_lower_case = {entry.lower(): entry for entry in known}
    return [by_lower_case[near] for near in get_close_matches(name.lower(), by_lower_case, n=most, cutoff=cutoff)]


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.4, most: int = 1) -> str:
    """The question after the `nearest` of the known names, or nothing.

    >>> did_you_mean("Xcepton", ["vgg16", "xception"]), did_you_mean("conv1x", ["pool", "conv12", "conv1"], most=3)
    ("Did you mean 'xception'? ", "Did you mean 'conv1' or 'conv12'? ")
    """
    near = nearest(name, known, cutoff, most)
    return f"Did you mean {' or '.join(map(repr, near))}? " if near else ""


def shortened(text: str) -> str:
    """The text, or of a very long one its start and its end.

    >>> shortened("photos"), len(shortened("9" * 5000))
    ('photos', 503)
    """
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN // 2]}...{text[-LONGEST_SHOWN // 2 :]}"


def one_line(text: str) -> str:
    """The text with every unprintable character escaped, so that a file name cannot break a message in two.

    >>> one_line("a\\nb")
    'a\\\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
