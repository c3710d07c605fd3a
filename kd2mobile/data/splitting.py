"""The stage `split`: every picture is decoded once, then the splits are drawn by seed and written down."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile import progress, schema
from kd2mobile.data.draw import Explain, draw_splits
from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.places import Root
from kd2mobile.data.scan import Picture, Scan
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, Leak, Sample, SetAside, Split, SplitName
from kd2mobile.errors import DataError, PictureError, count_of
from kd2mobile.pixels import DeepImages, Range, deep_images, examine

CHECKED = "checked.jsonl"
"""Beside the split while it is made: what each picture's decoding gave, so that a killed call goes on from there."""


class _Checked(msgspec.Struct, frozen=True):
    """What decoding gave. values: of an image of more than 8 bits; reason: empty if the picture is whole."""

    sha256: str
    width: int = 0
    height: int = 0
    values: Range | None = None
    reason: str = ""


def split_pictures(folder: Path, root: Root, scan: Scan, data: schema.Data) -> dict[str, Any]:
    """Decodes every picture once, draws the splits that the folders do not give and writes split.json.

    A picture that cannot be decoded is set aside. Drawn splits take data.val and data.test of each class (at least
    one picture) out of train; the draw depends on data.seed and the pictures' content alone. Files that are the same
    byte for byte stay in one split when it is drawn: a picture in train and test both would inflate the score. Where
    the folders put them into several splits they stay there and are reported as leaks; nothing is dropped.
    Returns the counts for the record. Raises DataError if a class has too few pictures for each split to get one.
    """
    folder = Path(folder)
    checked = _decode_all(folder, root, scan.pictures)
    broken = [SetAside(p.path, checked[p.sha256].reason) for p in scan.pictures if checked[p.sha256].reason]
    whole = [p for p in scan.pictures if not checked[p.sha256].reason]
    set_aside = sorted(scan.set_aside + broken, key=lambda aside: aside.path)
    explain = _explained(scan, set_aside)
    for split in scan.given:
        _refuse_empty(split, scan.classes, whole, explain)
    missing = [name for name in SPLIT_NAMES if name not in scan.given and name != "train"]
    if missing:
        _refuse_copied_class(scan.classes, whole, explain)
    places = draw_splits(whole, scan.classes, missing, data, explain)
    labels = {name: label for label, name in enumerate(scan.classes)}
    samples = [
        Sample(p.path, labels[p.class_name], place, p.sha256, checked[p.sha256].width, checked[p.sha256].height)
        for p, place in zip(whole, places, strict=True)
    ]
    split = Split(scan.classes, samples, set_aside, *_same_pictures(samples))
    _write(folder / "split.json", msgspec.json.format(msgspec.json.encode(split), indent=1))
    (folder / CHECKED).unlink(missing_ok=True)
    deep = deep_images([values for p in whole if (values := checked[p.sha256].values)])
    _report(split, scan.system_files, deep)
    return {
        "classes": len(split.classes),
        **{name: len(split.of(name)) for name in SPLIT_NAMES},
        "given": list(scan.given),
        "set_aside": len(set_aside),
        "ignored_files": scan.ignored,
        "system_files": scan.system_files,
        "duplicates": len(split.duplicates),
        "leaks": len(split.leaks),
        "contradictions": len(split.contradictions),
    } | _of_deep(deep)


def split_unlabelled(folder: Path, root: Root, scan: Scan, labelled: Split) -> dict[str, Any]:
    """Decodes every unlabelled picture once and writes split.json: all of them of the split `unlabelled`, label -1.

    labelled: the split of the pictures with labels. A picture that is one of those is set aside: in train it is learned
    from already, and in val or test it would be a leak, which is said and counted.
    Returns the counts for the record. Raises DataError if none is left.
    """
    folder = Path(folder)
    checked = _decode_all(folder, root, scan.pictures)
    known = {sample.sha256: sample for sample in labelled.samples}
    samples, set_aside, leaks = [], list(scan.set_aside), []
    for p in scan.pictures:
        found, same = checked[p.sha256], known.get(p.sha256)
        if found.reason:
            set_aside.append(SetAside(p.path, found.reason))
        elif same:
            set_aside.append(SetAside(p.path, f"the same picture as {same.path}, which has a label ({same.split})"))
            leaks += [Leak([p.path, same.path], [UNLABELLED, same.split])] if same.split != "train" else []
        else:
            samples.append(Sample(p.path, -1, UNLABELLED, p.sha256, found.width, found.height))
    set_aside.sort(key=lambda aside: aside.path)
    if not samples:
        first = f"{len(set_aside)} set aside, first {set_aside[0].path}: {set_aside[0].reason}"
        must = "must hold a picture that can be decoded and has no label"
        raise DataError(scan.root, must, f"none ({first})", "Add pictures, or leave data.unlabelled out.")
    duplicates, _, _ = _same_pictures(samples)
    split = Split(labelled.classes, samples, set_aside, duplicates, leaks)
    _write(folder / "split.json", msgspec.json.format(msgspec.json.encode(split), indent=1))
    (folder / CHECKED).unlink(missing_ok=True)
    deep = deep_images([values for p in samples if (values := checked[p.sha256].values)])
    _report(split, scan.system_files, deep)
    return {
        UNLABELLED: len(samples),
        "set_aside": len(set_aside),
        "ignored_files": scan.ignored,
        "system_files": scan.system_files,
        "duplicates": len(duplicates),
        "leaks": len(leaks),
    } | _of_deep(deep)


