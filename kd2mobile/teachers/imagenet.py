"""ImageNet's 1,000 classes: whether the user's are among them, and which outputs of a network are theirs."""

from functools import cache
from importlib import resources

OUTPUTS = 1000


@cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """WordNet id and name of each class, in the order of a network's outputs.

    >>> imagenet_classes()[281]
    ('n02123045', 'tabby')
    """
    lines = (resources.files("kd2mobile") / "teachers" / "imagenet_classes.txt").read_text("utf-8").splitlines()
    rows = (line.partition("\t") for line in lines if not line.startswith("#"))
    return tuple((wordnet_id, name) for wordnet_id, _, name in rows)


def imagenet_numbers(classes: list[str]) -> list[int] | None:
    """The output of each class, if every one is a WordNet id or an ImageNet name and no two are the same; else None.

    Names match with spaces or underscores. Where small and capital letters alone differ, the exact name wins.

    >>> imagenet_numbers(["tiger_cat", "n02123045", "Tench"]), imagenet_numbers(["tench", "my cat"])
    ([282, 281, 0], None)
    """
    found = [_outputs(name) for name in classes]
    if any(len(outputs) != 1 for outputs in found):
        return None
    numbers = [outputs[0] for outputs in found]
    return numbers if len(set(numbers)) == len(numbers) else None


def ambiguous_names(classes: list[str]) -> dict[str, list[str]]:
    """The names that stand for several ImageNet classes, with their ids, if every class is one of ImageNet's.

    >>> ambiguous_names(["tench", "crane"]), ambiguous_names(["crane", "digger"])
    ({'crane': ['n02012849', 'n03126707']}, {})
    """
    found = {name: _outputs(name) for name in classes}
    if not all(found.values()):
        return {}
    return {name: [imagenet_classes()[i][0] for i in found[name]] for name in classes if len(found[name]) > 1}


def in_imagenets_order(names: list[str]) -> bool:
    """Whether these are ImageNet's classes, all of them and in its order, by id or by name.

    >>> in_imagenets_order([name for _, name in imagenet_classes()])
    True
    """
    return len(names) == OUTPUTS and all(i in _outputs(name) for i, name in enumerate(names))


def _outputs(name: str) -> list[int]:
    by_id, by_name, by_small_name = _index()
    spaced = name.replace("_", " ")
    return by_id.get(name) or by_name.get(spaced) or by_small_name.get(spaced.lower(), [])


@cache
def _index() -> tuple[dict[str, list[int]], dict[str, list[int]], dict[str, list[int]]]:
    by_id: dict[str, list[int]] = {}
    by_name: dict[str, list[int]] = {}
    by_small_name: dict[str, list[int]] = {}
    for i, (wordnet_id, name) in enumerate(imagenet_classes()):
        for index, key in ((by_id, wordnet_id), (by_name, name), (by_small_name, name.lower())):
            index.setdefault(key, []).append(i)
    return by_id, by_name, by_small_name
