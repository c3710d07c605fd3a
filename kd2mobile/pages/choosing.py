"""How accurate the files on each device are, on which test images, and which of them to take there."""

from collections.abc import Callable, Iterable
from typing import Any

from kd2mobile.pages import timings, words
from kd2mobile.pages.view import Choice
from kd2mobile.text import count_of, listed

Record = dict[str, Any]
ImageSet = tuple[str | None, int]
"""Test images: their name in the records, None in those from before there was one, and how many they are."""
MOST_NAMED = 4
OTHER_IMAGES, NO_ACCURACY = "evaluated on other test images", "of unknown accuracy"
OTHER_VALIDATION = "evaluated on other validation images"


def evaluated_set(record: Record) -> ImageSet | None:
    """The images of a record's evaluated_top1, None without one."""
    return None if record["evaluated_top1"] is None else (record["evaluated_images"], record["evaluated_n"])


def with_accuracies(by_device: dict[str, list[Record]], given: Iterable[tuple[str, Record]]) -> dict[str, list[Record]]:
    """The records with evaluated_top1, evaluated_images, evaluated_n; evaluated_on, the letter of the device where that
    was; and evaluated_with, in words, if it was with another setting on the same device.

    given: every record with its device's letter, those that a newer one replaced too. A record without an accuracy has
    that of the same file with another setting, or else on another device: the newest on the images of most files.
    """
    newest = sorted(given, key=lambda one: one[1]["measured_at"] or "", reverse=True)
    evaluated: dict[tuple, list[tuple[str, Record]]] = {}
    for on, record in newest:
        if record["top1"] is not None:
            evaluated.setdefault(words.file_of(record), []).append((on, record))

    def sources(key: str, record: Record) -> list[tuple[str, Record]]:
        if record["top1"] is not None:
            return [(key, record)]
        of_file = evaluated.get(words.file_of(record), [])
        return [one for one in of_file if one[0] == key] or of_file

    def on_device(key: str, own: list[Record]) -> list[Record]:
        sources_of_each = [sources(key, record) for record in own]
        most = _of_most_files((words.file_of(one), _set(one)) for ways in sources_of_each for _, one in ways)
        taken = [next((one for one in ways if _set(one[1]) == most), (ways or [None])[0]) for ways in sources_of_each]
        return [_with_accuracy(key, record, source) for record, source in zip(own, taken, strict=True)]

    return {key: on_device(key, own) for key, own in by_device.items()}


def _with_accuracy(key: str, record: Record, source: tuple[str, Record] | None) -> Record:
    on, evaluated = source or (None, {"top1": None, "images": None, "n": 0})
    elsewise = on == key and evaluated is not record
    return record | {
        "evaluated_top1": evaluated["top1"],
        "evaluated_images": evaluated["images"],
        "evaluated_n": evaluated["n"],
        "evaluated_on": on,
        "evaluated_with": words.whole_setting(evaluated) if elsewise else None,
    }


def _set(record: Record) -> ImageSet:
    return record["images"], record["n"]


def _of_most_files(evaluated: Iterable[tuple[tuple, ImageSet | None]]) -> ImageSet | None:
    """The images that most files were evaluated on; of several those that are known, then the most images."""
    files: dict[ImageSet, set[tuple]] = {}
    for file, images in evaluated:
        if images:
            files.setdefault(images, set()).add(file)
    return max(files, key=lambda one: (len(files[one]), one[0] is not None, one[1]), default=None)