def _of_deep(deep: DeepImages | None) -> dict[str, Any]:
    """For the record, where there are images of more than 8 bits."""
    return {"deep_images": msgspec.to_builtins(deep)} if deep else {}


def _decode_all(folder: Path, root: Root, pictures: list[Picture]) -> dict[str, _Checked]:
    """What decoding gives for each content, from the files that a killed call has not looked at yet."""
    folder.mkdir(parents=True, exist_ok=True)
    checked = {entry.sha256: entry for entry in _read_checked(folder / CHECKED)}
    unknown = list({p.sha256: p for p in pictures if p.sha256 not in checked}.values())
    if not unknown:
        return checked

    def check(picture: "Picture") -> _Checked:
        try:
            return _Checked(picture.sha256, *examine(root / picture.path))
        except PictureError as fault:
            return _Checked(picture.sha256, reason=str(fault.got))

    with (
        open(folder / CHECKED, "ab") as journal,
        progress.bar("checking pictures", len(unknown), "pictures") as advance,
    ):
        for entry in in_threads(check, unknown):
            checked[entry.sha256] = entry
            journal.write(msgspec.json.encode(entry) + b"\n")
            advance(1)
    return checked


def _read_checked(path: Path) -> Iterator[_Checked]:
    if not path.exists():
        return
    whole, _, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        path.write_bytes(whole + b"\n" if whole else b"")
    for line in whole.splitlines():
        yield msgspec.json.decode(line, type=_Checked)


def _explained(scan: Scan, set_aside: list[SetAside]) -> Explain:
    def explain(class_name: str, split: SplitName | None) -> tuple[str, str]:
        gone = scan.set_aside_of(class_name, split, set_aside)
        aside = f" ({len(gone)} set aside, first {gone[0].path}: {gone[0].reason})" if gone else ""
        return scan.place_of(class_name, split), aside

    return explain


def _refuse_empty(split: SplitName, classes: list[str], whole: list[Picture], explain: Explain) -> None:
    """A split that is given needs a picture of each class."""
    counts = Counter(p.class_name for p in whole if p.given == split)
    for name in classes:
        if not counts[name]:
            where, aside = explain(name, split)
            add = "Add whole pictures of the class there."
            raise DataError(where, "must hold at least 1 picture that can be decoded", f"none{aside}", add)


def _refuse_copied_class(classes: list[str], whole: list[Picture], explain: Explain) -> None:
    """Of a class whose pictures all lie in another one, none can be drawn: a score would count them wrong."""
    samples = [Sample(p.path, classes.index(p.class_name), "train", p.sha256, 0, 0) for p in whole]
    for copy in Split(classes, samples).copied_classes():
        given = next(p.given for p in whole if p.class_name == copy.name)
        one = f"Remove one of the two, or put them together: {copy.of!r} holds the same."
        must = "must hold pictures that no other class holds"
        raise DataError(explain(copy.name, given)[0], must, f"a copy: {copy.words()}", one)


def _same_pictures(samples: list[Sample]) -> tuple[list[list[str]], list[Leak], list[list[str]]]:
    """Duplicates, leaks and contradictions."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.sha256].append(sample)
    duplicates, leaks, contradictions = [], [], []
    for group in groups.values():
        if len(group) == 1:
            continue
        paths = [sample.path for sample in group]
        duplicates.append(paths)
        splits = [name for name in SPLIT_NAMES if any(sample.split == name for sample in group)]
        if len(splits) > 1:
            leaks.append(Leak(paths, splits))
        if len({sample.label for sample in group}) > 1:
            contradictions.append(paths)
    return duplicates, leaks, contradictions


def _report(split: Split, system_files: int, deep: DeepImages | None) -> None:
    """One line for each thing a person should know before the numbers."""
    if deep and deep.odd:
        progress.say(f"split: {deep.words()}")
    if system_files:
        left = count_of(system_files, "file", "that systems leave among images")
        progress.say(f"split: skipped {left} (thumbnails, what was thrown away, ...)")
    if split.set_aside:
        first = split.set_aside[0]
        aside = count_of(len(split.set_aside), "file", "set aside")
        progress.say(f"split: {aside}, first {first.path!r}: {first.reason}")
    if split.duplicates:
        extra = sum(len(paths) - 1 for paths in split.duplicates)
        copies = count_of(extra, "picture", "the same as another")
        progress.say(f"split: {copies}, first of {split.duplicates[0][0]!r}")
    if split.leaks and UNLABELLED in split.leaks[0].splits:
        own, other = split.leaks[0].paths
        progress.say(
            f"split: {count_of(len(split.leaks), 'unlabelled picture')} also in val or test, first {own!r}, "
            f"the same as {other!r}: not used"
        )
    elif split.leaks:
        first = split.leaks[0]
        where = " and ".join(first.splits)
        progress.say(
            f"split: {count_of(len(split.leaks), 'picture')} in several splits, first {first.paths[0]!r} in {where}: "
            "the scores are better than they should be"
        )
    for copy in split.copied_classes():
        progress.say(f"split: {copy.words()}: one label is wrong, or the classes are one")
    if single := split.single_contradictions():
        paths = single[0]
        progress.say(f"split: {count_of(len(single), 'picture')} in several classes, first {paths[0]!r}, {paths[1]!r}")


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
