"""Scans a folder of images: its classes, its files and one hash over all of them. No image is decoded."""

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
"""Images that Pillow does not decode: skipped with that reason, where other files are ignored."""
HASHING_THREADS = 8
BATCH = 4096


class ScannedImage(msgspec.Struct, frozen=True):
    """One image file. path: relative to the root, with slashes; given: the split that its folder or table gives it.

    sha256: of the file, in hexadecimal digits; key: its value in the table's column for `data.group_by`.
    """

    path: str
    class_name: str
    given: SplitName | None
    sha256: str
    key: str = ""


class Part(msgspec.Struct, frozen=True):
    """The images of one split in one source, or all images of a source without splits.

    split: None if the source gives no splits; start: the beginning of the ids, without a slash, or empty; folder: the
    folder that `start` stands for; table: the file that lists the images and their labels, empty for class folders.
    named: by class, its folder names or labels, where they are not exactly the class's name.
    """

    split: SplitName | None
    start: str
    folder: str
    classes: list[str]
    table: str = ""
    named: dict[str, list[str]] = {}

    def location_of(self, class_name: str) -> str:
        """The location of a class's images, for messages: their folder, or the table and the label."""
        if self.table:
            return f"{self.table}, label {class_name!r}" + (f" of {self.split}" if self.split else "")
        return " and ".join(str(Path(self.folder) / name) for name in self._folders(class_name))

    def holds(self, path: str, class_name: str) -> bool:
        """Whether the id `path` lies in a folder of the class. Always false for a table."""
        if self.table:
            return False
        starts = ("/".join(filter(None, (self.start, name))) + "/" for name in self._folders(class_name))
        return path.startswith(tuple(starts))

    def _folders(self, class_name: str) -> list[str]:
        return self.named.get(class_name, [class_name])


class Scan(msgspec.Struct, frozen=True):
    """The image files of a source, sorted by path, and its files that are not used.

    given: the splits that the source gives; empty for plain class folders.
    content: SHA-256 over the path and the hash of every image; it changes when an image changes, moves, is added or
    removed. skipped: images that are not used, each with the reason. ignored: number of files that are hidden or no
    images by their suffix; system_files: number of files that operating systems leave among images.
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

    def location_of(self, class_name: str, split: SplitName | None) -> str:
        """The location of a class's images in a split, for messages; several locations are joined by `and`."""
        return " and ".join(part.location_of(class_name) for part in self._parts(class_name, split))

    def skipped_of(self, class_name: str, split: SplitName | None, skipped: list[Skipped]) -> list[Skipped]:
        """The skipped files that belong to the class in that split."""
        parts = self._parts(class_name, split)
        listed = {p.path for p in self.images if (p.class_name, p.given) == (class_name, split)}
        return [a for a in skipped if a.path in listed or any(part.holds(a.path, class_name) for part in parts)]

    def _parts(self, class_name: str, split: SplitName | None) -> list[Part]:
        return [part for part in self.parts if part.split == split and class_name in part.classes]


CachedHashes = dict[str, tuple[int, int, str]]
"""The cache of one root: by path, size in bytes, mtime in ns and SHA-256."""


class File(msgspec.Struct, frozen=True):
    """An image file before it is hashed: the fields of a ScannedImage, with size and mtime in place of the hash."""

    path: str
    class_name: str
    given: SplitName | None
    size: int
    mtime_ns: int
    key: str = ""


