"""The draw: which images of each class go to val and test, by seed and content, a group of them together."""

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
"""Where a message says that a class of a split lies, and what it says of its files that were skipped."""


@dataclass(eq=False)
class _Group:
    """Images that stay together. counts: by class; contents: the SHA-256 of each different file."""

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
    """The split of each image, in their order: the given one, else `train`, `val` or `test`.

    missing: the splits that are not given. val and test come out of train, class by class: data.val and data.test of
    what the class has there, rounded, at least one image each and at least one left to train. together: the groups of
    the contents to draw from; by default each is alone.

    Files with the same content share a split, and so do the contents of a group, whatever classes they have. Groups
    are taken in the order of SHA-256(seed, their smallest content), so that neither names nor the disk's order matter
    and an image more moves few others. A group with a content that itself lies in several classes, or also in a given
    val or test, stays in train. Copies and groups can make a class's counts differ from the fractions; without them
    they are within one image of them.
    Raises DataError for a class with too few different images, or too few groups of them.
    """
    wanted = [name for name in ("test", "val") if name in missing]
    if not wanted:
        return [p.given or "train" for p in images]
    group_of = (together or Chains()).of
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
    stay = {p.sha256 for p in images if p.given in ("val", "test")}
    stay |= {content for content, names in classes_of.items() if len(names) > 1}
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{data.seed} {name}".encode()).digest())
    free = [groups[name] for name in order if groups[name].contents.isdisjoint(stay)]
    have_train = {name for group in groups.values() if not group.contents.isdisjoint(stay) for name in group.counts}
    left_to_train = {name: 0 if name in have_train else 1 for name in classes}

    def refuse(name: str) -> None:
        where, aside = explain(name, members[name][0].given if members[name] else None)
        _refuse(where, aside, members[name], [g for g in groups.values() if g.counts[name]], wanted, data)

    drawable = Counter(name for group in free for name in group.counts)
    for name in classes:
        if drawable[name] < len(wanted) + left_to_train[name]:
            refuse(name)
    targets = {name: _targets(len(members[name]), wanted, data) for name in classes}
    place: dict[_Group, SplitName] = {}
    for number, split in enumerate(wanted, start=1):
        left = [group for group in free if group not in place]
        reserved = {name: len(wanted) - number + left_to_train[name] for name in classes}
        taken, without = _draw_one(left, {name: targets[name][split] for name in classes}, reserved)
        if without is not None:
            refuse(without)
        place |= dict.fromkeys(taken, split)
    drawn = {content: split for group, split in place.items() for content in group.contents}
    return [p.given if p.given in ("val", "test") else drawn.get(p.sha256, "train") for p in images]


def _targets(count: int, wanted: list[SplitName], data: Data) -> dict[SplitName, int]:
    """How many images of `count` each drawn split should get."""
    fractions = {"test": data.test, "val": data.val}
    targets = {name: max(1, math.floor(count * fractions[name] + 0.5)) for name in wanted}
    if sum(targets.values()) >= count:
        targets[max(targets, key=targets.__getitem__)] -= 1
    return targets


def _draw_one(
    left: list[_Group], targets: Mapping[str, int], reserved: Mapping[str, int]
) -> tuple[list[_Group], str | None]:
    """The groups of one split, out of those that are left in their order, and a class that gets none, if there is one.

    targets: images of each class; reserved: groups of each class that the splits to come need.
    """
    by_class: dict[str, list[_Group]] = {name: [] for name in targets}
    for group in left:
        for name in group.counts:
            by_class[name].append(group)
    spare = {name: len(groups) - reserved[name] for name, groups in by_class.items()}
    room = dict(targets)
    taken: dict[_Group, None] = {}

    def may_go(group: _Group) -> bool:
        return group not in taken and all(spare[name] > 0 for name in group.counts)

    def take(group: _Group) -> None:
        taken[group] = None
        for name, count in group.counts.items():
            spare[name] -= 1
            room[name] -= count

    def nearer(group: _Group) -> float:
        """How much nearer to the targets the group brings the split, its classes alike."""
        return sum((abs(room[c]) - abs(room[c] - count)) / max(1, targets[c]) for c, count in group.counts.items())

    # First whatever fits, in order: of images without a group this is all there is to do.
    for group in left:
        if may_go(group) and all(count <= room[name] for name, count in group.counts.items()):
            take(group)
    # Large groups may have left a gap that one more fills better than none, though it is larger than the gap.
    for groups in by_class.values():
        best = max((group for group in groups if len(group.contents) > 1 and may_go(group)), key=nearer, default=None)
        if best and nearer(best) > 0:
            take(best)
    # No class is without an image.
    for name, groups in by_class.items():
        if not any(group in taken for group in groups):
            smallest = min(filter(may_go, groups), key=lambda group: group.counts.total(), default=None)
            if smallest is None:
                return list(taken), name
            take(smallest)
    return list(taken), None


def _refuse(
    where: str, aside: str, members: Sequence[ScannedImage], groups: list[_Group], wanted: list[SplitName], data: Data
) -> None:
    """Says that a class has too few images, or enough of them in too few groups."""
    different = len({p.sha256 for p in members})
    shares = " and ".join(["train", *reversed(wanted)]) if len(wanted) == 1 else "train, val and test"
    least = len(wanted) + 1
    if different == len(groups) and all(len(group.contents) == 1 for group in groups):
        copies = f"{different} different among {len(members)}" if different < len(members) else str(len(members))
        raise DataError(
            where,
            f"must hold at least {least} different readable images, one each for {shares}",
            f"{copies}{aside}",
            "Add images to the class or remove it.",
        )
    kept = ["near duplicates"] * data.groups + [f"images with one key of {data.group_by!r}"] * bool(data.group_by)
    apart = ["--no-groups (data.groups = false)"] * data.groups + ["no --group-by"] * bool(data.group_by)
    raise DataError(
        where,
        f"must hold at least {least} groups of images that may be drawn apart, one each for {shares}",
        f"{count_of(len(groups), 'group')} of {count_of(len(members), 'image')}, {' and '.join(kept)} being one{aside}",
        f"Add other images to the class, or draw them apart with {' and '.join(apart)}.",
    )
