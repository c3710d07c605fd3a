"""The split: which image is for training, validation or test. The types, and how they are read from the artifact."""

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
"""The split of images without labels, from which the student learns the teacher's logits alone."""

Kind = TypeVar("Kind")


class Sample(msgspec.Struct, frozen=True):
    """One image. path: relative to the images' root, with slashes; it is the sample's id.

    label: index of the class in Split.classes, -1 if unlabelled; sha256: of the file, in hexadecimal digits; width,
    height: in pixels, after EXIF rotation.
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
    """Copies of one image in several splits: the model is evaluated on an image that it was trained on."""

    paths: list[str]
    splits: list[SplitName]


class CopiedClass(msgspec.Struct, frozen=True):
    """A class whose images are all in another class as well, byte for byte.

    name: the copied class; of: the class that holds its images too; images: number of files of the copied class; more:
    number of different images that only the other class holds.
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
    """Images that look the same; each of them looks like at least one other of the group.

    paths: sorted, with every copy of them, the unlabelled ones last; splits: their splits, which may be `unlabelled`;
    classes: their classes; difference: the largest root mean square difference of two thumbnails that joined the
    group, in grey levels of 0..255.
    """

    paths: list[str]
    splits: list[SplitName]
    classes: list[str]
    difference: float

    @property
    def leaks(self) -> bool:
        """Whether a val or test image looks like an image of another split."""
        return len(self.splits) > 1 and bool({"val", "test"}.intersection(self.splits))


class Groups(msgspec.Struct, frozen=True):
    """Which images belong together: groups.json beside split.json.

    kept: the recipe's data.groups: whether a group of near duplicates stays in one split where splits are drawn.
    near_duplicates: every such group. group_by: the recipe's data.group_by; without_key: number of images that it gives
    no key. leaked: test images that share a group with an image of train or val, as copies, as near duplicates or by
    their key.
    """

    kept: bool
    near_duplicates: list[NearGroup]
    group_by: str | None = None
    without_key: int = 0
    leaked: list[str] = []


class Split(msgspec.Struct, frozen=True):
    """The classes, and the split of every image.

    classes: names in order; the index is the label. samples: sorted by path. skipped: files that are not used, each
    with the reason. duplicates: groups of paths whose files have the same bytes; leaks: the groups in several splits;
    contradictions: the groups in several classes.
    """

    classes: list[str]
    samples: list[Sample]
    skipped: list[Skipped] = []
    duplicates: list[list[str]] = []
    leaks: list[Leak] = []
    contradictions: list[list[str]] = []

    def samples_of(self, name: SplitName) -> list[Sample]:
        """The samples of one split, in the order of `samples`, which is that of every stored array."""
        return [sample for sample in self.samples if sample.split == name]

    def labels_of(self, name: SplitName) -> "np.ndarray":
        """The labels of one split, in that order: int [samples]."""
        import numpy as np

        return np.array([sample.label for sample in self.samples_of(name)])

    def part_of_train(self, fraction: float, seed: int) -> "Split":
        """This split with only a fraction of each class's training images; val and test stay as they are.

        fraction: in (0, 1], of each class, rounded up, so that each class keeps at least one image; seed: draws the
        images that are kept. Their order does not change.
        """
        if fraction == 1:
            return self
        import numpy as np

        rng = np.random.default_rng(seed)
        kept = set()
        for label in range(len(self.classes)):
            paths = [sample.path for sample in self.samples_of("train") if sample.label == label]
            kept.update(rng.permutation(paths)[: math.ceil(fraction * len(paths))].tolist())
        samples = [sample for sample in self.samples if sample.split != "train" or sample.path in kept]
        return msgspec.structs.replace(self, samples=samples)

    def copied_classes(self) -> list[CopiedClass]:
        """The classes whose images are all in another class too; of two equal classes the one with the later name."""
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
        """The contradictions between classes of which neither is a copied class."""
        copied = {self.classes.index(copy.name) for copy in self.copied_classes()}
        label_of = {sample.path: sample.label for sample in self.samples if sample.label not in copied}
        left = ([path for path in paths if path in label_of] for paths in self.contradictions)
        return [paths for paths in left if len({label_of[path] for path in paths}) > 1]

    def with_samples(self, *names: SplitName) -> list[SplitName]:
        """The given split names that have samples, in their order."""
        return [name for name in names if self.samples_of(name)]


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
    """The groups that split_images wrote into the folder. Raises ArtifactError if they are missing or damaged."""
    return _read(Path(folder) / "groups.json", Groups)


def leaked_mask(folder: Path, samples: list[Sample]) -> "np.ndarray":
    """Whether each of the n test samples leaked: bool [n]. folder: of the split's artifact. Raises ArtifactError."""
    leaked = set(read_groups(folder).leaked)
    import numpy as np

    return np.array([sample.path in leaked for sample in samples], bool)


def _read(path: Path, kind: type[Kind]) -> Kind:
    return read_json(path, kind, f"Remove the folder {path.parent}; the next run builds it again.", error=ArtifactError)


class SplitResults(msgspec.Struct, frozen=True):
    """The results in the record of a split that later code reads: numbers of files."""

    unlabelled: Count = 0
    skipped: Count = 0
