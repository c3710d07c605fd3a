"""What lies in a folder of photos: the classes, the image files and one hash over them all. Nothing is decoded."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from kd2mobile import progress
from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.sources.containers import Entry, Member, Source
from kd2mobile.data.sources.folders import (
    Inside,
    class_names,
    files_in,
    inside,
    resembles_split,
    splits_among,
)
from kd2mobile.data.split import SPLIT_NAMES, Skipped, SplitName
from kd2mobile.errors import ArtifactError, DataError
from kd2mobile.files import is_left_by_system, locked, opened_file, os_error, write_bytes
from kd2mobile.pixels import SUFFIXES, SYSTEM_FAULTS
from kd2mobile.text import count_of, listed

UNREAD_SUFFIXES = frozenset(
    "." + name for name in ("heic", "heif", "dng", "cr2", "cr3", "nef", "arw", "raf", "orf", "rw2", "svg", "psd", "jxl")
)
"""Images as well, that Pillow does not decode: skipped with the reason, where other files are skipped."""
HASHING_THREADS = 8
BATCH = 4096


class ScannedImage(msgspec.Struct, frozen=True):
    """One image file. path: relative to the root, with slashes; given: its split, if the folders say so.

    key: what a table's column for `data.group_by` says of it.
    """

    path: str
    class_name: str
    given: SplitName | None
    sha256: str
    key: str = ""


class Part(msgspec.Struct, frozen=True):
    """Where the images of one split lie, or all of them; of several sources each has its own.

    split: None if the splits are not given; start: what the ids start with, without a slash, or nothing; folder: what
    stands in its place; table: the file that lists the images and their labels, or nothing if class folders do.
    named: the folders of a class whose name is not theirs, or not theirs alone.
    """

    split: SplitName | None
    start: str
    folder: str
    classes: list[str]
    table: str = ""
    named: dict[str, list[str]] = {}

    def place_of(self, class_name: str) -> str:
        """What a message calls the place of a class's images: their folder, or the table and the label."""
        if self.table:
            return f"{self.table}, label {class_name!r}" + (f" of {self.split}" if self.split else "")
        return " and ".join(str(Path(self.folder) / name) for name in self._folders(class_name))

    def holds(self, path: str, class_name: str) -> bool:
        """Whether a file of that id lies in the folder of the class."""
        if self.table:
            return False
        starts = ("/".join(filter(None, (self.start, name))) + "/" for name in self._folders(class_name))
        return path.startswith(tuple(starts))

    def _folders(self, class_name: str) -> list[str]:
        return self.named.get(class_name, [class_name])


class Scan(msgspec.Struct, frozen=True):
    """The image files of a folder, by path, and what is not used of it.

    given: the splits that the folders give; empty for plain class folders.
    content: SHA-256 over every image's path and hash; it changes when an image does, comes, goes or moves.
    ignored: files that are hidden or no images by their suffix; system_files: those that systems leave among images.
    """

    root: str
    classes: list[str]
    given: list[SplitName]
    images: list[ScannedImage]
    skipped: list[Skipped]
    ignored: int
    content: str
    parts: list[Part] = []
    system_files: int = 0

    def place_of(self, class_name: str, split: SplitName | None) -> str:
        """What a message calls the place of a class's images, or the places."""
        return " and ".join(part.place_of(class_name) for part in self._parts(class_name, split))

    def skipped_of(self, class_name: str, split: SplitName | None, skipped: list[Skipped]) -> list[Skipped]:
        """Those of the files skipped that were given as images of the class."""
        parts = self._parts(class_name, split)
        listed = {p.path for p in self.images if (p.class_name, p.given) == (class_name, split)}
        return [a for a in skipped if a.path in listed or any(part.holds(a.path, class_name) for part in parts)]

    def _parts(self, class_name: str, split: SplitName | None) -> list[Part]:
        return [part for part in self.parts if part.split == split and class_name in part.classes]


Known = dict[str, tuple[int, int, str]]
"""What the cache holds of one root: path -> size, mtime_ns, sha256."""


class File(msgspec.Struct, frozen=True):
    """An image file before it is hashed: what a Image has, its size and time of change."""

    path: str
    class_name: str
    given: SplitName | None
    size: int
    mtime_ns: int
    key: str = ""


