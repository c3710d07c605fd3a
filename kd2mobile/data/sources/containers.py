"""Where images lie that have no folder: an archive, an object store. The one place that a further container touches.

A container is a class of two members, registered here under the ending of its files (`.zip`) or the beginning of its
addresses (`s3://`). Everything else takes what lies in it by the two operations that a folder has as well:
`source / id` is the address of an image, `address.open()` its bytes. A tool that needs a file has `files.local_files`.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import IO, NamedTuple, Protocol, TypeAlias

import msgspec

from kd2mobile.registry import Registry

INSIDE = "!/"
"""What stands between a container and a path in it, in an address: `photos.zip!/cat/1.jpg`."""


class StoredFile(NamedTuple):
    """size: bytes; version: any number that changes when the file does, such as its time of change in ns."""

    size: int
    version: int


class Container(Protocol):
    """files: what lies in it, by path with slashes, without a leading one; folders have no entry of their own."""

    files: Mapping[str, StoredFile]

    def open(self, path: str) -> IO[bytes]:
        """The bytes of a file as a seekable stream. Called from several threads at once. Raises OSError."""


CONTAINERS: Registry[Callable[[str], Container]] = Registry("containers")
"""open(address): the container. Raises DataError where there is none, or a damaged one."""


class Entry(NamedTuple):
    """What lies in a folder of a container, as `os.scandir` says it of one on the disk. file: None of a folder."""

    name: str
    file: StoredFile | None

    def is_dir(self) -> bool:
        return self.file is None

    def stat(self) -> SimpleNamespace:
        """Of a file what a scan asks of `os.stat`."""
        return SimpleNamespace(st_mode=stat.S_IFREG, st_size=self.file.size, st_mtime_ns=self.file.version)


class Member(msgspec.Struct, frozen=True):
    """What stands for a path in a container: of a file or of a folder, the outermost one if empty.

    It is a few words of text, so it travels to other processes. container: its address; path: with slashes.
    """

    container: str
    path: str = ""

    def __truediv__(self, path: str) -> "Member":
        return self.joinpath(path)

    def joinpath(self, *parts: str) -> "Member":
        return Member(self.container, "/".join(filter(None, (self.path, *parts))))

    def __str__(self) -> str:
        return f"{self.container}{INSIDE}{self.path}"

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def open(self) -> IO[bytes]:
        """The file's bytes. Raises OSError."""
        return _opened(self.container).open(self.path)

    def entries(self) -> list[Entry]:
        """What lies directly in the folder, by name."""
        files = _below(self)
        own = [Entry(path, file) for path, file in files.items() if "/" not in path]
        folders = {path.partition("/")[0] for path in files if "/" in path}
        return sorted([*own, *(Entry(name, None) for name in folders)], key=lambda entry: entry.name)

    def count(self) -> int:
        """How many files lie in it, however deep; a file is one."""
        return len(_below(self)) or 1

    def exists(self) -> bool:
        return not self.path or self.is_dir() or self.path in _opened(self.container).files

    def is_dir(self) -> bool:
        return not self.path or bool(_below(self))

    def resolve(self) -> "Member":
        """The same with an absolute path to the container where it is a file."""
        container = os.path.realpath(self.container) if os.path.exists(self.container) else self.container
        return Member(container, self.path)


Source: TypeAlias = Path | Member
"""Where images lie: a folder, or a folder in a container. `source / id` is the address of one."""


def source_at(address: str | Path) -> Source:
    """What an address stands for, which is what its text was made from.

    >>> source_at("photos/cat")
    PosixPath('photos/cat')
    """
    container, _, path = str(address).partition(INSIDE)
    is_container = any(_matches(name, container) for name in CONTAINERS)
    return Member(container, path) if is_container else Path(address)


def lies_in(one: Source, other: Source) -> bool:
    """Whether a source is another one, or lies in it."""
    return _location(one.resolve()).is_relative_to(_location(other.resolve()))


def _location(source: Source) -> Path:
    """The path that the source would have if its container were a folder, to compare it."""
    return Path(source.container, source.path) if isinstance(source, Member) else source


def _matches(name: str, container: str) -> bool:
    """Whether the container of that name in the registry is the one for the address."""
    if name.endswith("://"):
        return container.startswith(name)
    return container.lower().endswith(name) and os.path.isfile(container)


def _opened(container: str) -> Container:
    state = os.stat(container) if os.path.exists(container) else None
    return _open(container, state and (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=8)
def _open(container: str, state: tuple[int, int] | None) -> Container:
    """The container, opened once as long as its file does not change."""
    name = next((name for name in CONTAINERS if _matches(name, container)), None)
    if name is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), container)
    return CONTAINERS[name](container)


def _below(folder: Member) -> dict[str, StoredFile]:
    """The files under a folder, by path from there."""
    start = f"{folder.path}/" if folder.path else ""
    files = _opened(folder.container).files
    return {path[len(start) :]: file for path, file in files.items() if path.startswith(start) and path != start}