def choose(key: str, device: str, rows: list[Record], within: float | None, min_top1: float | None) -> Choice:
    """What to take on a device, of the files evaluated on the same images: the validation images, which choose, where
    as many files know them as were evaluated on any test images; else the test images that most were evaluated on.

    rows: as from `with_accuracies`. The smallest is the smallest download, of equal ones the more accurate. The fastest
    is the smallest download of those that the timings do not tell apart from it.
    """
    val, test = (_of_most_files((words.file_of(r), of(r)) for r in rows) for of in (_validation_set, evaluated_set))
    by_val = val is not None and _files(rows, _validation_set, val) >= _files(rows, evaluated_set, test)
    images, of = (val, _validation_set) if by_val else (test, evaluated_set)
    known = [r for r in rows if images and of(r) == images]

    def accuracy(record: Record) -> float:
        return record["val"]["top1"] if by_val else record["evaluated_top1"]

    best = max(map(accuracy, known), default=None)
    limits = (0.0, None if within is None or best is None else best - within, min_top1)
    least = None if best is None else max(limit for limit in limits if limit is not None)
    near = [r for r in known if accuracy(r) >= least - words.ROUNDING]
    sized = [r for r in near if r["size_bytes"] is not None]
    timed = [r for r in near if words.typical_latency(r) is not None]
    level = timings.equally_fast(timed) if timed else []
    fastest = words.smallest_download(level, accuracy) if level else None
    return Choice(
        key=key,
        device=device,
        by="validation" if by_val else "test",
        images=images and images[0],
        n=images and images[1],
        best_top1=best,
        least_top1=least,
        evaluated=len({words.file_of(r) for r in known}),
        within=len({words.file_of(r) for r in near}),
        smallest=words.smallest_download(sized, accuracy) if sized else None,
        fastest=fastest,
        level=list(dict.fromkeys(words.name_and_setting(r) for r in level if r is not fastest)),
        left_out=[_left_out(r, by_val) for r in rows if of(r) != images or not images],
    )


def _validation_set(record: Record) -> ImageSet | None:
    """The validation images of a record, None without."""
    val = record.get("val")
    return val and (val["images"], val["n"])


def _files(rows: list[Record], of: Callable[[Record], ImageSet | None], images: ImageSet | None) -> int:
    """How many files were evaluated on these images."""
    return len({words.file_of(r) for r in rows if images and of(r) == images})


def chosen_top1(choice: Choice, record: Record) -> float:
    """The accuracy by which a record was chosen."""
    return record["val"]["top1"] if choice.by == "validation" else record["evaluated_top1"]


def _left_out(record: Record, by_val: bool) -> Record:
    on = (_validation_set if by_val else evaluated_set)(record)
    images, n = on or (None, 0)
    why = OTHER_VALIDATION if by_val else OTHER_IMAGES
    return {
        "name": words.name_and_setting(record),
        "sha256": record["sha256"],
        "images": images,
        "n": n,
        "why": why if on else NO_ACCURACY,
    }


def requirement(within: float | None, min_top1: float | None) -> str:
    """The accuracy that a choice must have, in words: "within 0.5 points of the most accurate file there"."""
    near = f"within {100 * within:g} points of the most accurate file there" if within is not None else ""
    least = f"at {100 * min_top1:g} % top-1 or above" if min_top1 is not None else ""
    return " and ".join(filter(None, (near, least)))


def sentence(choice: Choice) -> str:
    """What to take on a device, or why there is nothing to take; on which images; what is left out, and why."""
    if choice.best_top1 is None:
        return f"{choice.device}: no file there has a known accuracy, so none is recommended."
    least = f"{words.percent(choice.least_top1)} % top-1 on {_images(choice)}"
    left_out = _left_out_sentences(choice)
    if not choice.within:
        best = words.percent(choice.best_top1)
        return f"{choice.device}: no file reaches {least}; the most accurate one has {best} %.{left_out}"
    texts = {what: _named(choice, r) for what, r in both(choice).items() if r}
    if choice.level and "fastest" in texts:
        texts["fastest"] += f", whose timing does not differ clearly from {listed(choice.level, MOST_NAMED, '; ')}"
    reach = "reaches" if choice.within == 1 else "reach"
    of = f"{choice.device}: {choice.within:,} of {count_of(choice.evaluated, 'file')} {reach} {least}"
    if not texts:
        return f"{of}, and neither size nor latency is known of any.{left_out}"
    if len(texts) == 2 and choice.smallest["sha256"] == choice.fastest["sha256"]:
        return f"{of}; the smallest of them is the fastest too: {texts['fastest']}.{left_out}"
    return f"{of}; the {'; the '.join(f'{what} is {text}' for what, text in texts.items())}.{left_out}"


