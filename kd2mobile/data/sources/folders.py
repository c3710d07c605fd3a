"""How a folder of images is laid out: the names of splits and classes, and files that operating systems leave."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from kd2mobile.data.sources.containers import Member, Source
from kd2mobile.errors import DataError
from kd2mobile.files import is_left_by_system
from kd2mobile.pixels import SUFFIXES
from kd2mobile.text import one_line

GivenSplit = Literal["train", "val", "test"]
SPLIT_WORDS: dict[GivenSplit, tuple[str, ...]] = {
    "train": ("train", "training", "trainings", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "development", "eval", "evaluation")
    + ("validierung", "validierungs"),
    "test": ("test", "testing", "tst", "holdout"),
}
"""The usual names of each split, in lower case."""
SPLIT_ENDINGS = ("", "set", "split", "data", "dataset", "images", "photos", "pictures", "samples") + (
    "daten",
    "datensatz",
    "bilder",
    "fotos",
)
"""What may follow them, with or without a space, `_`, `-` or `.` in between."""
UNCLEAR_WORDS = frozenset(
    ("trainval", "tr", "te")  # both are codes of languages, too
    + ("entrainement", "entra\u00eenement", "apprentissage", "entrenamiento", "addestramento", "treino", "treinamento")
    + ("essai", "prueba", "pruebas", "teste", "testes", "collaudo")
)
"""Words that may stand for a split: no split by themselves, but refused where the folders look like splits."""
_SPLITS = {word + ending: split for split, words in SPLIT_WORDS.items() for word in words for ending in SPLIT_ENDINGS}


def split_from_name(name: str) -> GivenSplit | None:
    """The split that a folder name or a word in a table usually stands for; None for any other name.

    >>> split_from_name("Training_Set"), split_from_name("valid"), split_from_name("trains")
    ('train', 'val', None)
    """
    return _SPLITS.get(re.sub(r"[\s_.-]+", "", unicodedata.normalize("NFC", name).casefold()))


def resembles_split(name: str) -> bool:
    """Whether a folder's name is the name of a split or contains one as a word; digits are ignored.

    >>> resembles_split("seg_train"), resembles_split("test1"), resembles_split("te"), resembles_split("trains")
    (True, True, True, False)
    """
    words = re.split(r"[\W\d_]+", unicodedata.normalize("NFC", name).casefold())
    return split_from_name(name) is not None or any(word in _SPLITS or word in UNCLEAR_WORDS for word in words)


def files_in(path: Source) -> int:
    """The number of files in a skipped folder, 1 for a file or an unreadable folder. Links are not followed."""
    if isinstance(path, Member):
        return path.count()
    if os.path.islink(path) or not os.path.isdir(path):
        return 1
    return max(1, sum(len(files) for _, _, files in os.walk(path)))


class Inside(NamedTuple):
    """The direct content of a folder, without hidden and system files: its folders, and whether it holds images."""

    folders: list[str]
    holds_images: bool


def inside(names_and_folders: Iterable[tuple[str, bool]]) -> Inside:
    """The Inside of a folder. names_and_folders: of each entry its name and whether it is a folder."""
    entries = [entry for entry in names_and_folders if not entry[0].startswith(".") and not is_left_by_system(entry[0])]
    images = any(not is_folder and Path(name).suffix.lower() in SUFFIXES for name, is_folder in entries)
    return Inside([name for name, is_folder in entries if is_folder], images)


def splits_among(root: Source, folders: dict[str, Inside]) -> dict[GivenSplit, str]:
    """The folder of each split in the root; empty where the folders of the root are classes.

    A folder is a split if it has the name of a split and holds class folders. If it also holds images directly, it is a
    class (of trains, say) where the root has other class folders.
    folders: the content of each folder of the root, by name.
    Raises DataError for two folders of one split, for splits without train or with unusual names, and for splits next
    to classes.
    """
    named = {name: split for name in folders if (split := split_from_name(name))}
    with_classes = [name for name in named if folders[name].folders]
    of_classes_alone = [name for name in with_classes if not folders[name].holds_images]
    others = [name for name in folders if name not in named]
    has_train = any(named[name] == "train" for name in with_classes)
    if others and not of_classes_alone:
        _refuse_other_split_names(root, folders)
        return {}
    if not has_train:
        _refuse_without_train(root, folders, of_classes_alone, others)
        _refuse_other_split_names(root, folders)
        return {}
    if others:
        other = "Move it away, or give the folder that holds the class folders."
        if folders[others[0]].holds_images or folders[others[0]].folders:
            other = "If it is a class, move it into the folder of its split; if all of them are classes, rename "
            other += f"{_quoted(with_classes)}. The names of splits are train, val and test."
        must = f"must hold only folders of splits next to {_quoted(with_classes)}"
        raise DataError(root, must, repr(_shown(min(others))), other)
    splits: dict[GivenSplit, str] = {}
    for name in sorted(named):
        if first := splits.get(named[name]):
            one = f"Move all of them into one folder, {named[name]}."
            raise DataError(root, f"must hold only one folder of {named[name]}", _quoted([first, name]), one)
        splits[named[name]] = name
    return splits


def _refuse_without_train(
    root: Source, folders: dict[str, Inside], of_classes_alone: list[str], others: Collection[str]
) -> None:
    """Raises DataError where folders are certainly val or test: the root has no other, or it has the same classes."""
    name = "Name the folder of the training images train."
    if of_classes_alone and not others:
        got = f"{_quoted(of_classes_alone)} without train"
        one = f"{name} If you have only one of them, give that folder: {root / of_classes_alone[0]}."
        raise DataError(root, "must hold a folder of training images, or class folders alone", got, one)
    for split in of_classes_alone:
        if both := set(folders[split].folders).intersection(others):
            got = f"{min(both)!r} beside {split!r}, which holds {min(both)!r} as well"
            one = f"Move the class folders into a folder named train beside {split!r}."
            raise DataError(root, "must hold class folders or splits, not both", got, one)


def _refuse_other_split_names(root: Source, folders: dict[str, Inside]) -> None:
    """Raises DataError where folders hold class folders alone and their names resemble those of splits."""
    alike_splits = [name for name in folders if resembles_split(name)]
    if len(folders) < 2 or not alike_splits:
        return
    for held, images in folders.values():
        if images or not (len(held) > 1 or any(map(resembles_split, held))):
            return
    shared = set.intersection(*(set(held) for held, _ in folders.values()))
    if len(alike_splits) == len(folders) or len(shared) > 1:
        names = "Name the splits train, val and test, each with the class folders directly inside; if these are "
        names += f"classes, rename {_quoted(alike_splits)}."
        raise DataError(root, "must hold class folders, or splits named train, val and test", _quoted(folders), names)


def class_names(names: Iterable[str]) -> dict[str, str]:
    """The class of each folder name or label.

    Names that are equal after Unicode normalization (NFC) and stripping are one class, as `café` composed (Windows)
    and decomposed (macOS). A name with a single spelling stays as it is.

    >>> class_names(["cat", "cat ", "dog "])
    {'cat': 'cat', 'cat ': 'cat', 'dog ': 'dog '}
    """
    names = list(dict.fromkeys(names))
    plain = {name: plain_name(name) for name in names}
    plain_names = list(plain.values())
    return {name: same if plain_names.count(same) > 1 else name for name, same in plain.items()}


def plain_name(name: str) -> str:
    """The form in which class names are compared: composed (NFC) and stripped."""
    return unicodedata.normalize("NFC", name).strip() or name


def positions_of(names: list[str], among: list[str], *normalizations: Callable[[str], str]) -> dict[str, int]:
    """The index in `among` of each name that is there, exactly or, if unambiguous, after one of the normalizations.

    >>> positions_of(["A", "b", "c"], ["B", "a", "A"], str.lower)
    {'A': 2, 'b': 0}
    """
    found: dict[str, int] = {}
    for same in (str, *normalizations):
        other_keys, name_counts = [same(text) for text in among], Counter(map(same, names))
        other_counts, positions = Counter(other_keys), {text: position for position, text in enumerate(other_keys)}
        for name in names:
            if name not in found and other_counts[same(name)] == 1 and name_counts[same(name)] == 1:
                found[name] = positions[same(name)]
    return found


def similar_names(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ only in capitals or in invisible characters (Unicode category Cf).

    >>> similar_names(["a", "A", "b", "c", "c\\u200b"])
    [['A', 'a'], ['c', 'c\\u200b']]
    """
    groups: dict[str, set[str]] = {}
    for name in names:
        visible = "".join(c for c in name if unicodedata.category(c) != "Cf")
        groups.setdefault(unicodedata.normalize("NFC", visible).casefold().strip(), set()).add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def _quoted(names: Collection[str]) -> str:
    return " and ".join(repr(_shown(name)) for name in sorted(names))


def _shown(name: str) -> str:
    return one_line(os.fsencode(name).decode("utf-8", "backslashreplace"))
