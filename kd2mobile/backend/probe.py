"""Tries to import a package, in a process of its own: `python -m kd2mobile.backend.probe`, see `child.py`."""

from typing import Any

import msgspec

from kd2mobile.backend.child import Give, serve


class Try(msgspec.Struct):
    """A request. code: imports it and leaves the accelerators that it sees in `accelerators`."""

    code: str


class Tried(msgspec.Struct):
    """fault: why it cannot be imported, None if it can; accelerators: what the code left there."""

    fault: str | None
    accelerators: list[str] = []


def answer(request: Try, give: Give) -> None:
    """What an import raises is why it fails; one that ends the process says so by that."""
    names: dict[str, Any] = {}
    try:
        exec(request.code, names)
    except Exception as fault:
        lines = f"{type(fault).__name__}: {fault}".strip().splitlines()
        give(Tried(lines[-1].strip()))
    else:
        give(Tried(None, names["accelerators"]))


if __name__ == "__main__":
    serve(answer, Try)