class _Walk:
    """What a walk through the folders found, before any file is read."""

    def __init__(self, root: Source):
        self.root = root
        self.files: list[File] = []
        self.skipped: list[Skipped] = []
        self.ignored = 0
        self.system_files = 0

    def folder(self, parts: tuple[str, ...], class_name: str, given: SplitName | None) -> None:
        """Every image file under the folder, however deep, links followed."""
        self._folder(self.root.joinpath(*parts), parts, class_name, given, ())

    def _folder(
        self, folder: Source, parts: tuple[str, ...], class_name: str, given: SplitName | None, above: tuple[str, ...]
    ) -> None:
        real = os.path.realpath(folder) if isinstance(folder, Path) else str(folder)
        if real in above:
            self.skipped.append(Skipped("/".join(parts), "a link to one of its own parent folders"))
            return
        for entry in _entries(folder):
            if self.skips(entry, folder):
                continue
            path = "/".join((*parts, entry.name))
            if not _is_utf8(entry.name):
                self.skipped.append(Skipped(shown(path), "its name is not UTF-8; rename it"))
            elif entry.is_dir():
                self._folder(folder / entry.name, (*parts, entry.name), class_name, given, (*above, real))
            else:
                self._file(entry, path, class_name, given)

    def skips(self, entry: os.DirEntry | Entry, folder: Source) -> bool:
        """Whether the file or folder is a system's own or hidden; then it is counted."""
        if is_left_by_system(entry.name):
            self.system_files += files_in(folder / entry.name)
        elif entry.name.startswith("."):
            self.ignored += 1
        else:
            return False
        return True

    def _file(self, entry: os.DirEntry | Entry, path: str, class_name: str, given: SplitName | None) -> None:
        suffix = Path(entry.name).suffix.lower()
        if suffix in UNREAD_SUFFIXES:
            self.skipped.append(Skipped(path, not_decoded(suffix)))
        elif suffix not in SUFFIXES:
            self.ignored += 1
        else:
            try:
                status = entry.stat()
            except OSError as fault:
                self.skipped.append(Skipped(path, reason(fault)))
                return
            if not stat.S_ISREG(status.st_mode):
                self.skipped.append(Skipped(path, "it is not a regular file"))
                return
            self.files.append(File(path, class_name, given, status.st_size, status.st_mtime_ns))


def scan(root: Source, cache: Path | None = None, fewest: int = 2) -> Scan:
    """Finds and hashes the image files of a folder of class folders, or of train/ with test/, val/ or both of them.

    root: the folder; images lie in the class folders or deeper, links are followed.
    cache: a JSON file that remembers each file's hash by path, size and time of change, so that a second scan opens
    no image; it serves any number of roots and may be missing, stale or damaged. fewest: classes.
    Raises DataError if the folder is no such folder, has fewer than those classes, or its splits differ in classes.
    """
    folders = _class_folders(root, fewest)
    walk = _Walk(root)
    for given, class_name, parts in folders:
        before = len(walk.files)
        walk.folder(parts, class_name, given)
        if len(walk.files) == before:
            _refuse_empty_class(root, parts, walk)
    for entry in _entries(root):
        if walk.skips(entry, root) or entry.is_dir():
            continue
        if Path(entry.name).suffix.lower() in SUFFIXES | UNREAD_SUFFIXES:
            walk.skipped.append(Skipped(shown(entry.name), "it is outside the class folders"))
        else:
            walk.ignored += 1
    images = hashed(root, walk.files, walk.skipped, cache)
    starts = {given: "/".join(parts[:-1]) for given, _, parts in folders}
    classes = sorted({class_name for _, class_name, _ in folders})
    parts = [
        Part(split, starts[split], str(root / starts[split]), classes)
        for split in (*SPLIT_NAMES, None)
        if split in starts
    ]
    by_name = all(start == (split or "") for split, start in starts.items())
    rows = [(p.path, p.sha256, *(() if by_name else (p.class_name, p.given or ""))) for p in images]
    found = Scan(
        root=shown(str(root)),
        classes=classes,
        given=[split for split in SPLIT_NAMES if split in starts],
        images=images,
        skipped=sorted(walk.skipped, key=lambda aside: aside.path),
        ignored=walk.ignored,
        content=content_of(rows),  # Train/ and Test/ were once two classes: another data set
        parts=parts,
        system_files=walk.system_files,
    )
    return renamed(found, class_names(classes))


def renamed(found: Scan, names: dict[str, str]) -> Scan:
    """The scan with the classes that its folders or labels stand for. names: by what is written there.

    The content counts the classes as well if they are not the folders' own: two classes that became one are not the
    data set that they were.
    """
    if all(names[name] == name for name in found.classes):
        return found
    classes = sorted({names[name] for name in found.classes})
    images = [msgspec.structs.replace(p, class_name=names[p.class_name]) for p in found.images]
    parts = []
    for part in found.parts:
        named: dict[str, list[str]] = {}
        for name in part.classes:
            named.setdefault(names[name], []).extend(part.named.get(name, [name]))
        named = {name: folders for name, folders in named.items() if folders != [name]}
        here = sorted({names[name] for name in part.classes})
        parts.append(msgspec.structs.replace(part, classes=here, named=named))
    content = content_of([(p.path, p.sha256, p.class_name, p.given or "") for p in images])
    return msgspec.structs.replace(found, classes=classes, images=images, parts=parts, content=content)


