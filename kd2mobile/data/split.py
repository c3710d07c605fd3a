"""Which image is for training, which validates, which tests: the types, and the file that keeps them."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec

from kd2mobile.errors import ArtifactError
from kd2mobile.files import read_json
from kd2mobile.store.stage_records import Count

if TYPE_CHECKING:
    import numpy as np

SplitName = Literal["train", "val", "test", "unlabelled"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")
"""The splits of labelled images."""
UNLABELLED: SplitName = "unlabelled"
"""Images that the student learns from by the teacher's word alone."""

Kind = TypeVar("Kind")


class Sample(msgspec.Struct, frozen=True):
    """One image. path: relative to the images' root, with slashes; it is the sample's id.

    label: index of the class in Split.classes, -1 if unlabelled; width, height: pixels of the upright image.
    """

    path: str
    label: int
    split: SplitName
    sha256: str
    width: int
    height: int


class Skipped(msgspec.Struct, frozen=True):
    """A file that is not used, and why."""

    path: str
    reason: str


class Leak(msgspec.Struct, frozen=True):
    """The same image in more than one split: what the model is evaluated on, it has seen."""

    paths: list[str]
    splits: list[SplitName]


class CopiedClass(msgspec.Struct, frozen=True):
    """A class of which every image is in another class as well, byte for byte.

    images: how many files it has; more: how many different images the other class holds beside them.
    """

    name: str
    of: str
    images: int
    more: int = 0

    def words(self) -> str:
        """The finding as a clause."""
        if self.more:
            every = "the one image" if self.images == 1 else f"every one of the {self.images:,} images"
            return f"{every} of the class {self.name!r} is also in {self.of!r}, which holds {self.more:,} more"
        all_of = "its one image is" if self.images == 1 else f"all of its {self.images:,} images are"
        return f"the class {self.name!r} is a copy of {self.of!r}, {all_of} there as well"


class NearGroup(msgspec.Struct, frozen=True):
    """Images that look the same, each like at least one other of them.

    paths: by path, every copy of them with them, the unlabelled ones last; splits, classes: where they lie; the first
    may be `unlabelled`; difference: the largest root mean square difference of a pair that joined them, in steps of
    255.
    """

    paths: list[str]
    splits: list[SplitName]
    classes: list[str]
    difference: float

    @property
    def leaks(self) -> bool:
        """Whether an image that is evaluated looks like one of another split, which may have been learned from."""
        return len(self.splits) > 1 and bool({"val", "test"}.intersection(self.splits))


class Groups(msgspec.Struct, frozen=True):
    """Which images belong together; beside the split, in groups.json.

    kept: whether near duplicates stay in one split where it is drawn (`data.groups`); near_duplicates: all of them.
    group_by: `data.group_by`; without_key: images of which it gives no key.
    leaked: test images of a group that has one of train or val: copies, near duplicates and those of one key.
    """

    kept: bool
    near_duplicates: list[NearGroup]
    group_by: str | None = None
    without_key: int = 0
    leaked: list[str] = []


class Split(msgspec.Struct, frozen=True):
    """Every image's place.

    classes: names in order, the index is the label; samples: by path; skipped: files that are not used.
    duplicates: groups of paths whose files are the same, byte for byte; leaks: those of them that lie in several
    splits; contradictions: those of them that lie in several classes.
    """

    classes: list[str]
    samples: list[Sample]
    skipped: list[Skipped] = []
    duplicates: list[list[str]] = []
    leaks: list[Leak] = []
    contradictions: list[list[str]] = []

    def of(self, name: SplitName) -> list[Sample]:
        """The samples of one split, in stored order."""
        return [sample for sample in self.samples if sample.split == name]

    def part_of_train(self, fraction: float, seed: int) -> "Split":
        """This split with a part of each class's training images, at least one of each; val and test stay whole.

        fraction: in (0, 1], of each class, rounded up; seed: which are drawn. The order of the samples stays.
        """
        if fraction == 1:
            return self
        import numpy as np

        rng = np.random.default_rng(seed)
        kept = set()
        for label in range(len(self.classes)):
            paths = [sample.path for sample in self.of("train") if sample.label == label]
            kept.update(rng.permutation(paths)[: math.ceil(fraction * len(paths))].tolist())
        samples = [sample for sample in self.samples if sample.split != "train" or sample.path in kept]
        return msgspec.structs.replace(self, samples=samples)

    def copied_classes(self) -> list[CopiedClass]:
        """The classes that lie in another one with all of their images; of two equal ones the later by name."""
        contents = [{s.sha256 for s in self.samples if s.label == label} for label in range(len(self.classes))]
        copies = []
        for label, own in enumerate(contents):
            others = (
                other
                for other, theirs in enumerate(contents)
                if other != label and own and own <= theirs and (own < theirs or other < label)
            )
            if (other := next(others, None)) is not None:
                files = sum(sample.label == label for sample in self.samples)
                copies.append(CopiedClass(self.classes[label], self.classes[other], files, len(contents[other] - own)))
        return copies

    def single_contradictions(self) -> list[list[str]]:
        """The contradictions that are left without the copied classes."""
        copied = {self.classes.index(copy.name) for copy in self.copied_classes()}
        label_of = {sample.path: sample.label for sample in self.samples if sample.label not in copied}
        left = ([path for path in paths if path in label_of] for paths in self.contradictions)
        return [paths for paths in left if len({label_of[path] for path in paths}) > 1]

    def named(self, *names: SplitName) -> list[SplitName]:
        """Those of the names that have samples."""
        return [name for name in names if self.of(name)]


def read_split(folder: Path) -> Split:
    """The split that split_images wrote into the folder. Raises ArtifactError if it is missing or damaged."""
    path = Path(folder) / "split.json"
    split = _read(path, Split)
    for number, sample in enumerate(split.samples):
        if not -1 <= sample.label < len(split.classes):
            where, must = f"{path}: samples[{number}].label", f"must be one of the {len(split.classes)} classes"
            raise ArtifactError(where, must, sample.label, f"Remove the folder {folder}; the next run builds it again.")
    return split


def read_groups(folder: Path) -> Groups:
    """The groups beside the split in the folder. Raises ArtifactError if they are missing or damaged."""
    return _read(Path(folder) / "groups.json", Groups)


def leaked_of(folder: Path, samples: list[Sample]) -> "np.ndarray":
    """Which of the test samples of the split in the folder leaked: bool [n]. Raises ArtifactError."""
    leaked = set(read_groups(folder).leaked)
    import numpy as np

    return np.array([sample.path in leaked for sample in samples], bool)


def _read(path: Path, kind: type[Kind]) -> Kind:
    return read_json(path, kind, f"Remove the folder {path.parent}; the next run builds it again.", error=ArtifactError)


class SplitResults(msgspec.Struct, frozen=True):
    """What the record of a split says, as far as it is read."""

    unlabelled: Count = 0
    skipped: Count = 0
