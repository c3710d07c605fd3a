"""What `kd2mobile check` prints: a table of the classes, then one paragraph for each thing to know."""

from statistics import median
from unicodedata import combining, east_asian_width

from kd2mobile.data.check import Checked, ClassCounts, Sizes
from kd2mobile.data.split import SPLIT_NAMES
from kd2mobile.pixels import DeepImages
from kd2mobile.text import count_of, listed, one_line

MOST_CLASSES = 30
"""Classes listed; of more than these the largest and the smallest, half each."""
MOST_LISTED = 5
"""Files or groups named in a paragraph."""
PATHS_OF_A_GROUP = 4
LONGEST_NAME = 48
UNEVEN = 3.0
"""Times as many images from which the class weights are brought up."""


def check_text(checked: Checked) -> str:
    """The findings as plain text without a newline at its end. Long lists are cut, and say so."""
    paragraphs = [_headline(checked), _splits(checked.classes), _classes(checked.classes)]
    paragraphs += [_system_files(checked), _depth(checked.deep_images), _alike(checked), _skipped(checked)]
    paragraphs += [*_copies(checked), *_near(checked), _keys(checked), _leaked(checked)]
    paragraphs += [_sizes("Sizes", checked.sizes)]
    paragraphs += [_sizes("Sizes without a label", checked.unlabelled_sizes), _imbalance(checked)]
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def cut_classes(classes: list[ClassCounts], most: int) -> tuple[list[ClassCounts], str]:
    """The classes to show, in their order, and what to say of the others: nothing if all are there."""
    if len(classes) <= most:
        return classes, ""
    by_size = sorted(classes, key=lambda one: one.all)
    few = {one.name for one in by_size[: most // 2] + by_size[most // 2 - most :]}
    title = f"The {most - most // 2} largest and the {most // 2} smallest of {len(classes):,} classes"
    return [one for one in classes if one.name in few], title


def _headline(checked: Checked) -> str:
    images = sum(one.all for one in checked.classes)
    skipped = count_of(len(checked.skipped), "file", "skipped")
    ignored = count_of(checked.ignored_files, "other file", "skipped")
    without = "" if checked.unlabelled is None else f" and {checked.unlabelled:,} without a label"
    return f"{checked.source}: {images:,} images of {len(checked.classes):,} classes{without}; {skipped}; {ignored}."


def _splits(classes: list[ClassCounts]) -> str:
    rows = [("split", "images", "smallest", "median", "largest class")]
    for name in SPLIT_NAMES:
        counts = [getattr(one, name) for one in classes]
        rows.append((name, f"{sum(counts):,}", f"{min(counts):,}", f"{median(counts):,g}", f"{max(counts):,}"))
    return _aligned(rows)


def _classes(classes: list[ClassCounts]) -> str:
    shown, title = cut_classes(classes, MOST_CLASSES)
    rows = [("class", *SPLIT_NAMES, "all")]
    rows += [(_cut(one.name), *(f"{n:,}" for n in (one.train, one.val, one.test, one.all))) for one in shown]
    return _aligned(rows) + (f"\n{title}; --json has all of them." if title else "")


def _system_files(checked: Checked) -> str:
    if not checked.system_files:
        return ""
    left = count_of(checked.system_files, "file", "that systems leave among images")
    return f"Skipped: {left}, such as thumbnails (@eaDir, __MACOSX, Thumbs.db)."


def _depth(deep: DeepImages | None) -> str:
    return f"Depth: {deep.words()}." if deep and deep.odd else ""


def _alike(checked: Checked) -> str:
    lines = [" and ".join(names) for names in checked.alike_classes]
    head = (
        "Classes whose names differ only in capitals or in invisible characters; rename one if they are the same class."
    )
    return _listed(head, lines) if lines else ""


def _skipped(checked: Checked) -> str:
    lines = [f"{one.path}: {one.reason}" for one in checked.skipped]
    return _listed(f"Skipped: {count_of(len(lines), 'file', 'cannot be used')}.", lines) if lines else ""


def _copies(checked: Checked) -> list[str]:
    extra = sum(len(paths) - 1 for paths in checked.duplicates)
    parts = []
    if extra:
        lines = [listed(paths, PATHS_OF_A_GROUP) for paths in checked.duplicates]
        parts.append(_listed(f"Copies: {count_of(extra, 'file', 'identical to another byte for byte')}.", lines))
    if checked.leaks:
        lines = [f"{' and '.join(leak.splits)}: {listed(leak.paths, PATHS_OF_A_GROUP)}" for leak in checked.leaks]
        head = f"Copies in several splits: {len(checked.leaks):,}. The measured scores will be too good."
        parts.append(_listed(head, lines))
    if checked.copied_classes:
        lines = [f"{copy.words()}." for copy in checked.copied_classes]
        head = f"Copied classes: {len(checked.copied_classes):,}. Either labels are wrong or the two are one class."
        parts.append(_listed(head, lines))
    if checked.contradictions:
        lines = [listed(paths, PATHS_OF_A_GROUP) for paths in checked.contradictions]
        parts.append(_listed(f"Copies in several classes: {len(checked.contradictions):,}. One label is wrong.", lines))
    return parts or ["Copies: none."]


def _near(checked: Checked) -> list[str]:
    groups = checked.near_duplicates
    if not groups:
        return ["Near duplicates: none."]
    images = sum(len(group.paths) for group in groups)
    across = [group for group in groups if group.leaks]
    unlike = [group for group in groups if len(group.classes) > 1]
    head = f"Near duplicates: {images:,} images in {count_of(len(groups), 'group', 'that look the same')}."
    if checked.groups:
        head += " Drawn splits keep each group in one split."
    parts = [_listed(head, [listed(group.paths, PATHS_OF_A_GROUP) for group in groups])]
    if across:
        lines = [f"{' and '.join(group.splits)}: {listed(group.paths, PATHS_OF_A_GROUP)}" for group in across]
        head = (
            f"Near duplicates in several splits: {count_of(len(across), 'group')}. The measured scores will "
            "be too good."
        )
        parts.append(_listed(head, lines))
    if unlike:
        lines = [listed(group.paths, PATHS_OF_A_GROUP) for group in unlike]
        parts.append(_listed(f"Near duplicates in several classes: {count_of(len(unlike), 'group')}.", lines))
    return parts


def _keys(checked: Checked) -> str:
    if not checked.group_by:
        return ""
    alone = count_of(checked.without_key, "image")
    return (
        f"Keys by {one_line(repr(checked.group_by))}: images with one key stay in one drawn split. {alone} "
        "without a key."
    )


def _leaked(checked: Checked) -> str:
    leaked, tested = checked.leaked_test_images, sum(one.test for one in checked.classes)
    if not leaked:
        return ""
    among = f"{len(leaked):,} of {count_of(tested, 'test image')}"
    head = f"Leaks: {among} are also in train or val, as a copy, a near duplicate or by their key."
    return _listed(f"{head} The report also gives the scores without them.", leaked)


def _sizes(head: str, sizes: Sizes | None) -> str:
    if sizes is None:
        return ""
    three = sizes.smallest, sizes.median, sizes.largest
    smallest, middle, largest = (f"{width:,} x {height:,}" for width, height in three)
    below = f"{count_of(sizes.below_input, 'image')} with a side below the student's {sizes.input_px} px"
    return (
        f"{head}: {smallest} to {largest} px, median {middle}; width / height {sizes.narrowest:g} to {sizes.widest:g}; "
        f"{below}."
    )


def _imbalance(checked: Checked) -> str:
    imbalance = checked.imbalance
    largest, smallest = imbalance.largest, imbalance.smallest
    text = (
        f"Imbalance: {imbalance.ratio:g} to 1 in train, {one_line(largest.name)} {largest.train:,} and "
        f"{one_line(smallest.name)} {smallest.train:,}."
    )
    return text + (" Consider `--class-weights`." if imbalance.ratio >= UNEVEN else "")


def _listed(head: str, lines: list[str]) -> str:
    more = [f"  and {len(lines) - MOST_LISTED:,} more; --json has all of them"] if len(lines) > MOST_LISTED else []
    return "\n".join([head, *(f"  {one_line(line)}" for line in lines[:MOST_LISTED]), *more])


def _aligned(rows: list[tuple[str, ...]]) -> str:
    """The first column to the left, numbers to the right, by the width that a terminal gives each character."""
    widths = [max(map(_width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        gaps = [" " * (width - _width(text)) for text, width in zip(row, widths, strict=True)]
        lines.append("  ".join([row[0] + gaps[0], *(gap + text for gap, text in zip(gaps[1:], row[1:], strict=True))]))
    return "\n".join(line.rstrip() for line in lines)


def _width(text: str) -> int:
    """Columns of a terminal: two for a wide character, none for one that joins the one before."""
    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _cut(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
