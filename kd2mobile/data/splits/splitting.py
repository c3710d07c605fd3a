"""The stage `split`: finds the images that belong together, draws the splits and writes split.json and groups.json."""

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
from kd2mobile.data.thumbnails import Thumbnails, make_thumbnails
from kd2mobile.errors import DataError
from kd2mobile.files import write_bytes
from kd2mobile.pixels import DeepImages, deep_images
from kd2mobile.recipe import schema
from kd2mobile.text import count_of


def split_images(
    folder: Path, root: Root, scan: Scan, data: schema.Data, thumbnails: Thumbnails | None = None
) -> dict[str, Any]:
    """Draws the splits that the source does not give, and writes split.json and groups.json.

    Images that cannot be decoded are skipped. Drawn splits take the fractions data.val and data.test of each class, at
    least one image, out of train; the draw depends on data.seed and the content of the images alone.
    Copies, near duplicates (data.groups) and images with one key (data.group_by) stay in one drawn split, because an
    image in both train and test would inflate the score. If the source gives them to several splits, they stay there
    and are reported as leaks.

    root: what the ids of the scan are relative to. thumbnails: of the images of the scan; made here if left out.
    Returns the counts for the record. Raises DataError if a class has too few images for each split to get one.
    """
    folder = Path(folder)
    thumbnails = thumbnails or make_thumbnails(root, scan.images)
    decoded = thumbnails.decoded
    broken = [Skipped(p.path, decoded[p.sha256].reason) for p in scan.images if decoded[p.sha256].reason]
    readable = [p for p in scan.images if not decoded[p.sha256].reason]
    skipped = sorted(scan.skipped + broken, key=lambda file: file.path)
    # refusals first, then what is only reported
    explain = _explained(scan, skipped)
    for split in scan.given:
        _refuse_empty(split, scan.classes, readable, explain)
    missing = [name for name in SPLIT_NAMES if name not in scan.given and name != "train"]
    if missing:
        _refuse_copied_class(scan.classes, readable, explain)
    deep = deep_images([values for p in readable if (values := decoded[p.sha256].values)])
    _report_depth(deep)  # before near duplicates: images that come out all white look the same
    keys = group_keys(scan.images, data.group_by)
    # the groups before the draw, which keeps each in one split
    near, together = _chains(thumbnails, readable, keys, data)
    drawn = draw_splits(readable, scan.classes, missing, data, explain, together)
    labels = {name: label for label, name in enumerate(scan.classes)}
    samples = [
        Sample(p.path, labels[p.class_name], split_name, p.sha256, decoded[p.sha256].width, decoded[p.sha256].height)
        for p, split_name in zip(readable, drawn, strict=True)
    ]
    split = Split(scan.classes, samples, skipped, *_same_images(samples))
    without_key = len(readable) - sum(p.path in keys for p in readable) if data.group_by else 0
    near_duplicates = near_groups(near, split)
    near.join_all(contents_by_key(readable, keys))
    groups = Groups(data.groups, near_duplicates, data.group_by, without_key, leaked_test_images(near, samples))
    _write(folder, split, groups)
    _report(split, scan.system_files)
    _report_groups(split, groups, len(set(keys.values())), [name for name in ("val", "test") if name in scan.given])
    return {
        "classes": len(split.classes),
        **{name: len(split.samples_of(name)) for name in SPLIT_NAMES},
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
    } | _deep_images_record(deep)


def split_unlabelled(
    folder: Path,
    root: Root,
    scan: Scan,
    labelled: Split,
    thumbnails: Thumbnails | None = None,
    labelled_thumbnails: Thumbnails | None = None,
    groups: bool = True,
) -> dict[str, Any]:
    """Writes split.json and groups.json of the unlabelled images: all in the split `unlabelled`, with label -1.

    An image that is also labelled is skipped: the student already learns from its copy in train, and a copy of a val or
    test image would be a leak, which is reported and counted.

    labelled: the split of the labelled images. groups: whether near duplicates of val and test images are skipped too.
    thumbnails: of the images of the scan; made here if left out. labelled_thumbnails: of the labelled images; without
    them near duplicates of those are not found.
    Returns the counts for the record. Raises DataError if no image is left.
    """
    folder = Path(folder)
    thumbnails = thumbnails or make_thumbnails(root, scan.images)
    near = Chains()
    for content, other_content, difference in near_pairs(
        labelled_thumbnails.merged_with(thumbnails) if labelled_thumbnails else thumbnails
    ):
        near.join(content, other_content, difference)
    # an image that has a label, or looks like one of val or test, would teach what is evaluated
    by_content = {sample.sha256: sample for sample in labelled.samples}
    tested = {near.group_of(s.sha256): s for s in reversed(labelled.samples) if s.split != "train"} if groups else {}
    samples, skipped, leaks, near_leaks = [], list(scan.skipped), [], 0
    for p in scan.images:
        decoded, same = thumbnails.decoded[p.sha256], by_content.get(p.sha256)
        if decoded.reason:
            skipped.append(Skipped(p.path, decoded.reason))
        elif same:
            skipped.append(Skipped(p.path, f"the same image as {same.path}, which has a label ({same.split})"))
            leaks += [Leak([p.path, same.path], [UNLABELLED, same.split])] if same.split != "train" else []
        elif similar := tested.get(near.group_of(p.sha256)):
            skipped.append(Skipped(p.path, f"looks like {similar.path}, which is a {similar.split} image"))
            near_leaks += 1
        else:
            samples.append(Sample(p.path, -1, UNLABELLED, p.sha256, decoded.width, decoded.height))
    skipped.sort(key=lambda file: file.path)
    if not samples:
        first = f"{len(skipped)} skipped, first {skipped[0].path}: {skipped[0].reason}"
        must = "must hold a readable image without a label"
        raise DataError(scan.root, must, f"none ({first})", "Add images, or leave data.unlabelled out.")
    # write, then report
    duplicates, _, _ = _same_images(samples)
    split = Split(labelled.classes, samples, skipped, duplicates, leaks)
    both = near_groups(near, Split(labelled.classes, labelled.samples + samples))
    _write(folder, split, Groups(groups, both))
    deep = deep_images([values for p in samples if (values := thumbnails.decoded[p.sha256].values)])
    _report_depth(deep)
    _report(split, scan.system_files)
    if near_leaks:
        progress.say(
            f"split: {count_of(near_leaks, 'unlabelled image')} skipped: near duplicates of val or test images"
        )
    return {
        UNLABELLED: len(samples),
        "skipped": len(skipped),
        "ignored_files": scan.ignored,
        "system_files": scan.system_files,
        "duplicates": len(duplicates),
        "leaks": len(leaks),
        "near_leaks": near_leaks,
    } | _deep_images_record(deep)


