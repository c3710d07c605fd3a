"""A recipe as TOML: read, written, and the one line of it that `--set` is."""

import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.errors import RecipeError
from kd2mobile.files import check_regular, write_bytes

WRITABLE = "text of whole characters, without NUL"
LONGEST_NUMBER_BITS = 200


def built_in(name: str) -> dict[str, Any]:
    """The tables of the recipe of that name that comes with kd2mobile."""
    return tomllib.loads((resources.files("kd2mobile.recipe") / "built_in" / f"{name}.toml").read_text("utf-8"))


def read_tables(file: Path) -> dict[str, Any]:
    """The tables of a TOML file, not yet checked against the schema. Raises RecipeError."""
    check_regular(file, RecipeError, "Save the recipe to a file, and give that.")  # a pipe is empty the second time
    try:
        stored = Path(file).read_bytes()
    except OSError as fault:
        raise RecipeError(file, "must be a readable recipe", fault.strerror, "Check the path.") from fault
    try:
        return tomllib.loads(stored.decode("utf-8-sig"))  # Notepad's mark at the start is no part of it
    except RecursionError as fault:
        raise RecipeError(file, "must be TOML in UTF-8", "arrays or tables nested too deep", "Correct that.") from fault
    except ValueError as fault:  # TOMLDecodeError, UnicodeDecodeError, and a number of thousands of digits
        raise RecipeError(file, "must be TOML in UTF-8", fault, "Correct that place.") from fault


def recipe_toml(recipe: msgspec.Struct) -> bytes:
    """The recipe as TOML, every field spelled out."""
    tables = {
        name: list(map(_without_none, table)) if isinstance(table, list | tuple) else _without_none(table)
        for name, table in msgspec.to_builtins(recipe).items()
    }
    return msgspec.toml.encode(tables)


def shown_tables(recipe: msgspec.Struct) -> dict[str, dict[str, Any]]:
    """The recipe's tables by name, for a page or a comparison; several teachers are `teacher 1`, `teacher 2`, ..."""
    shown = {}
    for name, table in msgspec.to_builtins(recipe).items():
        several = isinstance(table, list | tuple)
        shown |= {f"{name} {i}": one for i, one in enumerate(table, 1)} if several else {name: table}
    return shown


def write_recipe(recipe: msgspec.Struct, file: Path) -> None:
    """The recipe as `recipe_toml` has it, in the file's place."""
    write_bytes(file, recipe_toml(recipe))


def in_toml(value: Any) -> str:
    """A value as a recipe file writes it; None, which none can, is `nothing`.

    >>> in_toml(("none",)), in_toml("digits"), in_toml(True), in_toml(None)
    ('["none"]', '"digits"', 'true', 'nothing')
    """
    return "nothing" if value is None else msgspec.json.encode(value).decode()


def in_words(value: Any) -> str:
    """A value in a message: several as a flag takes them, anything else as Python writes it.

    >>> in_words(("int9", "fp32")), in_words((0,)), in_words(-1.0), in_words([]), in_words(10**200)
    ('int9, fp32', '0', '-1.0', '[]', 'a number of about 200 digits')
    """
    if isinstance(value, list | tuple) and value and all(isinstance(one, str | int) for one in value):
        return ", ".join(one if isinstance(one, str) else in_words(one) for one in value)
    if isinstance(value, int) and value.bit_length() > LONGEST_NUMBER_BITS:
        return f"a number of about {value.bit_length() * math.log10(2):.0f} digits"
    return repr(value)


def is_writable(text: str) -> bool:
    """Whether a recipe file and the names of files can hold the text: neither NUL nor half a character in it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def assignment(text: str, flag: str = "--set", example: str = "distill.temperature=4") -> tuple[str, Any]:
    """`distill.temperature=4` as its name and value; the value is read as TOML, else taken as text.

    flag, example: for the message of the RecipeError that text without a name and a `=` raises.

    >>> assignment("distill.temperature=4"), assignment("data.source=photos")
    (('distill.temperature', 4), ('data.source', 'photos'))
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        form = "FIELD=VALUE" if flag == "--set" else "NAME=VALUE"
        raise RecipeError(flag, f"must be {form}", repr(text), f"For example `{flag} {example}`.")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except (ValueError, RecursionError):  # ValueError: TOMLDecodeError, and a number of thousands of digits
        return name.strip(), value.strip()


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in table.items() if value is not None}
