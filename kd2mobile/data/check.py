"""What a person should know of a data set before anything is trained on it."""

from collections import Counter
from statistics import median
from typing import NamedTuple

import msgspec

from kd2mobile.data.sources.folders import alike
from kd2mobile.data.sources.roots import Root
from kd2mobile.data.split import CopiedClass, Groups, Leak, NearGroup, Skipped, Split
from kd2mobile.pixels import DeepImages, together
from kd2mobile.text import one_line


class ClassCounts(msgspec.Struct, frozen=True):
    """The images of one class by split."""

    name: str
    train: int
    val: int
    test: int

    @property
    def all(self) -> int:
        return self.train + self.val + self.test


class Sizes(msgspec.Struct, frozen=True):
    """How large the images are, upright. smallest, largest: width and height of one, by area; median: of each side.

    narrowest, widest: the extremes of width / height. input_px: the student's; below_input: images with a side that
    is shorter and must be enlarged.
    """

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    narrowest: float
    widest: float
    input_px: int
    below_input: int


class Imbalance(msgspec.Struct, frozen=True):
    """The training images of the largest and the smallest class, and how many times more the first has."""

    largest: ClassCounts
    smallest: ClassCounts
    ratio: float


class Checked(msgspec.Struct, frozen=True):
    """What was found; paths are those of the samples, relative to the source.

    source: the data, as the recipe names it, `photos and more (test)`.
    unlabelled: images without a label, in none of the splits; None without such a folder.
    ignored_files: no images by their name; skipped: images that cannot be used, and why; among them unlabelled
    ones that are byte for byte a labelled one.
    duplicates: groups of files that are the same byte for byte; leaks: those of them that lie in several splits;
    contradictions: those in several classes, but for the ones of copied_classes, of which every image is also in
    another class. alike_classes: those whose names differ in capitals or in invisible characters alone.
    system_files: what systems leave among images.
    near_duplicates: files that differ and look the same, likewise by group;
    groups: whether they stay in one split where splits are drawn; group_by: what else does, without_key: images of
    which it gives no key; leaked_test_images: those that are also in train or val or in a group with one of them.
    deep_images: the ones of more than 8 bits a channel.
    sizes: of the labelled images; unlabelled_sizes: of those without a label.
    """

    source: str
    classes: list[ClassCounts]
    unlabelled: int | None
    skipped: list[Skipped]
    ignored_files: int
    duplicates: list[list[str]]
    leaks: list[Leak]
    contradictions: list[list[str]]
    near_duplicates: list[NearGroup]
    groups: bool
    group_by: str | None
    without_key: int
    leaked_test_images: list[str]
    sizes: Sizes
    unlabelled_sizes: Sizes | None
    imbalance: Imbalance
    alike_classes: list[list[str]] = []
    copied_classes: list[CopiedClass] = []
    system_files: int = 0
    deep_images: DeepImages | None = None


class Looked(NamedTuple):
    """Images under a root, and what was made of them.

    groups: what stands beside the split; ignored_files: no images by their name; system_files: what systems leave
    among images; deep_images: those of more than 8 bits.
    """

    root: Root
    split: Split
    groups: Groups
    ignored_files: int
    system_files: int = 0
    deep_images: DeepImages | None = None


def check_split(source: str, input_px: int, labelled: Looked, unlabelled: Looked | None = None) -> Checked:
    """What there is to say about the images of a split.

    source: how to call the data; input_px: the side of the student's input; unlabelled: the images without a label,
    if there are any: one that is also among the labelled ones is skipped in their split.
    """
    split, groups, ignored_files = labelled.split, labelled.groups, labelled.ignored_files
    looked = [labelled, unlabelled] if unlabelled else [labelled]
    more = Split(split.classes, [])
    if unlabelled:
        more, ignored_files = unlabelled.split, ignored_files + unlabelled.ignored_files
    counted = Counter((sample.label, sample.split) for sample in split.samples)
    classes = [
        ClassCounts(name, *(counted[label, part] for part in ("train", "val", "test")))
        for label, name in enumerate(split.classes)
    ]
    by_train = sorted(classes, key=lambda one: one.train)
    smallest, largest = by_train[0], by_train[-1]
    return Checked(
        source=one_line(source),
        classes=classes,
        unlabelled=len(more.samples) if unlabelled else None,
        skipped=split.skipped + more.skipped,
        ignored_files=ignored_files,
        duplicates=split.duplicates + more.duplicates,
        leaks=split.leaks,
        contradictions=split.single_contradictions(),
        near_duplicates=(unlabelled or labelled).groups.near_duplicates,
        groups=groups.kept,
        group_by=groups.group_by,
        without_key=groups.without_key,
        leaked_test_images=groups.leaked,
        sizes=_sizes(split, input_px),
        unlabelled_sizes=_sizes(more, input_px) if unlabelled else None,
        imbalance=Imbalance(largest, smallest, round(largest.train / max(1, smallest.train), 2)),
        alike_classes=alike(split.classes),
        copied_classes=split.copied_classes(),
        system_files=sum(one.system_files for one in looked),
        deep_images=together([one.deep_images for one in looked if one.deep_images]),
    )


def _sizes(split: Split, input_px: int) -> Sizes:
    sides = [(sample.width, sample.height) for sample in split.samples]
    by_area = sorted(sides, key=lambda side: (side[0] * side[1], side))
    ratios = [width / height for width, height in sides]
    return Sizes(
        smallest=by_area[0],
        median=(round(median(width for width, _ in sides)), round(median(height for _, height in sides))),
        largest=by_area[-1],
        narrowest=round(min(ratios), 3),
        widest=round(max(ratios), 3),
        input_px=input_px,
        below_input=sum(min(side) < input_px for side in sides),
    )
