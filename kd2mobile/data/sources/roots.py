"""Roots: what sample ids are relative to, also where the images lie in several folders."""

import os
from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from kd2mobile.data.sources.containers import Member, Source, source_at


class Joined(msgspec.Struct, frozen=True):
    """Several sources that act as one folder: `joined / "test/cat/1.jpg"` is the address of the sample with that id.

    sources: by the first part of a sample's id, the address of its source, or a Joined for the next part of the id. The
    ids, and with them the drawn splits and the fingerprints, do not depend on where the folders lie.

    >>> joined = Joined({"train": "a/photos", "test": Joined({"1": "b", "2": "c"})})
    >>> (joined / "train/cat/1.jpg").as_posix(), (joined / "test/2/cat/1.jpg").as_posix()
    ('a/photos/cat/1.jpg', 'c/cat/1.jpg')
    """

    sources: "dict[str, str | Joined]"

    def __truediv__(self, path: str) -> Source:
        first, _, rest = path.partition("/")
        return root_at(self.sources[first]) / rest


Root: TypeAlias = Source | Joined
"""`root / sample.path` is the address of a sample: a path, or an object with the `open` of `files.Stored`."""


def root_at(address: str | Joined) -> Root:
    """The root that `absolute` turned into JSON for another process."""
    return address if isinstance(address, Joined) else source_at(address)


def joined(folders: dict[str, str]) -> Joined:
    """Joins several sources. folders: by the start of the ids, `train`, `2` or `test/2`, the address of the source."""
    below: dict[str, dict[str, str]] = {}
    for start, folder in folders.items():
        first, _, rest = start.partition("/")
        below.setdefault(first, {})[rest] = folder
    return Joined({first: rest.get("") or Joined(dict(rest)) for first, rest in below.items()})


def several(source: str | Source | Sequence[str | Source]) -> list[str | Source]:
    """The sources in a field of a recipe, which is one source or a list."""
    return [source] if isinstance(source, str | Source) else list(source)


def absolute(root: Root | str) -> str | Joined:
    """The root with absolute paths, in a form that JSON can carry to another process."""
    if isinstance(root, Joined):
        return Joined({first: absolute(source) for first, source in root.sources.items()})
    source = source_at(root) if isinstance(root, str) else root
    return str(source.resolve()) if isinstance(source, Member) else os.path.abspath(source)
