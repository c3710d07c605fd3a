"""What the record of an artifact must say: its own fields, and by stage the files of its folder and its results.

A record may come from another machine. What stands here is checked when it is read, so that whoever uses a result finds
it, with its type; fields that are not named here pass.
"""

from fnmatch import fnmatchcase
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**53)]
Share = Annotated[float, Meta(ge=0, le=1)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
FINGERPRINT = "^[0-9a-f]{16}$"


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step as JSON; its fingerprint is a hash of just these fields."""

    stage: str
    version: int
    config: dict[str, Any]
    inputs: dict[str, "Spec"]


class FileOf(msgspec.Struct, frozen=True):
    """A file of an artifact."""

    bytes: Count
    sha256: Sha256


class Record(msgspec.Struct, frozen=True):
    """record.json of an artifact. files: by path relative to its folder; seconds: that its build took."""

    stage: str
    fingerprint: Annotated[str, Meta(pattern=FINGERPRINT)]
    spec: Spec
    results: dict[str, Any]
    files: dict[str, FileOf]
    seconds: Annotated[float, Meta(ge=0, le=1e10)]


class Validated(msgspec.Struct, frozen=True):
    """How a network answers the n validation images. top1: 0..1; logloss: in nats, the clipped one of `metrics`."""

    n: Count
    top1: Share
    logloss: float


class Form(msgspec.Struct, frozen=True):
    """What the record of a stage must say.

    title: what its folder holds, for the report. files: those without which it is no artifact, each a pattern or
    several with a bar between them; results: what its build returns, with the types of the fields that are read.
    """

    title: str
    files: tuple[str, ...]
    results: type[msgspec.Struct] | None = None


FORMS: dict[str, Form] = {}
"""By stage. `stages/table.py` fills it: the store knows no stage itself."""


def lacking(stage: str, files: dict[str, Any]) -> str | None:
    """The first file that a stage's artifact must have and its record does not list.

    >>> FORMS["letters"] = Form("two letters", ("a.txt", "b.txt|c.txt"))
    >>> lacking("letters", {"a.txt": {}, "b.txt": {}}), lacking("letters", {"a.txt": {}})
    (None, 'b.txt or c.txt')
    >>> del FORMS["letters"]
    """
    form = FORMS.get(stage)
    for patterns in form.files if form else ():
        if not any(fnmatchcase(name, pattern) for pattern in patterns.split("|") for name in files):
            return patterns.replace("|", " or ")
    return None
