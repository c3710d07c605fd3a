"""Draws the splits: which images of each class go to val and test, by seed and content, each group in one split."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from kd2mobile.data.sources.scan import ScannedImage
from kd2mobile.data.split import SplitName
from kd2mobile.data.splits.groups import Chains
from kd2mobile.errors import DataError
from kd2mobile.recipe.schema import Data
from kd2mobile.text import count_of

Explain: TypeAlias = Callable[[str, SplitName | None], tuple[str, str]]
"""Maps a class and a split to its location and a note on its skipped files, both for messages."""


@dataclass(eq=False)
class _Group:
    """Images that stay together. counts: images by class; contents: the SHA-256 of each different file."""

    counts: Counter[str] = field(default_factory=Counter)
    contents: set[str] = field(default_factory=set)


def draw_splits(
    images: list[ScannedImage],
    classes: list[str],
    missing: list[SplitName],
    data: Data,
    explain: Explain,
    together: Chains | None = None,
) -> list[SplitName]:
    """The split of each image, in their order: the given one, else a drawn `train`, `val` or `test`.

    Missing val and test splits are drawn from train, per class: the fractions data.val and data.test of its images,
    rounded, with at least one image each and at least one left in train.
    Files with the same content share a split, and so do the contents of a group, even of different classes. Groups are
    taken in the order of SHA-256(seed, their smallest content): file names and the order on the disk do not matter, and
    one more image moves few others. A group stays in train if one of its contents is in several classes or also in a
    given val or test. Copies and groups can make a class's counts differ from the fractions; without them the counts
    are within one image.

    missing: the splits that the source does not give. together: the groups of contents; None if there are none.
    Raises DataError for a class with too few different images or too few groups.
    """
    to_draw = [name for name in ("test", "val") if name in missing]
    if not to_draw:
        return [p.given or "train" for p in images]
    # groups are drawn, not images: what looks the same, or has one key, stays in one split
    group_of = (together or Chains()).group_of
    groups: dict[str, _Group] = defaultdict(_Group)
    classes_of: dict[str, set[str]] = defaultdict(set)
    members: dict[str, list[ScannedImage]] = {name: [] for name in classes}
    for p in images:
        if p.given in (None, "train"):
            group = groups[group_of(p.sha256)]
            group.counts[p.class_name] += 1
            group.contents.add(p.sha256)
            classes_of[p.sha256].add(p.class_name)
            members[p.class_name].append(p)
    # a group that touches a given split, or several classes, stays where it is
    stay = {p.sha256 for p in images if p.given in ("val", "test")}
    stay |= {content for content, names in classes_of.items() if len(names) > 1}
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{data.seed} {name}".encode()).digest())
    free = [groups[name] for name in order if groups[name].contents.isdisjoint(stay)]
    have_train = {name for group in groups.values() if not group.contents.isdisjoint(stay) for name in group.counts}
    left_to_train = {name: 0 if name in have_train else 1 for name in classes}

    def refuse(name: str) -> None:
        where, skipped_note = explain(name, members[name][0].given if members[name] else None)
        _refuse(where, skipped_note, members[name], [g for g in groups.values() if g.counts[name]], to_draw, data)

    # refuse before anything is drawn, then draw test first: val must not take what test needs
    drawable = Counter(name for group in free for name in group.counts)
    for name in classes:
        if drawable[name] < len(to_draw) + left_to_train[name]:
            refuse(name)
    targets = {name: _targets(len(members[name]), to_draw, data) for name in classes}
    split_of_group: dict[_Group, SplitName] = {}
    for number, split in enumerate(to_draw, start=1):
        left = [group for group in free if group not in split_of_group]
        reserved = {name: len(to_draw) - number + left_to_train[name] for name in classes}
        taken, without = _draw_split(left, {name: targets[name][split] for name in classes}, reserved)
        if without is not None:
            refuse(without)
        split_of_group |= dict.fromkeys(taken, split)
    drawn = {content: split for group, split in split_of_group.items() for content in group.contents}
    return [p.given if p.given in ("val", "test") else drawn.get(p.sha256, "train") for p in images]


def _targets(count: int, to_draw: list[SplitName], data: Data) -> dict[SplitName, int]:
    """The number of images that each drawn split should get from a class of `count` images."""
    fractions = {"test": data.test, "val": data.val}
    targets = {name: max(1, math.floor(count * fractions[name] + 0.5)) for name in to_draw}
    if sum(targets.values()) >= count:
        targets[max(targets, key=targets.__getitem__)] -= 1
    return targets


def _draw_split(
    left: list[_Group], targets: Mapping[str, int], reserved: Mapping[str, int]
) -> tuple[list[_Group], str | None]:
    """Draws the groups of one split. Returns them, and the first class that gets none, or None.

    left: the groups to choose from, in their order; targets: number of images wanted per class; reserved: number of
    groups per class that the remaining splits need.
    """
    by_class: dict[str, list[_Group]] = {name: [] for name in targets}
    for group in left:
        for name in group.counts:
            by_class[name].append(group)
    spare = {name: len(groups) - reserved[name] for name, groups in by_class.items()}
    room = dict(targets)
    taken: dict[_Group, None] = {}

    def can_take(group: _Group) -> bool:
        return group not in taken and all(spare[name] > 0 for name in group.counts)

    def take(group: _Group) -> None:
        taken[group] = None
        for name, count in group.counts.items():
            spare[name] -= 1
            room[name] -= count

    def nearer(group: _Group) -> float:
        """How much nearer to the targets the group brings the split, summed over its classes."""
        return sum((abs(room[c]) - abs(room[c] - count)) / max(1, targets[c]) for c, count in group.counts.items())

    # First every group that fits, in order. Images without a group need nothing more.
    for group in left:
        if can_take(group) and all(count <= room[name] for name, count in group.counts.items()):
            take(group)
    # Large groups may leave a gap. One more group is taken where it comes nearer to the target, though it exceeds it.
    for groups in by_class.values():
        best = max((group for group in groups if len(group.contents) > 1 and can_take(group)), key=nearer, default=None)
        if best and nearer(best) > 0:
            take(best)
    # Every class gets at least one image.
    for name, groups in by_class.items():
        if not any(group in taken for group in groups):
            smallest = min(filter(can_take, groups), key=lambda group: group.counts.total(), default=None)
            if smallest is None:
                return list(taken), name
            take(smallest)
    return list(taken), None


def _refuse(
    where: str,
    skipped_note: str,
    members: Sequence[ScannedImage],
    groups: list[_Group],
    to_draw: list[SplitName],
    data: Data,
) -> None:
    """Raises DataError: the class has too few images, or its images are in too few groups."""
    different = len({p.sha256 for p in members})
    shares = " and ".join(["train", *reversed(to_draw)]) if len(to_draw) == 1 else "train, val and test"
    least = len(to_draw) + 1
    if different == len(groups) and all(len(group.contents) == 1 for group in groups):
        copies = f"{different} different among {len(members)}" if different < len(members) else str(len(members))
        raise DataError(
            where,
            f"must hold at least {least} different readable images, one each for {shares}",
            f"{copies}{skipped_note}",
            "Add images to the class or remove it.",
        )
    kept = ["near duplicates"] * data.groups + [f"images with one key of {data.group_by!r}"] * bool(data.group_by)
    apart = ["--no-groups (data.groups = false)"] * data.groups + ["no --group-by"] * bool(data.group_by)
    raise DataError(
        where,
        f"must hold at least {least} groups of images that may be drawn apart, one each for {shares}",
        f"{count_of(len(groups), 'group')} of {count_of(len(members), 'image')}, because {' and '.join(kept)} are kept "
        f"together{skipped_note}",
        f"Add other images to the class, or draw them apart with {' and '.join(apart)}.",
    )
