"""Which images belong together: near duplicates, and images with the same key of data.group_by."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from kd2mobile.data.sources.scan import ScannedImage
from kd2mobile.data.split import SPLIT_NAMES, UNLABELLED, NearGroup, Sample, Split
from kd2mobile.errors import DataError, RecipeError

FIELD = "data.group_by"
COLUMN = "column:"
"""The prefix of a group_by that names a column of a table; any other is a regular expression."""


class Chains:
    """Groups of contents that are joined pair by pair (union-find). A group's name is its smallest SHA-256."""

    def __init__(self):
        self._above: dict[str, str] = {}
        self._worst: dict[str, float] = {}

    def group_of(self, content: str) -> str:
        """The name of the content's group: its own SHA-256 if it is alone."""
        above = self._above
        while content in above:
            if (parent := above[content]) in above:
                above[content] = above[parent]
            content = parent
        return content

    def join(self, content: str, other_content: str, difference: float = 0.0) -> None:
        """Joins the groups of both contents. difference: between the two, for `worst`."""
        first, second = sorted((self.group_of(content), self.group_of(other_content)))
        if first != second:
            self._above[second] = first
        self._worst[first] = max(self._worst.get(first, 0.0), self._worst.pop(second, 0.0), difference)

    def join_all(self, groups: Iterable[Iterable[str]]) -> None:
        for contents in groups:
            first, *rest = contents
            for content in rest:
                self.join(first, content)

    def worst(self, group: str) -> float:
        """The largest difference of a pair of contents that joined this group."""
        return self._worst.get(group, 0.0)


def column_of(group_by: str | None) -> str:
    """The column that a `column:NAME` names, else an empty text."""
    return group_by.removeprefix(COLUMN).strip() if group_by and group_by.startswith(COLUMN) else ""


def check_group_by(group_by: str | None) -> None:
    """Raises RecipeError unless group_by is None, `column:NAME` or a valid regular expression. Reads no image."""
    if group_by is not None and not column_of(group_by):
        _pattern(group_by)


def group_keys(images: Sequence[ScannedImage], group_by: str | None) -> dict[str, str]:
    """The key of each image by its path, without the images that have no key; empty without group_by.

    A regular expression is searched for in the path: the key is its first group, or the whole match if it has no
    group. With `column:NAME` the key is the image's value in that column. An image without a match or with an empty
    value has no key.
    Raises DataError if no image has a key; RecipeError as `check_group_by` does.
    """
    if group_by is None:
        return {}
    if column_of(group_by):
        keys = {image.path: image.key for image in images if image.key}
    else:
        pattern = _pattern(group_by)
        matches = ((image.path, pattern.search(image.path)) for image in images)
        keys = {path: key for path, match in matches if match and (key := match[1 if pattern.groups else 0])}
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
    """Of each key the contents that have it."""
    by_key: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if image.path in keys:
            by_key[keys[image.path]].append(image.sha256)
    return iter(by_key.values())


def near_groups(near: Chains, split: Split) -> list[NearGroup]:
    """The groups of near duplicates among the samples. Copies of a single file are no near duplicates."""
    members: dict[str, list[Sample]] = {}
    for sample in split.samples:
        members.setdefault(near.group_of(sample.sha256), []).append(sample)
    return [
        NearGroup(
            [sample.path for sample in similar],
            [name for name in (*SPLIT_NAMES, UNLABELLED) if any(sample.split == name for sample in similar)],
            [split.classes[label] for label in sorted({sample.label for sample in similar}) if label >= 0],
            round(near.worst(name), 2),
        )
        for name, similar in members.items()
        if len({sample.sha256 for sample in similar}) > 1
    ]


def leaked_test_images(together: Chains, samples: Sequence[Sample]) -> list[str]:
    """The paths of the test images that share a group with an image of train or val."""
    learned = {together.group_of(sample.sha256) for sample in samples if sample.split in ("train", "val")}
    return [s.path for s in samples if s.split == "test" and together.group_of(s.sha256) in learned]
