"""Greyscale of more than 8 bits, scaled to 8 by the values that are black and white, as a source of its own.

Networks, files and phones know 8 bits alone, so this is done once, before the split: all that follows, on every device,
sees ordinary images, and nothing else of the chain knows the range.
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
    """The source with its greyscale images of more than 8 bits as PNG files of 8, in the store; itself if it has none.

    Those of a folder keep their names, and so their ids, whatever the suffix says: images are known by their content.
    source: a folder of class folders or splits, or a table; of images without labels if not labelled. value_range: what
    is black and white. key_column: of a table, see `scan_table`. Other images are copied as they are, those that cannot
    be decoded as well: the split sets them aside and says why.
    Raises DataError for a source that cannot be used, ImageError for colour of 16 bits, of which 8 are lost.
    """
    cache = store.root / "hashes.json"
    if not labelled:
        found, root = scan_unlabelled(source, cache), source
    elif is_table(source):
        found, root = scan_table(source, cache, 1, key_column), source.parent
    else:
        found, root = scan(source, cache, fewest=1), source
    config = {"scaled": found.content, "range": list(value_range)}
    if key_column:
        config["keys"] = content_of([(image.path, image.key) for image in found.images]) + key_column
    step = Step("source", 2, config, {}, partial(_write, found, root, value_range, key_column))
    if not (made := store.find(step)):
        kinds = (kind_of_depth(root / image.path) for image in found.images)
        if not any(kind == "grey" for kind in kinds):
            progress.say(f"{source}: holds no greyscale of more than 8 bits: --range has no effect on it")
            return source
        made = store.make(step)
    if found.skipped:
        first, aside = found.skipped[0], count_of(len(found.skipped), "file", "skipped")
        progress.say(f"{source}: {aside} before scaling, first {first.path!r}: {first.reason}")
    return made.folder / "images" / (TABLE if any(part.table for part in found.parts) else "")


def _write(
    found: Scan, root: Source, value_range: Range, key_column: str, folder: Path, inputs: dict[str, Path]
) -> dict[str, Any]:
    """`images/` with the images where they were; those of a table as near to it as they can be, with a new table."""
    images, listed = folder / "images", any(part.table for part in found.parts)
    kinds = [kind_of_depth(root / image.path) for image in found.images]
    names = _inside([image.path for image in found.images]) if listed else [p.path for p in found.images]

    def write(number: int) -> None:
        source, target = root / found.images[number].path, images / names[number]
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
            columns = ["path", "label", *(["split"] if found.given else []), *([key_column] if key_column else [])]
            rows = csv.DictWriter(file, columns, extrasaction="ignore")
            rows.writeheader()
            for name, image in zip(names, found.images, strict=True):
                row = {key_column: image.key, "path": name, "label": image.class_name, "split": image.given}
                rows.writerow(row)
    return {"images": len(names), "scaled": sum(kind == "grey" for kind in kinds)}


def _copy(source: Address, target: Path) -> None:
    with opened_file(source) as stream, open(target, "wb") as file:
        shutil.copyfileobj(stream, file)


def _inside(paths: list[str]) -> list[str]:
    """The paths without what leads out of a folder, numbered where two of them become one.

    >>> _inside(["a/1.png", "../a/1.png", "/b/2.png"])
    ['a/1.png', '1/a/1.png', 'b/2.png']
    """
    names: dict[str, None] = {}
    for number, path in enumerate(paths):
        name = "/".join(part for part in PurePath(path).parts if part not in ("..", PurePath(path).anchor))
        names[f"{number}/{name}" if name in names else name] = None
    return list(names)