class _Walk:
    """The files that a walk through the folders found, before any file is read."""

    def __init__(self, root: Source):
        self.root = root
        self.files: list[File] = []
        self.skipped: list[Skipped] = []
        self.ignored = 0
        self.system_files = 0

    def folder(self, parts: tuple[str, ...], class_name: str, given: SplitName | None) -> None:
        """Adds every image file under the folder, at any depth. Links are followed."""
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
        """Whether the file or folder is hidden or a system file. If so, it is counted here."""
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
    """Finds and hashes the image files of a folder: of its class folders, or of its splits train/, val/ and test/.

    root: the folder; images lie in the class folders at any depth, and links are followed.
    cache: a JSON file with each file's hash by path, size and mtime, so that a second scan opens no image; it serves
    any number of roots and may be missing, stale or damaged. fewest: the smallest accepted number of classes.
    Raises DataError if the folder has another layout, fewer classes, or splits with different classes.
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
    result = Scan(
        root=shown(str(root)),
        classes=classes,
        given=[split for split in SPLIT_NAMES if split in starts],
        images=images,
        skipped=sorted(walk.skipped, key=lambda file: file.path),
        ignored=walk.ignored,
        content=content_of(rows),  # Train/ and Test/ were once two classes: another data set
        parts=parts,
        system_files=walk.system_files,
    )
    return renamed(result, class_names(classes))


def renamed(scanned: Scan, names: dict[str, str]) -> Scan:
    """The scan with other class names. names: the class of each folder name or label.

    Where a class differs from its folder's name, the content hash includes the classes: two classes that became one are
    another data set.
    """
    if all(names[name] == name for name in scanned.classes):
        return scanned
    classes = sorted({names[name] for name in scanned.classes})
    images = [msgspec.structs.replace(p, class_name=names[p.class_name]) for p in scanned.images]
    parts = []
    for part in scanned.parts:
        folder_names: dict[str, list[str]] = {}
        for name in part.classes:
            folder_names.setdefault(names[name], []).extend(part.named.get(name, [name]))
        folder_names = {name: folders for name, folders in folder_names.items() if folders != [name]}
        new_classes = sorted({names[name] for name in part.classes})
        parts.append(msgspec.structs.replace(part, classes=new_classes, named=folder_names))
    content = content_of([(p.path, p.sha256, p.class_name, p.given or "") for p in images])
    return msgspec.structs.replace(scanned, classes=classes, images=images, parts=parts, content=content)


def scan_unlabelled(root: Source, cache: Path | None = None) -> Scan:
    """Finds and hashes the image files of a folder, at any depth. Folders in it are not classes. cache: as in `scan`.

    Raises DataError if root is no folder or holds no image.
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
        skipped=sorted(walk.skipped, key=lambda file: file.path),
        ignored=walk.ignored,
        content=content_of([(image.path, image.sha256) for image in images]),
        system_files=walk.system_files,
    )


def content_of(rows: list[tuple[str, ...]]) -> str:
    """One SHA-256 over the rows, in their order. Each row is the text that identifies one image."""
    content = hashlib.sha256()
    for row in rows:
        content.update(msgspec.json.encode(row))
    return content.hexdigest()


def _class_folders(root: Source, fewest: int) -> list[tuple[SplitName | None, str, tuple[str, ...]]]:
    """Of every class folder its split (or None), its name and its path as parts. Raises DataError."""
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
            next_step = "Move the images of each class into a folder named after the class."
            raise DataError(root, "must hold class folders", got, next_step)
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
    """The same for a root with splits. splits: the folder of each split."""
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
    """How the classes of a split differ from those of train, in words; empty if they are the same.

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
    reasons = [f"{a.path}: {a.reason}" for a in walk.skipped if a.path.startswith(below)]
    got = f"none ({len(reasons)} skipped, first {reasons[0]})" if reasons else "none"
    next_step = "Add images of the class or remove the folder."
    raise DataError(root.joinpath(*parts), "must hold images, as a class folder", got, next_step)


def hashed(
    root: Source, files: list[File], skipped: list[Skipped], cache: Path | None, source: Source | None = None
) -> list[ScannedImage]:
    """The images, sorted by path, with their hashes. A file that cannot be read is added to skipped.

    source: the key of the hashes in the cache; root by default.
    """
    files = sorted(files, key=lambda file: file.path)
    key = hashlib.sha256(os.fsencode(str((source or root).resolve()))).hexdigest()
    cached = _read_cache(cache).get(key, {})
    reused = {f.path: cached[f.path][2] for f in files if cached.get(f.path, ())[:2] == (f.size, f.mtime_ns)}
    unread = [f for f in files if f.path not in reused]
    hashes: dict[str, str] = dict(reused)

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
        if cache and (unread or len(cached) != len(files)):
            hashes_to_cache = {f.path: (f.size, f.mtime_ns, hashes[f.path]) for f in files if f.path in hashes}
            _write_cache(Path(cache), key, hashes_to_cache)
    return [ScannedImage(f.path, f.class_name, f.given, hashes[f.path], f.key) for f in files if f.path in hashes]


def _read_cache(cache: Path | None) -> dict[str, CachedHashes]:
    try:
        return msgspec.json.decode(Path(cache).read_bytes(), type=dict[str, CachedHashes]) if cache else {}
    except (OSError, ValueError, RecursionError):
        return {}


def _write_cache(cache: Path, key: str, hashes: CachedHashes) -> None:
    """Writes the hashes of one root into the cache and keeps those that other processes wrote meanwhile."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with locked(cache):
            write_bytes(cache, msgspec.json.encode(_read_cache(cache) | {key: hashes}))
    except (OSError, ArtifactError) as fault:  # it only saves time
        message = reason(fault) if isinstance(fault, OSError) else f"{fault.must}, got {fault.got}"
        progress.say(f"{cache}: not written ({message}); the next scan reads every image again")


def _entries(folder: Source) -> Iterator[os.DirEntry | Entry]:
    """The entries of the folder sorted by name, so that nothing depends on the order of the file system."""
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