def scan_unlabelled(root: Source, cache: Path | None = None) -> Scan:
    """Finds and hashes the image files of a folder and of those in it, which are no classes. cache: as in `scan`.

    Raises DataError if it is no folder or holds no image.
    """
    if not root.is_dir():
        got = "a file" if root.exists() else "nothing there"
        raise DataError(root, "must be a folder of unlabelled images", got, "Check the path.")
    walk = _Walk(root)
    walk.folder((), "", None)
    images = hashed(root, walk.files, walk.skipped, cache)
    if not images:
        first = f" ({len(walk.skipped)} skipped, first {walk.skipped[0].path})" if walk.skipped else ""
        raise DataError(root, "must hold images", f"none{first}", "Give the folder that contains them.")
    return Scan(
        root=shown(str(root)),
        classes=[],
        given=[],
        images=images,
        skipped=sorted(walk.skipped, key=lambda aside: aside.path),
        ignored=walk.ignored,
        content=content_of([(image.path, image.sha256) for image in images]),
        system_files=walk.system_files,
    )


def content_of(rows: list[tuple[str, ...]]) -> str:
    """One SHA-256 over what is known of each image, in their order."""
    content = hashlib.sha256()
    for row in rows:
        content.update(msgspec.json.encode(row))
    return content.hexdigest()


def _class_folders(root: Source, fewest: int) -> list[tuple[SplitName | None, str, tuple[str, ...]]]:
    """Split (or None), class name and folder of every class folder."""
    layout = "Give a folder with one folder of images per class, or with train/ and test/ of such."
    if not root.exists():
        raise DataError(root, "must be a folder of photos", "nothing there", "Check the path.")
    if not root.is_dir():
        raise DataError(root, "must be a folder of photos", "a file", f"{layout} A table must end in .csv or .tsv.")
    entries = [
        entry for entry in _entries(root) if not entry.name.startswith(".") and not is_left_by_system(entry.name)
    ]
    names = [entry.name for entry in entries if entry.is_dir()]
    if not names:
        loose = sum(Path(entry.name).suffix.lower() in SUFFIXES for entry in entries)
        if loose:
            got = f"{count_of(loose, 'image', 'directly inside')} and no folder"
            one_up = "Move the images of each class into a folder named after the class."
            raise DataError(root, "must hold class folders", got, one_up)
        raise DataError(root, "must hold class folders", "an empty folder" if not entries else "no folder", layout)
    may_be_splits = any(map(resembles_split, names))
    if may_be_splits and (splits := splits_among(root, {name: _inside(root / name) for name in names})):
        return _split_folders(root, splits, fewest)
    if len(set(class_names(names).values())) < fewest:
        more = f"Add a folder of images of something else beside {names[0]!r}: a classifier tells classes apart."
        raise DataError(root, "must hold at least 2 class folders", f"one, {shown(names[0])!r}", more)
    _refuse_odd_names(root, names)
    return [(None, name, (name,)) for name in sorted(names)]


def _split_folders(
    root: Source, splits: dict[SplitName, str], fewest: int
) -> list[tuple[SplitName | None, str, tuple[str, ...]]]:
    """splits: the folder of each split."""
    by_split = {split: _inside(root / splits[split]).folders for split in SPLIT_NAMES if split in splits}
    for split, folders in by_split.items():
        _refuse_odd_names(root / splits[split], folders)
    names = class_names(name for folders in by_split.values() for name in folders)
    train = {names[name] for name in by_split["train"]}
    if len(train) < fewest:
        more = "Add folders of images of something else: a classifier tells classes apart."
        got = f"one, {min(train)!r}"
        raise DataError(root / splits["train"], "must hold at least 2 class folders", got, more)
    for split, folders in by_split.items():
        if differs := differing({names[name] for name in folders}, train):
            same = "Rename, add or remove folders until both have the same."
            must = f"must hold the same class folders as {splits['train']}"
            raise DataError(root / splits[split], must, differs, same)
    return [(split, name, (splits[split], name)) for split, folders in by_split.items() for name in sorted(folders)]


