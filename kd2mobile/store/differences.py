"""Two specs beside each other: where they differ, and which of those in the store is nearest to one that is missing.

A spec is a step as JSON: its stage, version, config and the specs of its inputs.
"""

from typing import Any

from kd2mobile.text import listed

MOST_DIFFERENCES = 3
BROUGHT = ("content", "unlabelled", "idx")
"""Fields of a config that stand for what the user brought, as a hash; a step without inputs has it by `name` too."""


def differences(tree: Any, other: Any, prefix: str = "") -> list[str]:
    """Where two JSON trees differ, by dotted name, values of the first and of the second.

    >>> differences({"distill": {"temperature": 4.0}}, {"distill": {"temperature": 2.0}})
    ['distill.temperature: 4.0 here, 2.0 there']
    """
    if isinstance(tree, dict) and isinstance(other, dict):
        if {"config", "inputs"} <= tree.keys() & other.keys():
            tree, other = _flattened(tree), _flattened(other)
        names = [*tree, *(name for name in other if name not in tree)]
        return [d for n in names for d in differences(tree.get(n), other.get(n), f"{prefix}.{n}" if prefix else n)]
    for value, side in ((other, "here"), (tree, "there")):
        if value is None and (isinstance(tree, dict) or isinstance(other, dict)):
            return [f"{prefix}: {side} alone"]
    return [] if tree == other else [f"{prefix}: {tree!r} here, {other!r} there"]


def why_missing(spec: dict[str, Any], others: list[dict[str, Any]]) -> str:
    """Why an artifact has to be made: there is none yet, or where the nearest one differs. others: of the same stage.

    One that was made from other data is not near, whatever else they share.

    >>> cats = {"stage": "split", "version": 1, "config": {"content": "aa", "seed": 0}, "inputs": {}}
    >>> why_missing(cats, [cats | {"config": {"content": "bb", "seed": 0}}])
    'first build'
    >>> why_missing(cats, [cats | {"config": {"content": "aa", "seed": 1}}])
    'no artifact with these settings; the nearest differs in seed: 0 here, 1 there'
    """
    changes = [differences(spec, other) for other in others if _same_data(spec, other)]
    nearest = min(changes, key=len, default=None)
    if not nearest:
        return "first build"
    return f"no artifact with these settings; the nearest differs in {listed(nearest, MOST_DIFFERENCES, '; ')}"


def _same_data(spec: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether what both have of the user's data is the same, in them and in the inputs that both have."""
    fields = BROUGHT if spec["inputs"] else (*BROUGHT, "name")
    if any(spec["config"].get(field) != other["config"].get(field) for field in fields):
        return False
    shared = spec["inputs"].keys() & other["inputs"].keys()
    return all(_same_data(spec["inputs"][name], other["inputs"][name]) for name in shared)


def _flattened(spec: dict[str, Any]) -> dict[str, Any]:
    return {"version": spec["version"], **spec["config"], **spec["inputs"]}
