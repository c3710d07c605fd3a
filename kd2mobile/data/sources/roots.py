"""Where pictures lie when not all of them lie under one folder."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec


class Places(msgspec.Struct, frozen=True):
    """Several folders that act as one: `places / "test/cat/1.jpg"` is what a folder with test/ in it would give.

    folders: by the first part of a sample's id, the folder that stands for it, as text, or places for the next part. So
    ids, and with them the draws and the fingerprints, do not depend on where the folders lie.

    >>> places = Places({"train": "a/photos", "test": Places({"1": "b", "2": "c"})})
    >>> (places / "train/cat/1.jpg").as_posix(), (places / "test/2/cat/1.jpg").as_posix()
    ('a/photos/cat/1.jpg', 'c/cat/1.jpg')
    """

    folders: "dict[str, str | Places]"

    def __truediv__(self, path: str) -> Path:
        first, _, rest = path.partition("/")
        folder = self.folders[first]
        return (folder if isinstance(folder, Places) else Path(folder)) / rest


Root: TypeAlias = Path | Places
"""What `root / sample.path` is taken from."""


def places_of(folders: dict[str, str]) -> Places:
    """folders: by the start of the ids, `train`, `2` or `test/2`, the folder that stands for it."""
    below: dict[str, dict[str, str]] = {}
    for start, folder in folders.items():
        first, _, rest = start.partition("/")
        below.setdefault(first, {})[rest] = folder
    return Places({first: rest.get("") or Places(dict(rest)) for first, rest in below.items()})


def several(source: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """The sources that a field of a recipe names: one, or those of a list."""
    return [source] if isinstance(source, str | Path) else list(source)


def absolute(root: Root | str) -> str | Places:
    """The root as JSON can carry it to another process."""
    if isinstance(root, Places):
        return Places({first: absolute(folder) for first, folder in root.folders.items()})
    return os.path.abspath(root)
