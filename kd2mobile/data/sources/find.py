"""Finds the images of all sources of a recipe, as one Scan and the root to which its ids are relative."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from kd2mobile.data.sources.containers import Source, is_within
from kd2mobile.data.sources.folders import class_names, similar_names
from kd2mobile.data.sources.roots import Root, joined, several
from kd2mobile.data.sources.scan import Part, Scan, ScannedImage, content_of, differing, renamed, scan, scan_unlabelled
from kd2mobile.data.sources.table import is_table, scan_table
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, Skipped, SplitName
from kd2mobile.errors import DataError
from kd2mobile.progress import say
from kd2mobile.text import count_of


class FoundImages(NamedTuple):
    """The images of a recipe. `root / image.path` is the address of each image of scan, and likewise for unlabelled."""

    root: Root
    scan: Scan
    unlabelled_root: Root | None = None
    unlabelled: Scan | None = None


def find_images(
    sources: dict[SplitName, Source | Sequence[Source]],
    unlabelled: Source | Sequence[Source] | None = None,
    cache: Path | None = None,
    display_names: Mapping[Source, str] = MappingProxyType({}),
    key_column: str = "",
) -> FoundImages:
    """Scans the sources, which are folders or tables. No image is decoded.

    sources: "train", which alone may hold all splits, and "val" or "test" if they have sources of their own; the ids
    are then those of one folder with train/, val/ and test/ in it. Several sources for one split are merged: their
    classes are the union, and the ids start with the number of the source, `2/cat/1.jpg` or `train/2/cat/1.jpg`, so
    that two files never share an id. unlabelled: folders of images without labels; their ids start with `unlabelled/`.
    cache: see `scan.scan`. display_names: by source, what messages call it instead of its path. key_column: the column
    of the tables that says which images belong together; the "train" sources must then be tables. Raises DataError for
    a source that cannot be used, for a split that is given twice, and for sources that differ in their splits or
    classes.
    """
    listed = {split: several(paths_or_path) for split, paths_or_path in sources.items()}
    for paths in listed.values():
        _refuse_shared(paths)
    for source in (path for path in listed["train"] if key_column and not is_table(path)):
        must = f"must be a CSV or TSV to have the column {key_column!r} of data.group_by"
        raise DataError(
            display_names.get(source, source), must, "no table", "Give a table, or a regular expression on the path."
        )
    scans = {split: [_scan(path, cache, len(paths), key_column) for path in paths] for split, paths in listed.items()}
    names = class_names(name for ones in scans.values() for one in ones for name in one.classes)
    scans = {split: [renamed(one, names) for one in ones] for split, ones in scans.items()}
    if list(map(len, scans.values())) == [1]:
        found = FoundImages(_folder_of(listed["train"][0]), scans["train"][0])
    else:
        _check_same_splits_and_classes(listed, scans, display_names)
        found = _joined(scans)
    _report_classes(found.scan)
    return found if unlabelled is None else _with_unlabelled(found, listed, several(unlabelled), cache)


def _scan(source: Source, cache: Path | None, sources_of_split: int, key_column: str) -> Scan:
    fewest = 2 if sources_of_split == 1 else 1
    return scan_table(source, cache, fewest, key_column) if is_table(source) else scan(source, cache, fewest)


def _folder_of(source: Source) -> Source:
    return source if source.is_dir() else source.parent


def _refuse_shared(paths: list[Source]) -> None:
    """Refuses a source that is given twice, and a folder in another."""
    for number, path in enumerate(paths):
        for other in paths[:number] + paths[number + 1 :]:
            if path.resolve() == other.resolve():
                raise DataError(path, "must be given only once", "twice", "Leave one of them out.")
            if path.is_dir() and other.is_dir() and is_within(path, other):
                must = "must lie outside the other given folders"
                raise DataError(path, must, f"a folder in {other}", "Leave one of them out, or move it.")


def _check_same_splits_and_classes(
    sources: dict[SplitName, list[Source]], scans: dict[SplitName, list[Scan]], display_names: Mapping[Source, str]
) -> None:
    sources = {split: [display_names.get(path, path) for path in paths] for split, paths in sources.items()}
    train = scans["train"][0]
    for source, one in zip(sources["train"], scans["train"], strict=True):
        if one.given != train.given:
            must = f"must have the same splits as {sources['train'][0]}, {_splits(train)}"
            both = "Give the test folders of all with --test-data, or none of them."
            raise DataError(source, must, _splits(one), both)
    classes = {split: sorted({name for one in ones for name in one.classes}) for split, ones in scans.items()}
    if len(classes["train"]) < 2:
        more = "Add images of something else: a classifier tells classes apart."
        must = "must hold at least 2 classes together"
        raise DataError(_together(sources["train"]), must, f"one, {classes['train'][0]!r}", more)
    for split in (name for name in sources if name != "train"):
        if split in train.given:
            once = f"Leave out data.{split}_source, or give the train folder alone."
            got = f"some, and those in {_together(sources[split])}"
            raise DataError(_together(sources["train"]), f"must not hold {split} images as well", got, once)
        for source, one in zip(sources[split], scans[split], strict=True):
            if one.given:
                must, got = f"must hold the {split} images alone, without splits", " and ".join(one.given)
                raise DataError(source, must, got, "Give the folder of that split.")
        if differs := differing(classes[split], classes["train"]):
            must = f"must hold the same classes as {_together(sources['train'])}"
            same = "Rename, add or remove classes until both have the same."
            raise DataError(_together(sources[split]), must, differs, same)


def _splits(one: Scan) -> str:
    return " and ".join(one.given) or "no splits"


def _together(sources: list[Path | str]) -> str:
    return " and ".join(map(str, sources))


def _report_classes(found: Scan) -> None:
    """Reports classes whose name has several spellings, and classes whose names differ only in capitals."""
    for name in sorted({name for part in found.parts for name in part.named}):
        written = {way for part in found.parts if name in part.classes for way in part.named.get(name, [name])}
        ways = count_of(len(written), "way")
        say(f"data: {name!r} is one class, written in {ways}: {', '.join(map(ascii, sorted(written)))}")
    if groups := similar_names(found.classes):
        first, second = groups[0][:2]
        where = " and ".join(
            found.location_of(name, part) for name in (first, second) for part in found.given[:1] or [None]
        )
        more = f", and {len(groups) - 1} more such names" if len(groups) > 1 else ""
        say(f"data: {first!r} and {second!r} are two classes ({where}){more}; rename one if they are not")


def _joined(scans: dict[SplitName, list[Scan]]) -> FoundImages:
    """Merges the scans into one, as of a single folder, with train/, val/ and test/ if there is more than train."""
    images: list[ScannedImage] = []
    skipped: list[Skipped] = []
    parts: list[Part] = []
    for key, ones in scans.items():
        for number, one in enumerate(ones, start=1):
            prefix = str(number) if len(ones) > 1 else ""
            new_parts = [_as_part(part, part.split or (key if len(scans) > 1 else None), prefix) for part in one.parts]
            by_split = {before.split: (before, after) for before, after in zip(one.parts, new_parts, strict=True)}
            for image in one.images:
                before, after = by_split[image.given]
                path = _moved(image.path, before, after)
                images.append(msgspec.structs.replace(image, path=path, given=after.split))
            for file in one.skipped:
                skipped.append(Skipped(_moved_skipped(file.path, list(by_split.values()), prefix), file.reason))
            parts += new_parts
    images.sort(key=lambda image: image.path)
    with_labels = any(part.table or part.named for part in parts)
    rows = [(p.path, p.sha256, *((p.class_name, p.given or "") if with_labels else ())) for p in images]
    return FoundImages(
        joined({part.start: part.folder for part in parts}),
        Scan(
            root=scans["train"][0].root,
            classes=sorted({name for one in scans["train"] for name in one.classes}),
            given=[split for split in SPLIT_NAMES if any(part.split == split for part in parts)],
            images=images,
            skipped=sorted(skipped, key=lambda file: file.path),
            ignored=sum(one.ignored for ones in scans.values() for one in ones),
            system_files=sum(one.system_files for ones in scans.values() for one in ones),
            content=content_of(rows),
            parts=parts,
        ),
    )


def _as_part(part: Part, split: SplitName | None, number: str) -> Part:
    start = "/".join(filter(None, (split, number)))
    return msgspec.structs.replace(part, split=split, start=start)


def _moved(path: str, before: Part, after: Part) -> str:
    """The id in the merged scan of a file with the id `path` in its own source."""
    return "/".join(filter(None, (after.start, path.removeprefix(f"{before.start}/") if before.start else path)))


def _moved_skipped(path: str, parts: list[tuple[Part, Part]], number: str) -> str:
    """The id in the merged scan of a skipped file, whose split is not always known."""
    for before, after in parts:
        if len(parts) == 1 and not before.start or before.start and path.startswith(f"{before.start}/"):
            return _moved(path, before, after)
    return "/".join(filter(None, (number, path)))


def _with_unlabelled(
    found: FoundImages, sources: dict[SplitName, list[Source]], folders: list[Source], cache: Path | None
) -> FoundImages:
    _refuse_shared(folders)
    starts: dict[str, str] = {}
    images: list[ScannedImage] = []
    skipped: list[Skipped] = []
    scans = []
    for number, folder in enumerate(folders, start=1):
        for source in (source for paths in sources.values() for source in paths):
            if source.is_dir() and is_within(folder, source):
                must = "must lie outside the folders of labelled images"
                raise DataError(folder, must, f"a folder in {source}", "Move it: each folder there is a class.")
        one, start = scan_unlabelled(folder, cache), f"{UNLABELLED}/{number}" if len(folders) > 1 else UNLABELLED
        starts[start] = str(folder)
        images += [msgspec.structs.replace(p, path=f"{start}/{p.path}") for p in one.images]
        skipped += [Skipped(f"{start}/{file.path}", file.reason) for file in one.skipped]
        scans.append(one)
    if both := {p.path for p in images}.intersection(p.path for p in found.scan.images):
        must = f"must not have the ids of unlabelled images, {UNLABELLED}/..."
        raise DataError(found.scan.root, must, repr(min(both)), "Rename that folder.")
    images.sort(key=lambda image: image.path)
    loose = msgspec.structs.replace(
        scans[0],
        root=" and ".join(one.root for one in scans),
        images=images,
        skipped=sorted(skipped, key=lambda file: file.path),
        ignored=sum(one.ignored for one in scans),
        system_files=sum(one.system_files for one in scans),
        content=scans[0].content if len(scans) == 1 else content_of([(p.path, p.sha256) for p in images]),
    )
    return found._replace(unlabelled_root=joined(starts), unlabelled=loose)
