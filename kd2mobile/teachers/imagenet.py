"""ImageNet's 1,000 classes: whether the user's classes are among them, and at which outputs of a network."""

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
    """The output number of each class; None unless every class is a different ImageNet class.

    A class matches by WordNet id or by name, with spaces or underscores, in any capitals; an exact name is preferred.

    >>> imagenet_numbers(["tiger_cat", "n02123045", "Tench"]), imagenet_numbers(["tench", "my cat"])
    ([282, 281, 0], None)
    """
    matches = [_outputs(name) for name in classes]
    if any(len(outputs) != 1 for outputs in matches):
        return None
    numbers = [outputs[0] for outputs in matches]
    return numbers if len(set(numbers)) == len(numbers) else None


def ambiguous_names(classes: list[str]) -> dict[str, list[str]]:
    """The names that several ImageNet classes share, with the ids of these; empty unless every class is of ImageNet.

    >>> ambiguous_names(["tench", "crane"]), ambiguous_names(["crane", "digger"])
    ({'crane': ['n02012849', 'n03126707']}, {})
    """
    matches = {name: _outputs(name) for name in classes}
    if not all(matches.values()):
        return {}
    return {name: [imagenet_classes()[i][0] for i in matches[name]] for name in classes if len(matches[name]) > 1}


def in_imagenets_order(names: list[str]) -> bool:
    """Whether the names are all of ImageNet's classes, by id or by name, in ImageNet's order.

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
