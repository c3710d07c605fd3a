"""Greyscale images of more than 8 bits, scaled to 8 bits: the recipe's data.range.

Networks, files and phones take 8 bits alone, so the images are scaled once, before the split. Every later stage gets
ordinary images and needs to know nothing about the range.
"""

import csv
import shutil
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from kd2mobile import progress
from kd2mobile.data.in_threads import in_threads
from kd2mobile.data.sources.containers import Source
from kd2mobile.data.sources.scan import Scan, content_of, scan, scan_unlabelled
from kd2mobile.data.sources.table import is_table, scan_table
from kd2mobile.errors import ImageError
from kd2mobile.files import Address, opened_file, replaced
from kd2mobile.pixels import Range, kind_of_depth, refuse_deep_colour, write_8_bit
from kd2mobile.store.artifact import Step, Store
from kd2mobile.text import count_of

TABLE = "images.csv"


def scaled_source(
    source: Source, value_range: Range, store: Store, *, labelled: bool = True, key_column: str = ""
) -> Source:
    """A copy of the source in the store whose greyscale images of more than 8 bits are PNG files of 8 bits.

    A source without such images is returned itself. All other images are copied unchanged, also those that cannot be
    decoded: the split skips them with the reason. Files of a folder keep their names, and so their ids, even where the
    suffix no longer fits: images are recognized by their content.

    source: a folder of class folders or splits, or a table; a folder of unlabelled images if not labelled. value_range:
    the pixel values of black and white. key_column: of a table, see `scan_table`.
    Raises DataError for a source that cannot be used, ImageError for colour images of 16 bits per channel.
    """
    cache = store.root / "hashes.json"
    if not labelled:
        scanned, root = scan_unlabelled(source, cache), source
    elif is_table(source):
        scanned, root = scan_table(source, cache, 1, key_column), source.parent
    else:
        scanned, root = scan(source, cache, fewest=1), source
    config = {"scaled": scanned.content, "range": list(value_range)}
    if key_column:
        config["keys"] = content_of([(image.path, image.key) for image in scanned.images]) + key_column
    step = Step("source", 2, config, {}, partial(_write, scanned, root, value_range, key_column))
    if not (artifact := store.find(step)):
        kinds = (kind_of_depth(root / image.path) for image in scanned.images)
        if not any(kind == "grey" for kind in kinds):
            progress.say(f"{source}: holds no greyscale of more than 8 bits: --range has no effect on it")
            return source
        artifact = store.make(step)
    if scanned.skipped:
        first, skipped = scanned.skipped[0], count_of(len(scanned.skipped), "file", "skipped")
        progress.say(f"{source}: {skipped} before scaling, first {first.path!r}: {first.reason}")
    return artifact.folder / "images" / (TABLE if any(part.table for part in scanned.parts) else "")


def _write(
    scanned: Scan, root: Source, value_range: Range, key_column: str, folder: Path, inputs: dict[str, Path]
) -> dict[str, Any]:
    """Writes `images/`: the files of a folder at their paths, those of a table at similar ones, with a new table."""
    images, listed = folder / "images", any(part.table for part in scanned.parts)
    kinds = [kind_of_depth(root / image.path) for image in scanned.images]
    names = _inside([image.path for image in scanned.images]) if listed else [p.path for p in scanned.images]

    def write(number: int) -> None:
        source, target = root / scanned.images[number].path, images / names[number]
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        refuse_deep_colour(source, kinds[number])
        with replaced(target) as temporary:
            try:
                write_8_bit(source, temporary, value_range) if kinds[number] else _copy(source, temporary)
            except ImageError:
                _copy(source, temporary)

    with progress.bar("scaling", len(names), "images") as advance:
        for _ in in_threads(write, range(len(names))):
            advance(1)
    if listed:
        with replaced(images / TABLE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            columns = ["path", "label", *(["split"] if scanned.given else []), *([key_column] if key_column else [])]
            rows = csv.DictWriter(file, columns, extrasaction="ignore")
            rows.writeheader()
            for name, image in zip(names, scanned.images, strict=True):
                row = {key_column: image.key, "path": name, "label": image.class_name, "split": image.given}
                rows.writerow(row)
    return {"images": len(names), "scaled": sum(kind == "grey" for kind in kinds)}


def _copy(source: Address, target: Path) -> None:
    with opened_file(source) as stream, open(target, "wb") as file:
        shutil.copyfileobj(stream, file)


def _inside(paths: list[str]) -> list[str]:
    """The paths without parts that lead out of the folder, numbered where two of them would become one.

    >>> _inside(["a/1.png", "../a/1.png", "/b/2.png"])
    ['a/1.png', '1/a/1.png', 'b/2.png']
    """
    names: dict[str, None] = {}
    for number, path in enumerate(paths):
        name = "/".join(part for part in PurePath(path).parts if part not in ("..", PurePath(path).anchor))
        names[f"{number}/{name}" if name in names else name] = None
    return list(names)
