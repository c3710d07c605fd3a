"""The draw: which pictures of each class go to val and test, by seed and content."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TypeAlias

from kd2mobile.data.scan import Picture
from kd2mobile.data.split import SplitName
from kd2mobile.errors import DataError
from kd2mobile.schema import Data

Explain: TypeAlias = Callable[[str, SplitName | None], tuple[str, str]]
"""Where a message says that a class of a split lies, and what it says of its files that were set aside."""


def draw_splits(
    pictures: list[Picture], classes: list[str], missing: list[SplitName], data: Data, explain: Explain
) -> list[SplitName]:
    """The split of each picture, in their order: the given one, else `train`, `val` or `test`.

    missing: the splits that are not given. val and test come out of train, class by class: data.val and data.test of
    what the class has there, rounded, at least one picture each and at least one left to train.

    Files with the same content share a place. The pictures are taken in the order of SHA-256(seed, content), so that
    neither names nor the disk's order matter and a picture more moves few others. A content that lies in several
    classes, or also in a given val or test, stays in train. Copies can make a class's counts differ from the
    fractions; without copies they are within one picture of them.
    Raises DataError for a class with too few different pictures.
    """
    wanted = [name for name in ("test", "val") if name in missing]
    pool = [p for p in pictures if p.given in (None, "train")]
    if not wanted:
        return [p.given or "train" for p in pictures]
    judged = {p.sha256 for p in pictures if p.given in ("val", "test")}
    classes_of: dict[str, set[str]] = defaultdict(set)
    for p in pool:
        classes_of[p.sha256].add(p.class_name)
    place: dict[str, SplitName] = {}
    for name in classes:
        members = [p for p in pool if p.class_name == name]
        copies = Counter(p.sha256 for p in members)
        free = [sha for sha in copies if len(classes_of[sha]) == 1 and sha not in judged]
        pinned = len(free) < len(copies)
        if len(free) + pinned < len(wanted) + 1 or len(free) < len(wanted):
            where, aside = explain(name, members[0].given if members else None)
            _refuse(where, aside, len(members), len(copies), wanted)
        free.sort(key=lambda sha: hashlib.sha256(f"{data.seed} {sha}".encode()).digest())
        targets = _targets(len(members), wanted, data)
        place |= _draw_class(free, copies, targets, left_to_train=0 if pinned else 1)
    return [p.given if p.given in ("val", "test") else place.get(p.sha256, "train") for p in pictures]


def _targets(count: int, wanted: list[SplitName], data: Data) -> dict[SplitName, int]:
    """How many pictures of `count` each drawn split should get."""
    fractions = {"test": data.test, "val": data.val}
    targets = {name: max(1, math.floor(count * fractions[name] + 0.5)) for name in wanted}
    if sum(targets.values()) >= count:
        targets[max(targets, key=targets.__getitem__)] -= 1
    return targets


def _draw_class(
    free: list[str], copies: Counter[str], targets: dict[SplitName, int], left_to_train: int
) -> dict[str, SplitName]:
    """Contents taken in order while their copies fit; the smallest where none fits."""
    place: dict[str, SplitName] = {}
    left = list(free)
    for number, (split, target) in enumerate(targets.items(), start=1):
        reserved = len(targets) - number + left_to_train
        taken: list[str] = []
        for sha in left:
            if len(left) - len(taken) > reserved and copies[sha] <= target - sum(copies[t] for t in taken):
                taken.append(sha)
        taken = taken or [min(left, key=copies.__getitem__)]
        place |= dict.fromkeys(taken, split)
        left = [sha for sha in left if sha not in place]
    return place


def _refuse(where: str, aside: str, pictures: int, different: int, wanted: list[SplitName]) -> None:
    copies = f"{different} different among {pictures}" if different < pictures else str(pictures)
    shares = " and ".join(["train", *reversed(wanted)]) if len(wanted) == 1 else "train, val and test"
    raise DataError(
        where,
        f"must hold at least {len(wanted) + 1} different pictures that can be decoded, one each for {shares}",
        f"{copies}{aside}",
        "Add pictures to the class or remove it.",
    )