def differing(classes: Iterable[str], train: Iterable[str]) -> str:
    """What the classes of a split lack and have besides those of train; empty if they are the same.

    >>> differing(["cat", "Dog"], ["cat", "dog"])
    "no 'dog' and 'Dog' in addition"
    """
    missing, extra = sorted(set(train) - set(classes)), sorted(set(classes) - set(train))
    differs = [f"no {quoted(missing)}"] * bool(missing) + [f"{quoted(extra)} in addition"] * bool(extra)
    return " and ".join(differs)


def _refuse_odd_names(folder: Source, names: list[str]) -> None:
    for name in names:
        if not _is_utf8(name):
            raise DataError(folder, "must hold class folders with UTF-8 names", repr(shown(name)), "Rename it.")


def _refuse_empty_class(root: Source, parts: tuple[str, ...], walk: _Walk) -> None:
    below = "/".join(parts) + "/"
    aside = [f"{a.path}: {a.reason}" for a in walk.skipped if a.path.startswith(below)]
    got = f"none ({len(aside)} skipped, first {aside[0]})" if aside else "none"
    what_to_do = "Add images of the class or remove the folder."
    raise DataError(root.joinpath(*parts), "must hold images, as a class folder", got, what_to_do)


def hashed(
    root: Source, files: list[File], skipped: list[Skipped], cache: Path | None, source: Source | None = None
) -> list[ScannedImage]:
    """The images by path; a file that cannot be read is added to skipped. source: whose hashes; root by default."""
    files = sorted(files, key=lambda file: file.path)
    key = hashlib.sha256(os.fsencode(str((source or root).resolve()))).hexdigest()
    known = _read_cache(cache).get(key, {})
    remembered = {f.path: known[f.path][2] for f in files if known.get(f.path, ())[:2] == (f.size, f.mtime_ns)}
    unread = [f for f in files if f.path not in remembered]
    hashes: dict[str, str] = dict(remembered)

    def sha256(file: File) -> tuple[File, str, str]:
        try:
            with opened_file(root / file.path) as stream:
                return file, hashlib.file_digest(stream, "sha256").hexdigest(), ""
        except OSError as fault:
            if fault.errno in SYSTEM_FAULTS:
                raise os_error(fault, root / file.path) from fault
            return file, "", reason(fault)

    try:
        if unread:
            with progress.bar("hashing", len(unread), "files") as advance:
                for file, digest, fault in in_threads(sha256, unread, HASHING_THREADS):
                    if fault:
                        skipped.append(Skipped(file.path, fault))
                    else:
                        hashes[file.path] = digest
                    advance(1)
    finally:
        if cache and (unread or len(known) != len(files)):
            found = {f.path: (f.size, f.mtime_ns, hashes[f.path]) for f in files if f.path in hashes}
            _remember(Path(cache), key, found)
    return [ScannedImage(f.path, f.class_name, f.given, hashes[f.path], f.key) for f in files if f.path in hashes]


def _read_cache(cache: Path | None) -> dict[str, Known]:
    try:
        return msgspec.json.decode(Path(cache).read_bytes(), type=dict[str, Known]) if cache else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _remember(cache: Path, key: str, found: Known) -> None:
    """Keeps the hashes of one root beside those that others have written meanwhile."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with locked(cache):
            write_bytes(cache, msgspec.json.encode(_read_cache(cache) | {key: found}))
    except (OSError, ArtifactError) as fault:  # it only saves time
        said = reason(fault) if isinstance(fault, OSError) else f"{fault.must}, got {fault.got}"
        progress.say(f"{cache}: not written ({said}); the next scan reads every image again")


def _entries(folder: Source) -> Iterator[os.DirEntry | Entry]:
    """The folder's entries by name, so that nothing depends on the disk's order."""
    if isinstance(folder, Member):
        return iter(folder.entries())
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as fault:
        raise DataError(
            shown(str(folder)), "must be a folder that can be read", reason(fault), "Change its permissions."
        ) from fault


def _inside(folder: Source) -> Inside:
    return inside((entry.name, entry.is_dir()) for entry in _entries(folder))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def not_decoded(suffix: str) -> str:
    """Why an image of UNREAD_SUFFIXES is skipped."""
    return f"{suffix} files are not decoded: save it as .jpg or .png"


def shown(name: str) -> str:
    """The name with the bytes that are not UTF-8 escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def quoted(names: list[str]) -> str:
    """The first three names, quoted, and how many more there are."""
    return listed(repr(shown(name)) for name in names)


def reason(fault: OSError) -> str:
    """Why a file is skipped."""
    return f"{type(fault).__name__}: {fault.strerror}"
