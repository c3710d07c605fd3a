"""Where pictures lie when not all of them lie under one folder."""

import os
from pathlib import Path
from typing import TypeAlias

import msgspec


class Places(msgspec.Struct, frozen=True):
    """Several folders that act as one: `places / "test/cat/1.jpg"` is what a folder with test/ in it would give.

    folders: by the first part of a sample's id, the folder that stands for it, as text. So ids, and with them the
    draws and the fingerprints, do not depend on where the folders lie.

    >>> (Places({"train": "a/photos", "test": "b"}) / "test/cat/1.jpg").as_posix()
    'b/cat/1.jpg'
    """

    folders: dict[str, str]

    def __truediv__(self, path: str) -> Path:
        first, _, rest = path.partition("/")
        return Path(self.folders[first]) / rest


Root: TypeAlias = Path | Places
"""What `root / sample.path` is taken from."""


def absolute(root: Root) -> str | Places:
    """The root as JSON can carry it to another process."""
    if isinstance(root, Places):
        return Places({first: os.path.abspath(folder) for first, folder in root.folders.items()})
    return os.path.abspath(root)