def both(choice: Choice) -> dict[str, Record | None]:
    """The two records of a choice by what they are."""
    return {"smallest": choice.smallest, "fastest": choice.fastest}


def _left_out_sentences(choice: Choice) -> str:
    """` Left out, evaluated on other test images: squeezenet int8 (359 #0a1b).`, a sentence per reason; or nothing."""
    whys: dict[str, list[str]] = {}
    for one in choice.left_out:
        of = f" ({words.image_set(one['n'], one['images'])})" if one["why"] != NO_ACCURACY else ""
        whys.setdefault(one["why"], []).append(one["name"] + of)
    return "".join(f" Left out, {why}: {listed(names, MOST_NAMED, '; ')}." for why, names in whys.items())


def _images(choice: Choice) -> str:
    """On what the files were compared, in words."""
    if choice.by == "validation":
        return (
            f"{count_of(choice.n, 'validation image')} ({words.image_set(choice.n, choice.images).partition(' ')[2]})"
        )
    return f"{words.test_images(choice.n, choice.images)}, because the validation images of some files are unknown"


def _named(choice: Choice, record: Record) -> str:
    """`mobilenet025 int8 (4 threads), 83.1 %, 352 KB, 0.23 ms`."""
    size, ms = record["size_bytes"], words.typical_latency(record)
    costs = [words.size_words(record)] if size is not None else []
    costs += [f"{words.milliseconds(ms)} ms"] if ms is not None else []
    return ", ".join([words.name_and_setting(record), f"{words.percent(chosen_top1(choice, record))} %", *costs])


def notes(by_device: dict[str, list[Record]]) -> list[str]:
    """What a reader must know of the accuracies: whether they compare, and which were evaluated elsewhere."""
    keyed = [(key, r) for key, own in by_device.items() for r in own]
    evaluated_on: dict[ImageSet, list[tuple[str, Record]]] = {}
    for key, r in keyed:
        if r["top1"] is not None:
            evaluated_on.setdefault(_set(r), []).append((key, r))
    notes = []
    if len(evaluated_on) > 1:
        counts = "; ".join(f"{words.image_set(n, name)} ({_keys(of)})" for (name, n), of in evaluated_on.items())
        notes.append(
            f"Not all were evaluated on the same test images (# begins their name in the records): {counts}. "
            "Their top-1 cannot be compared, so the choice for each device is among the files of one set."
        )
    unnamed = [f"{words.count(n)} of {_keys(of)}" for (name, n), of in evaluated_on.items() if not name and len(of) > 1]
    if unnamed:
        notes.append(
            "Records of an earlier version hold the number of their test images but not which: whether the "
            f"{', and the '.join(unnamed)} are the same images is unknown. They are taken as the same here."
        )
    for key, own in by_device.items():
        notes += [*_of_other_settings(key, own), *_of_other_devices(key, own)]
    return notes


def _keys(evaluated: list[tuple[str, Record]]) -> str:
    return ", ".join(dict.fromkeys(key for key, _ in evaluated))


def _of_other_settings(key: str, own: list[Record]) -> list[str]:
    other = [r for r in own if r["evaluated_with"]]
    if not other:
        return []
    settings = " or ".join(dict.fromkeys(r["evaluated_with"] for r in other))
    other_kernels = any(r["xnnpack"] is False for r in other)
    kernels = " Kernels other than XNNPACK's may give slightly different results." if other_kernels else ""
    return [
        f"{key}: accuracy was evaluated with {settings}; the choice and the plot use it for "
        f"other settings too.{kernels}"
    ]


def _of_other_devices(key: str, own: list[Record]) -> list[str]:
    other = [r for r in own if r["evaluated_on"] not in (None, key)]
    if not other:
        return []
    on = ", ".join(dict.fromkeys(r["evaluated_on"] for r in other))
    if any(r["top1"] is not None for r in own):
        names = ", ".join(dict.fromkeys(words.name(r) for r in other))
        return [f"{key} did not evaluate {names}: the choice and the plot use the accuracy on {on}."]
    return [f"{key} evaluated no images: the choice and the plot use the accuracy on {on}."]
