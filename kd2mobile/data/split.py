"""Which picture is for training, which validates, which tests: the types, and the file that keeps them."""

from pathlib import Path
from typing import Literal

import msgspec

from kd2mobile.errors import ArtifactError
from kd2mobile.files import read_json

SplitName = Literal["train", "val", "test", "unlabelled"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "val", "test")
"""The splits of labelled pictures."""
UNLABELLED: SplitName = "unlabelled"
"""Pictures that the student learns from by the teacher's word alone."""


class Sample(msgspec.Struct, frozen=True):
    """One picture. path: relative to the pictures' root, with slashes; it is the sample's id.

    label: index of the class in Split.classes, -1 if unlabelled; width, height: pixels of the upright picture.
    """

    path: str
    label: int
    split: SplitName
    sha256: str
    width: int
    height: int


class SetAside(msgspec.Struct, frozen=True):
    """A file that is not used, and why."""

    path: str
    reason: str


class Leak(msgspec.Struct, frozen=True):
    """The same picture in more than one split: what the model is judged on, it has seen."""

    paths: list[str]
    splits: list[SplitName]


class CopiedClass(msgspec.Struct, frozen=True):
    """A class of which every picture is in another class as well, byte for byte. pictures: how many files it has."""

    name: str
    of: str
    pictures: int

    def words(self) -> str:
        """The finding as a clause."""
        all_of = "its one picture is" if self.pictures == 1 else f"all of its {self.pictures:,} pictures are"
        return f"the class {self.name!r} is a copy of {self.of!r}, {all_of} there as well"


class Split(msgspec.Struct, frozen=True):
    """Every picture's place.

    classes: names in order, the index is the label; samples: by path; set_aside: files that are not used.
    duplicates: groups of paths whose files are the same, byte for byte; leaks: those of them that lie in several
    splits; contradictions: those of them that lie in several classes.
    """

    classes: list[str]
    samples: list[Sample]
    set_aside: list[SetAside] = []
    duplicates: list[list[str]] = []
    leaks: list[Leak] = []
    contradictions: list[list[str]] = []

    def of(self, name: SplitName) -> list[Sample]:
        """The samples of one split, in stored order."""
        return [sample for sample in self.samples if sample.split == name]

    def copied_classes(self) -> list[CopiedClass]:
        """The classes that lie in another one with all of their pictures; of two equal ones the later by name."""
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
                copies.append(CopiedClass(self.classes[label], self.classes[other], files))
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
    """The split that split_pictures wrote into the folder. Raises ArtifactError if it is missing or damaged."""
    again = f"Remove the folder {folder}; the next run makes it again."
    return read_json(Path(folder) / "split.json", Split, again, error=ArtifactError)
