"""Which images belong together: near duplicates, and those of one key. Decided before the split is drawn."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kd2mobile.data.sources.scan import ScannedImage
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, NearGroup, Sample, Split
from kd2mobile.errors import DataError, RecipeError

FIELD = "data.group_by"
COLUMN = "column:"
"""What a group_by begins with that names a column of a table, and is no regular expression."""


class Chains:
    """Contents that are joined pair by pair (union-find); a group is named by the smallest SHA-256 in it."""

    def __init__(self):
        self._above: dict[str, str] = {}
        self._worst: dict[str, float] = {}

    def of(self, content: str) -> str:
        """The name of the group that the content is in: its own SHA-256 if it is alone."""
        above = self._above
        while content in above:
            if (next_one := above[content]) in above:
                above[content] = above[next_one]
            content = next_one
        return content

    def join(self, one: str, other: str, difference: float = 0.0) -> None:
        """Makes one group of both. difference: of the pair, for `worst`."""
        first, second = sorted((self.of(one), self.of(other)))
        if first != second:
            self._above[second] = first
        self._worst[first] = max(self._worst.get(first, 0.0), self._worst.pop(second, 0.0), difference)

    def join_all(self, groups: Iterable[Iterable[str]]) -> None:
        for contents in groups:
            first, *rest = contents
            for content in rest:
                self.join(first, content)

    def worst(self, group: str) -> float:
        """The largest difference of a pair that joined the group of that name."""
        return self._worst.get(group, 0.0)


def column_of(group_by: str | None) -> str:
    """The column that it names, or nothing."""
    return group_by.removeprefix(COLUMN).strip() if group_by and group_by.startswith(COLUMN) else ""


def check_group_by(group_by: str | None) -> None:
    """Refuses, before anything is looked at, what names no column and is no regular expression. Raises RecipeError."""
    if group_by is not None and not column_of(group_by):
        _pattern(group_by)


def group_keys(images: Sequence[ScannedImage], group_by: str | None) -> dict[str, str]:
    """The key of each image that has one, by path; nothing without group_by.

    A regular expression is searched for in the path: its first group is the key, or the whole match if it has none. Of
    `column:NAME` the key is the image's field there. An image without a match or with an empty field has no key.
    Raises DataError if no image has a key, and what `check_group_by` does.
    """
    if group_by is None:
        return {}
    if column_of(group_by):
        keys = {image.path: image.key for image in images if image.key}
    else:
        pattern = _pattern(group_by)
        found = ((image.path, pattern.search(image.path)) for image in images)
        keys = {path: key for path, match in found if match and (key := match[1 if pattern.groups else 0])}
    if not keys:
        must = "must match at least one image"
        got = f"none for any of {len(images):,}, the first {images[0].path!r}"
        raise DataError(f"{FIELD}, {group_by}", must, got, "Correct the pattern, or fill in the column.")
    return keys


def _pattern(group_by: str) -> re.Pattern[str]:
    must = f"must be a regular expression or `{COLUMN}NAME`"
    if group_by in ("", COLUMN):
        raise RecipeError(FIELD, must, repr(group_by), r"For example `--group-by 'patient\d+'`.")
    try:
        return re.compile(group_by)
    except re.error as fault:
        raise RecipeError(
            FIELD, must, f"{group_by!r} ({fault})", "Correct it; `\\(` is a bracket in a path."
        ) from fault


def contents_by_key(images: Iterable[ScannedImage], keys: Mapping[str, str]) -> Iterator[list[str]]:
    """The contents that share each key."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if image.path in keys:
            by_key[keys[image.path]].append(image.sha256)
    return iter(by_key.values())


def near_groups(near: Chains, split: Split) -> list[NearGroup]:
    """The groups of images that look the same, as the samples lie. Copies of one file alone make none."""
    members: dict[str, list[Sample]] = {}
    for sample in split.samples:
        members.setdefault(near.of(sample.sha256), []).append(sample)
    return [
        NearGroup(
            [sample.path for sample in alike],
            [name for name in (*SPLIT_NAMES, UNLABELLED) if any(sample.split == name for sample in alike)],
            [split.classes[label] for label in sorted({sample.label for sample in alike}) if label >= 0],
            round(near.worst(name), 2),
        )
        for name, alike in members.items()
        if len({sample.sha256 for sample in alike}) > 1
    ]


def leaked_test_images(together: Chains, samples: Sequence[Sample]) -> list[str]:
    """The test images of a group that has one of train or val, by path."""
    learned = {together.of(sample.sha256) for sample in samples if sample.split in ("train", "val")}
    return [s.path for s in samples if s.split == "test" and together.of(s.sha256) in learned]
