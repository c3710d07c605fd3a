"""The command `check`: what a person should know about a data set before training on it."""

from collections import Counter
from statistics import median
from typing import NamedTuple

import msgspec

from kd2mobile.data.sources.folders import similar_names
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
    """How large the images are in pixels, after their EXIF rotation.

    smallest, largest: width and height of the image with the smallest and the largest area; median: the median width
    and the median height. narrowest, widest: the smallest and the largest width / height. input_px: side of the
    student's input; below_input: number of images with a side shorter than that, which are enlarged.
    """

    smallest: tuple[int, int]
    median: tuple[int, int]
    largest: tuple[int, int]
    narrowest: float
    widest: float
    input_px: int
    below_input: int


class Imbalance(msgspec.Struct, frozen=True):
    """The classes with the most and the fewest training images, and the ratio of the two numbers."""

    largest: ClassCounts
    smallest: ClassCounts
    ratio: float


class Checked(msgspec.Struct, frozen=True):
    """The result of the check. Paths are sample ids: relative to the source, with slashes.

    source: the data as the recipe names it, such as `photos and more (test)`.
    classes: the number of images per class and split.
    unlabelled: number of images without a label, which are in no split; None if the recipe has no such folder.
    skipped: images that cannot be used, each with the reason, such as an unlabelled copy of a labelled image.
    ignored_files: number of files that are no images by their name; system_files: number of files that operating
    systems leave among images.
    duplicates: groups of files with the same bytes; leaks: the groups with files in several splits; contradictions:
    the groups with files in several classes, without those of copied_classes. copied_classes: classes whose images are
    all in another class as well. alike_classes: groups of classes whose names differ only in capitals or in invisible
    characters.
    near_duplicates: groups of files that differ and look the same. groups: whether such a group stays in one split
    where splits are drawn. group_by: the recipe's data.group_by; without_key: number of images that it gives no key.
    leaked_test_images: test images that are in train or val as well, or in one group with an image of train or val.
    sizes: of the labelled images; unlabelled_sizes: of those without a label. imbalance: of the training images.
    deep_images: the images with more than 8 bits per channel, None if there are none.
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


class SourceImages(NamedTuple):
    """The images under a root with their split.

    groups: the near duplicates and leaks of the split; ignored_files: number of files that are no images by their
    name; system_files: number of files that operating systems leave among images; deep_images: the images with more
    than 8 bits per channel.
    """

    root: Root
    split: Split
    groups: Groups
    ignored_files: int
    system_files: int = 0
    deep_images: DeepImages | None = None


def check_split(source: str, input_px: int, labelled: SourceImages, unlabelled: SourceImages | None = None) -> Checked:
    """Summarizes the images of a split: counts, sizes, duplicates, leaks and imbalance.

    source: what the result calls the data; input_px: side of the student's input in pixels; unlabelled: the images
    without a label, if the recipe has any; their split skips copies of labelled images.
    """
    split, groups, ignored_files = labelled.split, labelled.groups, labelled.ignored_files
    sources = [labelled, unlabelled] if unlabelled else [labelled]
    unlabelled_split = Split(split.classes, [])
    if unlabelled:
        unlabelled_split, ignored_files = unlabelled.split, ignored_files + unlabelled.ignored_files
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
        unlabelled=len(unlabelled_split.samples) if unlabelled else None,
        skipped=split.skipped + unlabelled_split.skipped,
        ignored_files=ignored_files,
        duplicates=split.duplicates + unlabelled_split.duplicates,
        leaks=split.leaks,
        contradictions=split.single_contradictions(),
        near_duplicates=(unlabelled or labelled).groups.near_duplicates,
        groups=groups.kept,
        group_by=groups.group_by,
        without_key=groups.without_key,
        leaked_test_images=groups.leaked,
        sizes=_sizes(split, input_px),
        unlabelled_sizes=_sizes(unlabelled_split, input_px) if unlabelled else None,
        imbalance=Imbalance(largest, smallest, round(largest.train / max(1, smallest.train), 2)),
        alike_classes=similar_names(split.classes),
        copied_classes=split.copied_classes(),
        system_files=sum(one.system_files for one in sources),
        deep_images=together([one.deep_images for one in sources if one.deep_images]),
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