def _deep_images_record(deep: DeepImages | None) -> dict[str, Any]:
    """The entry `deep_images` of the record; empty without images of more than 8 bits per channel."""
    return {"deep_images": msgspec.to_builtins(deep)} if deep else {}


def _chains(
    thumbnails: Thumbnails, readable: list[ScannedImage], keys: dict[str, str], data: schema.Data
) -> tuple[Chains, Chains]:
    """The groups of all near duplicates, and the groups that a draw must keep together, among its own images."""
    drawn_from = {p.sha256 for p in readable if p.given in (None, "train")}
    near, together = Chains(), Chains()
    for content, other_content, difference in near_pairs(thumbnails):
        near.join(content, other_content, difference)
        if data.groups and content in drawn_from and other_content in drawn_from:
            together.join(content, other_content)
    together.join_all(contents_by_key((p for p in readable if p.sha256 in drawn_from), keys))
    return near, together


def _explained(scan: Scan, skipped: list[Skipped]) -> Explain:
    def explain(class_name: str, split: SplitName | None) -> tuple[str, str]:
        of_class = scan.skipped_of(class_name, split, skipped)
        skipped_note = f" ({len(of_class)} skipped, first {of_class[0].path}: {of_class[0].reason})" if of_class else ""
        return scan.location_of(class_name, split), skipped_note

    return explain


def _refuse_empty(split: SplitName, classes: list[str], readable: list[ScannedImage], explain: Explain) -> None:
    """Raises DataError if a given split has no readable image of a class."""
    counts = Counter(p.class_name for p in readable if p.given == split)
    for name in classes:
        if not counts[name]:
            where, skipped_note = explain(name, split)
            next_step = "Add readable images of the class there."
            raise DataError(where, "must hold at least 1 readable image", f"none{skipped_note}", next_step)


def _refuse_copied_class(classes: list[str], readable: list[ScannedImage], explain: Explain) -> None:
    """Raises DataError for a class whose images are all in another class too: any score would count them as wrong."""
    samples = [Sample(p.path, classes.index(p.class_name), "train", p.sha256, 0, 0) for p in readable]
    for copy in Split(classes, samples).copied_classes():
        given = next(p.given for p in readable if p.class_name == copy.name)
        next_step = f"Remove one of the two classes, or merge them: {copy.of!r} holds the same images."
        if copy.more:
            next_step = f"Remove {copy.name!r}, or remove these images from {copy.of!r}."
        must, got = "must hold images of its own", copy.words() if copy.more else f"a copy: {copy.words()}"
        raise DataError(explain(copy.name, given)[0], must, got, next_step)


def _same_images(samples: list[Sample]) -> tuple[list[list[str]], list[Leak], list[list[str]]]:
    """The duplicates, leaks and contradictions among the samples: see Split."""
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
    """Prints a line about each fact that a user should know before the results: skipped files, copies, leaks, ..."""
    if system_files:
        system = count_of(system_files, "file", "that systems leave among images")
        progress.say(f"split: skipped {system} (thumbnails, what was thrown away, ...)")
    if split.skipped:
        first = split.skipped[0]
        skipped_note = count_of(len(split.skipped), "file", "skipped")
        progress.say(f"split: {skipped_note}, first {first.path!r}: {first.reason}")
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
    """Prints the groups, and the number of leaked test images."""
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
        near = count_of(len(groups.near_duplicates), "group", "of near duplicates")
        progress.say(f"split: {near}, {count_of(images, 'image')}: {where}")
    if groups.leaked:
        test = count_of(len(split.samples_of("test")), "test image")
        progress.say(
            f"split: {len(groups.leaked):,} of {test} are also in train or val, or in a group with one of them, first "
            f"{groups.leaked[0]!r}: the report also gives the scores without them"
        )


def _write(folder: Path, split: Split, groups: Groups) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"groups.json": groups, "split.json": split}.items():
        write_bytes(folder / name, msgspec.json.format(msgspec.json.encode(content), indent=1))
