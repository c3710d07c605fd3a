"""Measures any .tflite on a folder of class folders: matches folders with outputs and evaluates every image."""

import os
import tempfile
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from kd2mobile.data.sources.folders import (
    Inside,
    files_in,
    inside,
    positions_of,
    resembles_split,
    split_from_name,
    splits_among,
)
from kd2mobile.errors import DataError, ImageError, ModelFileError
from kd2mobile.files import is_left_by_system
from kd2mobile.inspection.labels import number_and_name
from kd2mobile.inspection.metadata import output_names, unused_labels
from kd2mobile.measure.files import FileToMeasure, guarded, opened_as
from kd2mobile.measure.measured import Measured, measure_opened
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.record import BenchmarkRecord, ClassOrder
from kd2mobile.pixels import (
    Examined,
    Range,
    Resize,
    checked_range,
    deep_images,
    examine,
    kind_of_depth,
    refuse_deep_colour,
    write_8_bit,
)
from kd2mobile.progress import say
from kd2mobile.text import count_of, listed, one_line

GIVE_ONE = "These look like splits: give one of them, such as the test folder."


LONGEST_SHOWN = 60
"""Characters of a name in a message."""


class Matching(NamedTuple):
    """outputs: for each folder the index of its output; order: what decided; note: the sentence for the user."""

    outputs: list[int]
    order: ClassOrder
    note: str


def measure_on_folder(
    model: Path,
    data: Path,
    *,
    labels: Path | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    resize: Resize | None = None,
    value_range: Range | None = None,
    device: str = "host",
    protocol: Protocol | None = None,
) -> Measured:
    """Measures any .tflite image classifier on every image of a folder of class folders, role "external".

    device, protocol: as `measure_files` takes them.
    labels: a file with the names of the outputs (`read_labels`), used instead of those in the model. mean, std: of the
    network. resize: by default that in the metadata, else `crop`. value_range: the values of black and white in
    greyscale of more than 8 bits, which is scaled to 8 bits on this host. Images that cannot be decoded are skipped and
    counted; assumptions are printed and returned as notes. Raises ModelFileError or DataError.
    """
    model, data, protocol = Path(model), Path(data), protocol or Protocol()
    with guarded(model, protocol, mean=mean, std=std) as classifier:
        # which folder is which output, before any image is read
        folders, system_files = class_folders(data)
        names, notes = output_names(model, classifier.metadata, classifier.classes, labels)
        if notes and not names:
            must = "must have one label per output, because class folders are matched to outputs by name"
            got = unused_labels(classifier.metadata, classifier.classes)
            raise ModelFileError(model, must, got, "Give the names of the outputs with --labels, one per line.")
        matching = match_folders(list(folders), classifier.classes, names, str(data))
        images = [
            (path, output) for paths, output in zip(folders.values(), matching.outputs, strict=True) for path in paths
        ]
        if not images:
            raise DataError(data, "must hold images in its class folders", "none", "Give a folder with images.")
        # then every image, on the device
        shown = names or _names_by_order(list(folders), matching, classifier.classes)
        file = FileToMeasure(path=model, role="external", resize=resize, mean=mean, std=std, labels=shown)
        with _in_8_bits([path for path, _ in images], value_range) as (paths, of_depth):
            measured = measure_opened(
                [opened_as(file, classifier)],
                paths,
                np.array([output for _, output in images]),
                device=device,
                protocol=protocol,
                skip_unreadable=True,
            )[0]
    notes = [*notes, *of_depth, matching.note, *measured.notes, *_about_skipped(measured.skipped, system_files)]
    for note in notes:
        if note != matching.note or matching.order != "labels":
            say(note)
    records = [_with_order(record, matching.order) for record in measured.records]
    return measured._replace(records=records, notes=notes)


@contextmanager
def _in_8_bits(paths: list[Path], value_range: Range | None) -> Iterator[tuple[list[Path], list[str]]]:
    """Yields the paths to measure and the notes on images of more than 8 bits.

    With a range, such images are scaled into a folder that is removed after the block; without one, their values are
    checked.
    Raises RecipeError for a bad range, ImageError for colour of 16 bits where one is given.
    """
    black_and_white = value_range and checked_range(value_range, "range")
    kinds = {index: kind for index, path in enumerate(paths) if (kind := kind_of_depth(path))}
    if not black_and_white:
        looked = [examined.values for index in kinds if (examined := _examined(paths[index])) and examined.values]
        deep = deep_images(looked)
        yield paths, [deep.words()] if deep and deep.odd else []
        return
    with tempfile.TemporaryDirectory(prefix="kd2mobile-") as folder:
        ready = list(paths)
        for index, kind in kinds.items():
            refuse_deep_colour(paths[index], kind)
            target = Path(folder, f"{index:06d}.png")
            with suppress(ImageError):  # it cannot be decoded: measuring skips it
                write_8_bit(paths[index], target, black_and_white)
                ready[index] = target
        yield ready, []


def _examined(path: Path) -> Examined | None:
    try:
        return examine(path)
    except ImageError:
        return None


def _with_order(record: BenchmarkRecord, order: ClassOrder) -> BenchmarkRecord:
    unknown = {name: reason for name, reason in record.unknown.items() if name != "class_order"}
    return msgspec.structs.replace(record, class_order=order, unknown=unknown)


def _names_by_order(folders: list[str], matching: Matching, outputs: int) -> list[str]:
    by_output = dict(zip(matching.outputs, folders, strict=True))
    return [by_output.get(output, "background") for output in range(outputs)]


class ClassFolders(NamedTuple):
    """images: by the name of the class folder; system_files: number of files of an operating system that were
    skipped."""

    images: dict[str, list[Path]]
    system_files: int


