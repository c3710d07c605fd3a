"""The pictures that a recipe means, wherever they lie: one Scan, and the root that its ids are taken from."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from kd2mobile.data.places import Places, Root
from kd2mobile.data.scan import (
    Picture,
    Scan,
    content_of,
    differing,
    scan,
    scan_unlabelled,
)
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, SetAside, SplitName
from kd2mobile.data.table import TABLE_SUFFIXES, scan_table
from kd2mobile.errors import DataError


class Found(NamedTuple):
    """root / path is the file of scan's picture of that path; likewise for the unlabelled ones, if there are any."""

    root: Root
    scan: Scan
    unlabelled_root: Root | None = None
    unlabelled: Scan | None = None


def find_pictures(sources: dict[SplitName, Path], unlabelled: Path | None = None, cache: Path | None = None) -> Found:
    """Scans the sources, which are folders or tables. Nothing is decoded.

    sources: "train", which alone may give all splits, and "val" or "test" where they lie elsewhere; then the ids are
    those of one folder with train/, val/ and test/ in it. unlabelled: a folder of pictures without classes, whose ids
    start with `unlabelled/`. cache: as in `scan.scan`.
    Raises DataError for a source that cannot be used, that gives a split twice, or that differs in its classes.
    """
    scans = {split: _scan(source, cache) for split, source in sources.items()}
    roots = {split: _folder_of(source) for split, source in sources.items()}
    found = Found(roots["train"], scans["train"]) if len(scans) == 1 else _joined(sources, scans, roots)
    if unlabelled is None:
        return found
    for source in sources.values():
        if source.is_dir() and unlabelled.resolve().is_relative_to(source.resolve()):
            must = "must lie outside the folders of labelled pictures"
            raise DataError(unlabelled, must, f"a folder in {source}", "Move it: each folder there is a class.")
    loose = scan_unlabelled(unlabelled, cache)
    pictures = [msgspec.structs.replace(p, path=f"{UNLABELLED}/{p.path}") for p in loose.pictures]
    aside = [SetAside(f"{UNLABELLED}/{aside.path}", aside.reason) for aside in loose.set_aside]
    loose = msgspec.structs.replace(loose, pictures=pictures, set_aside=aside)
    return found._replace(unlabelled_root=Places({UNLABELLED: str(unlabelled)}), unlabelled=loose)


def _scan(source: Path, cache: Path | None) -> Scan:
    is_table = source.suffix.lower() in TABLE_SUFFIXES and not source.is_dir()
    return scan_table(source, cache) if is_table else scan(source, cache)


def _folder_of(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def _joined(sources: dict[SplitName, Path], scans: dict[SplitName, Scan], roots: dict[SplitName, Path]) -> Found:
    """The scans as one, as if it were one folder with train/, val/ and test/."""
    train, elsewhere = scans["train"], [split for split in sources if split != "train"]
    for split in elsewhere:
        if split in train.given:
            once = f"Leave out data.{split}_source, or give the train folder alone."
            must, got = f"must not hold {split} pictures as well", f"some, and those in {sources[split]}"
            raise DataError(sources["train"], must, got, once)
        if scans[split].given:
            must, got = f"must hold the {split} pictures alone, without splits", " and ".join(scans[split].given)
            raise DataError(sources[split], must, got, "Give the folder of the one that is meant.")
        if differs := differing(scans[split].classes, train.classes):
            same = "Rename, add or remove classes until both have the same."
            raise DataError(sources[split], f"must hold the same classes as {sources['train']}", differs, same)
    pictures: list[Picture] = []
    set_aside: list[SetAside] = []
    for split, one in scans.items():
        plain = not one.given
        pictures += [_under(p, p.given or split, plain or split in one.tables) for p in one.pictures]
        set_aside += [SetAside(f"{split}/{a.path}" if plain else a.path, a.reason) for a in one.set_aside]
    given = [split for split in SPLIT_NAMES if split in (*train.given, "train", *elsewhere)]
    own = roots["train"]
    in_train = {split: str(own if split in train.tables else own / split) for split in train.given}
    folders = {split: str(root) for split, root in roots.items()} | in_train
    pictures.sort(key=lambda picture: picture.path)
    tables = {split: one.tables[split] for split, one in scans.items() if split in one.tables}
    tables = {split: train.tables[split] for split in train.given if split in train.tables} | tables
    labels = [(p.class_name, p.given or "") if tables else () for p in pictures]
    return Found(
        Places(folders),
        Scan(
            root=train.root,
            classes=train.classes,
            given=given,
            pictures=pictures,
            set_aside=sorted(set_aside, key=lambda aside: aside.path),
            ignored=sum(one.ignored for one in scans.values()),
            content=content_of([(p.path, p.sha256, *label) for p, label in zip(pictures, labels, strict=True)]),
            tables=tables,
        ),
    )


def _under(picture: Picture, split: SplitName, prefixed: bool) -> Picture:
    """The picture as one of the split, its id under the split's name."""
    path = f"{split}/{picture.path}" if prefixed else picture.path
    return msgspec.structs.replace(picture, path=path, given=split)
