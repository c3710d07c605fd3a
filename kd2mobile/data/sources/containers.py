"""Containers of images other than folders, such as an archive or an object store. A new container is added here alone.

A container is a class with the two members of `Container`, registered here under the ending of its files (`.zip`) or
the beginning of its addresses (`s3://`). All other code uses the two operations that folders have as well:
`source / id` is the address of an image, and `address.open()` gives its bytes. A tool that needs a file on the disk
uses `files.local_files`.
"""

import errno
import io
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import IO, NamedTuple, Protocol, TypeAlias

import msgspec

from kd2mobile.errors import DataError
from kd2mobile.registry import Registry
from kd2mobile.text import size_of

INSIDE = "!/"
"""The separator between a container and a path in it, in an address: `photos.zip!/cat/1.jpg`."""


class StoredFile(NamedTuple):
    """A file of a container. size: bytes; version: a number that changes with the file, such as its mtime in ns."""

    size: int
    version: int


class Container(Protocol):
    """An opened container. files: by path with slashes, without a leading slash; folders have no entries."""

    files: Mapping[str, StoredFile]

    def open(self, path: str) -> IO[bytes]:
        """The bytes of a file as a seekable stream. Called from several threads at once. Raises OSError."""


CONTAINERS: Registry[Callable[[str], Container]] = Registry("containers")
"""The functions that open an address, by its ending or beginning. They raise DataError for a damaged container."""

LARGEST_FILE = 1_000_000_000
"""Bytes of an unpacked file; the largest image that is decoded has fewer as a JPEG or PNG."""
MOST_UNPACKED = 100
"""How many times its packed size a file may have, above SMALL_FILE: DEFLATE reaches 1,032, an image hardly 2."""
SMALL_FILE = 10_000_000


@CONTAINERS.register(".zip", "ZIP archives of class folders")
class Zip:
    """A ZIP archive. What it says of its files is checked when it is opened, before anything is unpacked."""

    def __init__(self, address: str):
        try:
            self.archive = zipfile.ZipFile(address)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as fault:
            raise DataError(
                address, "must be a ZIP archive", "a damaged one, or another file", "Pack it again."
            ) from fault
        self.files: dict[str, StoredFile] = {}
        for info in self.archive.infolist():
            if not info.is_dir():
                _check_packed(f"{address}{INSIDE}{info.filename}", info, self.files)
                self.files[info.filename] = StoredFile(info.file_size, info.CRC)

    def open(self, path: str) -> IO[bytes]:
        """The whole file, unpacked, its checksum compared."""
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        try:
            return io.BytesIO(self.archive.read(path))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as fault:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path) from fault


def _check_packed(where: str, info: zipfile.ZipInfo, files: Mapping[str, StoredFile]) -> None:
    """Raises DataError for a file of an archive that cannot be read, or should not be."""
    name, step = info.filename, "Pack the folder again with another program."
    if name.startswith("/") or "\\" in name or ":" in name.partition("/")[0] or {"", ".", ".."} & set(name.split("/")):
        raise DataError(where, "must be a path inside the archive", repr(name), step)
    if name in files:
        raise DataError(where, "must be in the archive once", "twice", step)
    if info.flag_bits & 1:
        raise DataError(where, "must not be encrypted", "an encrypted file", "Pack the folder without a password.")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DataError(where, "must be a file", "a symbolic link", "Pack the files that the links point to.")
    if info.file_size > LARGEST_FILE or info.file_size > max(SMALL_FILE, MOST_UNPACKED * info.compress_size):
        must = f"must be at most {size_of(LARGEST_FILE)}, and no more than {MOST_UNPACKED:,} times its packed size"
        got = f"{size_of(info.file_size)} packed in {size_of(info.compress_size)}"
        raise DataError(where, must, got, "Leave it out of the archive.")


class Entry(NamedTuple):
    """An entry of a folder in a container, with what a scan uses of `os.DirEntry`. file: None for a folder."""

    name: str
    file: StoredFile | None

    def is_dir(self) -> bool:
        return self.file is None

    def stat(self) -> SimpleNamespace:
        """The fields of `os.stat` that a scan reads. For files only."""
        return SimpleNamespace(st_mode=stat.S_IFREG, st_size=self.file.size, st_mtime_ns=self.file.version)


class Member(msgspec.Struct, frozen=True):
    """The address of a file or a folder in a container, in the interface of a Path. It can be sent to other processes.

    container: the container's address; path: with slashes; empty for the container's root.
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
        """The files and folders directly in this folder, sorted by name."""
        files = _below(self)
        direct = [Entry(path, file) for path, file in files.items() if "/" not in path]
        folders = {path.partition("/")[0] for path in files if "/" in path}
        return sorted([*direct, *(Entry(name, None) for name in folders)], key=lambda entry: entry.name)

    def count(self) -> int:
        """The number of files in this folder, at any depth; 1 for a file."""
        return len(_below(self)) or 1

    def exists(self) -> bool:
        return not self.path or self.is_dir() or self.path in _opened(self.container).files

    def is_dir(self) -> bool:
        return not self.path or bool(_below(self))

    def resolve(self) -> "Member":
        """This address with an absolute path to the container, where the container is a file on the disk."""
        container = os.path.realpath(self.container) if os.path.exists(self.container) else self.container
        return Member(container, self.path)


Source: TypeAlias = Path | Member
"""A folder of images, on the disk or in a container. `source / id` is the address of an image."""


def source_at(address: str | Path) -> Source:
    """The source with this address: the inverse of `str(source)`.

    >>> source_at("photos/cat")
    PosixPath('photos/cat')
    """
    container, _, path = str(address).partition(INSIDE)
    is_container = any(_matches(name, container) for name in CONTAINERS)
    return Member(container, path) if is_container else Path(address)


def is_within(source: Source, folder: Source) -> bool:
    """Whether a source is the folder or lies in it."""
    return _location(source.resolve()).is_relative_to(_location(folder.resolve()))


def _location(source: Source) -> Path:
    """A path for comparisons: that of the source if its container were a folder."""
    return Path(source.container, source.path) if isinstance(source, Member) else source


def _matches(name: str, container: str) -> bool:
    """Whether the registered container `name` handles the address."""
    if name.endswith("://"):
        return container.startswith(name)
    return container.lower().endswith(name) and os.path.isfile(container)


def _opened(container: str) -> Container:
    state = os.stat(container) if os.path.exists(container) else None
    return _open(container, state and (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=8)
def _open(container: str, state: tuple[int, int] | None) -> Container:
    """The container at the address. It is opened again only when its state, (mtime in ns, size), changes."""
    name = next((name for name in CONTAINERS if _matches(name, container)), None)
    if name is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), container)
    return CONTAINERS[name](container)


def _below(folder: Member) -> dict[str, StoredFile]:
    """The files under a folder, by their path relative to it."""
    start = f"{folder.path}/" if folder.path else ""
    files = _opened(folder.container).files
    return {path[len(start) :]: file for path, file in files.items() if path.startswith(start) and path != start}
