"""The stage `split`: what belongs together is found, then the splits are drawn by seed and written down."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile import progress
from kd2mobile.data.sources.roots import Root
from kd2mobile.data.sources.scan import Scan, ScannedImage
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, Groups, Leak, Sample, Skipped, Split, SplitName
from kd2mobile.data.splits.draw import Explain, draw_splits
from kd2mobile.data.splits.groups import Chains, contents_by_key, group_keys, leaked_test_images, near_groups
from kd2mobile.data.splits.near_duplicates import near_pairs
from kd2mobile.data.thumbnails import Thumbnails, look_at
from kd2mobile.errors import DataError
from kd2mobile.files import write_bytes
from kd2mobile.pixels import DeepImages, deep_images
from kd2mobile.recipe import schema
from kd2mobile.text import count_of


def split_images(
    folder: Path, root: Root, scan: Scan, data: schema.Data, thumbnails: Thumbnails | None = None
) -> dict[str, Any]:
    """Draws the splits that the folders do not give and writes split.json, and groups.json beside it.

    thumbnails: of the images of the scan, made here where they are left out.
    An image that cannot be decoded is skipped. Drawn splits take data.val and data.test of each class (at least one
    image) out of train; the draw depends on data.seed and the images' content alone. Near duplicates (data.groups),
    images of one key (data.group_by) and files that are the same byte for byte stay in one split when it is drawn: an
    image in train and test both would inflate the score. Where the folders put them into several splits they stay
    there and are reported as leaks; nothing is dropped.
    Returns the counts for the record. Raises DataError if a class has too few images for each split to get one.
    """
    folder = Path(folder)
    thumbnails = thumbnails or look_at(root, scan.images)
    decoded = thumbnails.decoded
    broken = [Skipped(p.path, decoded[p.sha256].reason) for p in scan.images if decoded[p.sha256].reason]
    whole = [p for p in scan.images if not decoded[p.sha256].reason]
    skipped = sorted(scan.skipped + broken, key=lambda aside: aside.path)
    explain = _explained(scan, skipped)
    for split in scan.given:
        _refuse_empty(split, scan.classes, whole, explain)
    missing = [name for name in SPLIT_NAMES if name not in scan.given and name != "train"]
    if missing:
        _refuse_copied_class(scan.classes, whole, explain)
    deep = deep_images([values for p in whole if (values := decoded[p.sha256].values)])
    _report_depth(deep)  # before near duplicates: images that come out all white look the same
    keys = group_keys(scan.images, data.group_by)
    near, together = _chains(thumbnails, whole, keys, data)
    places = draw_splits(whole, scan.classes, missing, data, explain, together)
    labels = {name: label for label, name in enumerate(scan.classes)}
    samples = [
        Sample(p.path, labels[p.class_name], place, p.sha256, decoded[p.sha256].width, decoded[p.sha256].height)
        for p, place in zip(whole, places, strict=True)
    ]
    split = Split(scan.classes, samples, skipped, *_same_images(samples))
    without_key = len(whole) - sum(p.path in keys for p in whole) if data.group_by else 0
    near_found = near_groups(near, split)
    near.join_all(contents_by_key(whole, keys))
    groups = Groups(data.groups, near_found, data.group_by, without_key, leaked_test_images(near, samples))
    _write(folder, split, groups)
    _report(split, scan.system_files)
    _report_groups(split, groups, len(set(keys.values())), [name for name in ("val", "test") if name in scan.given])
    return {
        "classes": len(split.classes),
        **{name: len(split.of(name)) for name in SPLIT_NAMES},
        "given": list(scan.given),
        "skipped": len(skipped),
        "ignored_files": scan.ignored,
        "system_files": scan.system_files,
        "duplicates": len(split.duplicates),
        "leaks": len(split.leaks),
        "contradictions": len(split.contradictions),
        "groups": data.groups,
        "near_duplicates": len(groups.near_duplicates),
        "leaked_test_images": len(groups.leaked),
    } | _of_deep(deep)


def split_unlabelled(
    folder: Path,
    root: Root,
    scan: Scan,
    labelled: Split,
    thumbnails: Thumbnails | None = None,
    labelled_thumbnails: Thumbnails | None = None,
    groups: bool = True,
) -> dict[str, Any]:
    """Writes split.json of the unlabelled images: all of them of the split `unlabelled`, label -1; and groups.json.

    labelled: the split of the images with labels. An image that is one of those is skipped: in train it is learned
    from already, and in val or test it would be a leak, which is said and counted. groups: whether one that looks like
    one of val or test is skipped too. thumbnails: of the images of the scan, made here where they are left out;
    labelled_thumbnails: of the others, without which nothing looks like them.
    Returns the counts for the record. Raises DataError if none is left.
    """
    folder = Path(folder)
    thumbnails = thumbnails or look_at(root, scan.images)
    near = Chains()
    for one, other, difference in near_pairs(
        labelled_thumbnails.beside(thumbnails) if labelled_thumbnails else thumbnails
    ):
        near.join(one, other, difference)
    known = {sample.sha256: sample for sample in labelled.samples}
    tested = {near.of(s.sha256): s for s in reversed(labelled.samples) if s.split != "train"} if groups else {}
    samples, skipped, leaks, alike = [], list(scan.skipped), [], 0
    for p in scan.images:
        found, same = thumbnails.decoded[p.sha256], known.get(p.sha256)
        if found.reason:
            skipped.append(Skipped(p.path, found.reason))
        elif same:
            skipped.append(Skipped(p.path, f"the same image as {same.path}, which has a label ({same.split})"))
            leaks += [Leak([p.path, same.path], [UNLABELLED, same.split])] if same.split != "train" else []
        elif like := tested.get(near.of(p.sha256)):
            skipped.append(Skipped(p.path, f"looks like {like.path}, which is a {like.split} image"))
            alike += 1
        else:
            samples.append(Sample(p.path, -1, UNLABELLED, p.sha256, found.width, found.height))
    skipped.sort(key=lambda aside: aside.path)
    if not samples:
        first = f"{len(skipped)} skipped, first {skipped[0].path}: {skipped[0].reason}"
        must = "must hold a readable image without a label"
        raise DataError(scan.root, must, f"none ({first})", "Add images, or leave data.unlabelled out.")
    duplicates, _, _ = _same_images(samples)
    split = Split(labelled.classes, samples, skipped, duplicates, leaks)
    both = near_groups(near, Split(labelled.classes, labelled.samples + samples))
    _write(folder, split, Groups(groups, both))
    deep = deep_images([values for p in samples if (values := thumbnails.decoded[p.sha256].values)])
    _report_depth(deep)
    _report(split, scan.system_files)
    if alike:
        progress.say(f"split: {count_of(alike, 'unlabelled image')} skipped: near duplicates of val or test images")
    return {
        UNLABELLED: len(samples),
        "skipped": len(skipped),
        "ignored_files": scan.ignored,
        "system_files": scan.system_files,
        "duplicates": len(duplicates),
        "leaks": len(leaks),
        "near_leaks": alike,
    } | _of_deep(deep)


def _of_deep(deep: DeepImages | None) -> dict[str, Any]:
    """For the record, where there are images of more than 8 bits."""
    return {"deep_images": msgspec.to_builtins(deep)} if deep else {}


def _chains(
    thumbnails: Thumbnails, whole: list[ScannedImage], keys: dict[str, str], data: schema.Data
) -> tuple[Chains, Chains]:
    """All near duplicates; and what belongs together among the images that are drawn from."""
    drawn_from = {p.sha256 for p in whole if p.given in (None, "train")}
    near, together = Chains(), Chains()
    for one, other, difference in near_pairs(thumbnails):
        near.join(one, other, difference)
        if data.groups and one in drawn_from and other in drawn_from:
            together.join(one, other)
    together.join_all(contents_by_key((p for p in whole if p.sha256 in drawn_from), keys))
    return near, together


def _explained(scan: Scan, skipped: list[Skipped]) -> Explain:
    def explain(class_name: str, split: SplitName | None) -> tuple[str, str]:
        gone = scan.skipped_of(class_name, split, skipped)
        aside = f" ({len(gone)} skipped, first {gone[0].path}: {gone[0].reason})" if gone else ""
        return scan.place_of(class_name, split), aside

    return explain


def _refuse_empty(split: SplitName, classes: list[str], whole: list[ScannedImage], explain: Explain) -> None:
    """A split that is given needs an image of each class."""
    counts = Counter(p.class_name for p in whole if p.given == split)
    for name in classes:
        if not counts[name]:
            where, aside = explain(name, split)
            add = "Add readable images of the class there."
            raise DataError(where, "must hold at least 1 readable image", f"none{aside}", add)


def _refuse_copied_class(classes: list[str], whole: list[ScannedImage], explain: Explain) -> None:
    """Of a class whose images all lie in another one, none can be drawn: a score would count them wrong."""
    samples = [Sample(p.path, classes.index(p.class_name), "train", p.sha256, 0, 0) for p in whole]
    for copy in Split(classes, samples).copied_classes():
        given = next(p.given for p in whole if p.class_name == copy.name)
        one = f"Remove one of the two classes, or merge them: {copy.of!r} holds the same images."
        if copy.more:
            one = f"Remove {copy.name!r}, or remove these images from {copy.of!r}."
        must, got = "must hold images of its own", copy.words() if copy.more else f"a copy: {copy.words()}"
        raise DataError(explain(copy.name, given)[0], must, got, one)


def _same_images(samples: list[Sample]) -> tuple[list[list[str]], list[Leak], list[list[str]]]:
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


def _report_depth(deep: DeepImages | None) -> None:
    if deep and deep.odd:
        progress.say(f"split: {deep.words()}")


def _report(split: Split, system_files: int) -> None:
    """One line for each thing a person should know before the numbers."""
    if system_files:
        left = count_of(system_files, "file", "that systems leave among images")
        progress.say(f"split: skipped {left} (thumbnails, what was thrown away, ...)")
    if split.skipped:
        first = split.skipped[0]
        aside = count_of(len(split.skipped), "file", "skipped")
        progress.say(f"split: {aside}, first {first.path!r}: {first.reason}")
    if split.duplicates:
        extra = sum(len(paths) - 1 for paths in split.duplicates)
        copies = count_of(extra, "image", "the same as another")
        progress.say(f"split: {copies}, first of {split.duplicates[0][0]!r}")
    if split.leaks and UNLABELLED in split.leaks[0].splits:
        own, other = split.leaks[0].paths
        progress.say(
            f"split: {count_of(len(split.leaks), 'unlabelled image')} also in val or test, first {own!r}, "
            f"the same as {other!r}: not used"
        )
    elif split.leaks:
        first = split.leaks[0]
        where = " and ".join(first.splits)
        progress.say(
            f"split: {count_of(len(split.leaks), 'image')} in several splits, first {first.paths[0]!r} in {where}: "
            "the measured scores are too good"
        )
    for copy in split.copied_classes():
        progress.say(f"split: {copy.words()}: either labels are wrong or the two are one class")
    if single := split.single_contradictions():
        paths = single[0]
        progress.say(f"split: {count_of(len(single), 'image')} in several classes, first {paths[0]!r}, {paths[1]!r}")


def _report_groups(split: Split, groups: Groups, keys: int, given: list[SplitName]) -> None:
    """What belongs together, and how many test images the networks may have learned from."""
    if groups.group_by:
        alone = f"; {count_of(groups.without_key, 'image')} without one, each alone" * bool(groups.without_key)
        progress.say(f"split: {count_of(keys, 'key')} by {groups.group_by!r}{alone}")
    if groups.near_duplicates:
        images = sum(len(group.paths) for group in groups.near_duplicates)
        where = (
            "each group is in one of the drawn splits" if groups.kept else "drawn independently, because of --no-groups"
        )
        if given:
            rest = "by groups" if groups.kept else "without regard to groups, because of --no-groups"
            where = f"the given {' and '.join(given)} may share a group with other splits"
            where += f"; val is drawn {rest}" * ("val" not in given) + f"; test is drawn {rest}" * ("test" not in given)
        found = count_of(len(groups.near_duplicates), "group", "of near duplicates")
        progress.say(f"split: {found}, {count_of(images, 'image')}: {where}")
    if groups.leaked:
        test = count_of(len(split.of("test")), "test image")
        progress.say(
            f"split: {len(groups.leaked):,} of {test} are also in train or val, or in a group with one of them, first "
            f"{groups.leaked[0]!r}: the report also gives the scores without them"
        )


def _write(folder: Path, split: Split, groups: Groups) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"groups.json": groups, "split.json": split}.items():
        write_bytes(folder / name, msgspec.json.format(msgspec.json.encode(content), indent=1))