def class_folders(data: Path) -> ClassFolders:
    """Each class folder's images: all files below it at any depth, links followed, hidden ones left out; sorted.

    Raises DataError if there is no class folder, if the folders are splits, or if one cannot be listed.
    """
    skipped: list[str] = []
    try:
        entries = sorted(_kept(data, os.listdir(data), skipped))
    except OSError as fault:
        raise DataError(data, "must be a folder of class folders", fault.strerror, "Check --data.") from fault
    names = [name for name in entries if (data / name).is_dir()]
    may_be_splits = any(map(resembles_split, names))
    if may_be_splits and (splits := splits_among(data, {name: _inside(data / name) for name in names})):
        raise DataError(data, "must be a folder of class folders", _few(sorted(splits.values())), GIVE_ONE)
    folders = {name: sorted(_files(data / name, skipped)) for name in names}
    if not folders:
        got = f"{count_of(len(entries), 'file')} and no folder" if entries else "an empty folder"
        raise DataError(data, "must be a folder of class folders", got, "Put the images of each class into a folder.")
    return ClassFolders(folders, sum(map(files_in, skipped)))


def _kept(folder: str | Path, names: list[str], skipped: list[str]) -> list[str]:
    """The names of visible files; paths of files that an operating system leaves behind are added to skipped."""
    skipped += [os.path.join(folder, name) for name in names if is_left_by_system(name)]
    return [name for name in names if not name.startswith(".") and not is_left_by_system(name)]


def _inside(folder: Path) -> Inside:
    try:
        return inside((name, (folder / name).is_dir()) for name in sorted(os.listdir(folder)))
    except OSError as fault:
        _refuse(fault)


def _files(folder: Path, skipped: list[str]) -> Iterator[Path]:
    visited = set()
    for parent, below, files in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(parent)
        below[:] = [] if real in visited else _kept(parent, below, skipped)
        if real not in visited:
            visited.add(real)
            yield from (Path(parent, name) for name in _kept(parent, files, skipped))


def _refuse(fault: OSError) -> None:
    raise DataError(fault.filename, "must be a folder that can be listed", fault.strerror, "Check its permissions.")


def match_folders(folders: list[str], outputs: int, labels: list[str] | None, where: str) -> Matching:
    """Which output each class folder stands for. folders: sorted; labels: the outputs' names, None if they have none.

    With labels by name alone: every folder needs one of its own, the same text, or the same but for case, `_` and `-`
    for spaces, and the way accents are encoded; or all have their outputs' numbers, as `0 red`, the line of a label
    file. Labels without a folder do not matter. Without labels by sorted order, if there are as many outputs as folders
    or one more, a background class at 0. Anything else is a DataError, and so are folders that are all named as splits.
    """
    outputs_by_folder = _by_name(folders, labels or [])
    if len(outputs_by_folder) == len(folders):
        return Matching(
            [outputs_by_folder[name] for name in folders],
            "labels",
            f"{count_of(len(folders), 'folder')} matched to outputs by name",
        )
    if all(map(split_from_name, folders)):
        raise DataError(where, "must be a folder of class folders", _few(folders), _help(folders))
    if labels:
        first = next(name for name in folders if name not in outputs_by_folder)
        must = f"must have one label for each class folder, of the labels {_few(labels)}"
        alike = [label for label in labels if _plain(label) == _plain(first)]
        rivals = [name for name in folders if _plain(name) == _plain(first)]
        got = f"{count_of(len(alike), 'label')} for {_few(rivals)}" if alike else f"none for the folder {first!r}"
        raise DataError(where, must, got, f"Give the folders the names of the labels. {_help(folders)}")
    background = outputs - len(folders)
    if background not in (0, 1):
        got = f"{count_of(len(folders), 'folder')} for {count_of(outputs, 'output')}, and no label in the file"
        raise DataError(where, "must have a class folder for each output, or labels", got, _help(folders))
    first = " after output 0, which is taken as the background" if background else ""
    order = f"its {len(folders)} folders are matched to the outputs in sorted order{first}"
    note = f"{where}: the outputs have no names, so {order}: {_few(folders)}"
    outputs_used = range(background, outputs)
    return Matching(list(outputs_used), "sorted folders after a background" if background else "sorted folders", note)


def _by_name(folders: list[str], labels: list[str]) -> dict[str, int]:
    """The index of the label of each folder that has one of its own.

    A folder may be called as a line of a numbered label file, `0 red`. Such numbers are used if every folder has one
    and the names alone do not match.
    """
    outputs_by_folder = positions_of(folders, labels, _plain)
    if len(outputs_by_folder) < len(folders):
        numbered = [one for one in map(number_and_name, folders) if one and one[0] < len(labels)]
        outputs_used = [number for number, name in numbered if _plain(name) == _plain(labels[number])]
        if len(set(outputs_used)) == len(folders):
            return dict(zip(folders, outputs_used, strict=True))
    return outputs_by_folder


def _plain(name: str) -> str:
    words = unicodedata.normalize("NFC", name).casefold().replace("_", " ").replace("-", " ")
    return " ".join(words.split())


def _about_skipped(skipped: list[tuple[Path, str]], system_files: int) -> list[str]:
    left = count_of(system_files, "file", "that systems leave among images skipped")
    notes = [f"{left}, such as thumbnails"] if system_files else []
    if not skipped:
        return notes
    first, reason = skipped[0]
    count = count_of(len(skipped), "file", "skipped")
    return [*notes, f"{count}, not readable; the first is {one_line(str(first))}: {reason}"]


def _help(folders: list[str]) -> str:
    if any(map(split_from_name, folders)):
        return GIVE_ONE
    return "Give the names of the outputs with --labels, one per line."


def _few(names: list[str]) -> str:
    return listed(repr(name[:LONGEST_SHOWN]) for name in names)
