"""The only reader of label files: the names of the outputs, one per line, in every form in which programs write them.

Teachable Machine and Coral number the lines. A file is numbered if all its lines, except empty ones, have the
same one of these forms, with the number in decimal digits:

    0: name    0,name    0 name (any blanks, a tab too)    name<TAB>0

and if one number is 0 and the lines do not all have the same name: `1 euro` and `2 euro` are names, so are `7up`, and
`0 degrees` beside `90 degrees`. In a numbered file the numbers are the indices of the outputs, in any order.
"""

import re
from collections import Counter
from pathlib import Path

from kd2mobile.errors import Kd2MobileError, ModelFileError
from kd2mobile.files import check_regular

LARGEST_FILE = 16 * 2**20
"""Bytes of the largest text of labels that is read."""

_NUMBER = r"(?P<number>[0-9]{1,9})"
_FORMS = [
    re.compile(rf"{_NUMBER}[ \t]*:[ \t]*(?P<name>\S.*)"),
    re.compile(rf"{_NUMBER}[ \t]*,[ \t]*(?P<name>\S.*)"),
    re.compile(rf"{_NUMBER}[ \t]+(?P<name>[^\t]+)"),
    re.compile(rf"(?P<name>.+?)[ ]*\t[ \t]*{_NUMBER}"),
]


def read_labels(path: Path, flag: str = "--labels", error: type[Kd2MobileError] = ModelFileError) -> list[str]:
    """The names in a label file, in the order of the outputs. flag: with which the user gave it.

    Raises the error if the file cannot be read, is not UTF-8 text, or has a number missing or twice.
    """
    check_regular(path, error, "Save the labels to a file, and give that.")
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise error(path, "must be a readable file of labels", reason, f"Check {flag}.") from fault
    if len(text) > LARGEST_FILE:
        must = f"must be a file of labels of at most {LARGEST_FILE} bytes"
        raise error(path, must, "a larger one", f"Check {flag}.")
    return label_lines(text, str(path), error)


def label_lines(text: bytes, where: str, error: type[Kd2MobileError] = ModelFileError) -> list[str]:
    """The names in the order of the outputs; of plain lines the order of the file, empty lines at its end left out.

    where: the file, for messages. Raises the error as `read_labels` does.

    >>> label_lines(b"1 a dog\\n0 a cat\\n", "labels.txt"), label_lines(b"7up\\n5 alive\\n", "labels.txt")
    (['a cat', 'a dog'], ['7up', '5 alive'])
    """
    try:
        lines = [line.strip() for line in text.decode("utf-8-sig").rstrip().split("\n")]
    except UnicodeDecodeError as fault:
        got, save = f"byte {fault.start} of {len(text)} that is none", "Save the labels as UTF-8, one name per line."
        raise error(where, "must be UTF-8 text", got, save) from fault
    if lines == [""]:
        raise error(
            where, "must have the names of the outputs, one per line", "an empty file", "Give a complete label file."
        )
    return _numbered([line for line in lines if line], where, error) or lines


def number_and_name(line: str) -> tuple[int, str] | None:
    """The number and the name in a line of a numbered file; None if it has none of the forms.

    >>> number_and_name("0 a cat"), number_and_name("7up")
    ((0, 'a cat'), None)
    """
    match = next(filter(None, (form.fullmatch(line.strip()) for form in _FORMS)), None)
    return (int(match["number"]), match["name"]) if match else None


def _numbered(lines: list[str], where: str, error: type[Kd2MobileError]) -> list[str] | None:
    """The names by their numbers, None if the lines are not numbered."""
    wrong = None
    for form in _FORMS:
        matches = [form.fullmatch(line) for line in lines]
        if not all(matches):
            continue
        numbers, names = [int(one["number"]) for one in matches], [one["name"] for one in matches]
        if 0 not in numbers or (len(lines) > 1 and len(set(names)) == 1):
            continue
        if sorted(numbers) == list(range(len(lines))):
            return [name for _, name in sorted(zip(numbers, names, strict=True))]
        wrong = wrong or numbers
    if wrong is None:
        return None
    must = f"must number its {len(lines)} labels from 0 to {len(lines) - 1}, each once"
    number, times = Counter(wrong).most_common(1)[0]
    got = f"{number} more than once" if times > 1 else f"no {min(set(range(len(lines))) - set(wrong))}"
    mend = f"Correct the numbers. If they are part of the names, number the lines as well, as in `0 {lines[0]}`."
    raise error(where, must, got, mend)
