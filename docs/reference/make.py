"""Writes the reference from the code: recipe.md from the recipe's types, cli.md from the command line.

`make docs`, or `python docs/reference/make.py` in an environment where kd2mobile is installed.
"""

from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import click
import msgspec

from kd2mobile.cli.commands import main
from kd2mobile.recipe.compose import FLAGS, option_of
from kd2mobile.recipe.schema import TABLES, bounds, fields

HERE = Path(__file__).parent
WIDTH = 100
NOTE = "<!-- Made by `make docs` from {source}. Change it there. -->\n\n"
ABOUT_RECIPES = """
A recipe is a TOML file with the tables below: `kd2mobile distill --recipe FILE.toml`. Every field has a default.
`--set table.field=VALUE` sets any field, and some fields have a flag of their own. Later sources override earlier ones:
the built-in recipe, the file, `--set`, the flags. In Python, a flag is a keyword with underscores:
`kd2mobile.distill(hard_label_weight=0.3)`; `settings={"distill.patience": 5}` sets any field.
""".strip()
ABOUT_COMMANDS = """
Results go to standard output, progress and messages to standard error. Exit status: 0 for success, 2 for an error (one
line on standard error with the next step), 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP, which stop a
command as Ctrl-C does, 141 if the reader of the output has gone (`| head`), and 1 for a bug.

An output file (`--json=FILE`, `--sheet`, `--png`, `--out FILE.html`) replaces an earlier result of the same kind. Any
other existing file is refused, and so is a path inside the data, a store or the files of a run. `export --out DIR`
refuses to replace an existing file unless `--force` is given.
""".strip()
TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def pages() -> dict[str, str]:
    """The text of each page by its file's name."""
    return {"recipe.md": recipe_page(), "cli.md": cli_page()}


def recipe_page() -> str:
    """Every table and field of a recipe, and the recipes that come with kd2mobile."""
    parts = [
        NOTE.format(source="kd2mobile/recipe/schema.py"),
        f"# The recipe\n\n{fill(ABOUT_RECIPES, 120)}\n",
    ]
    for name, table in TABLES.items():
        hints = get_type_hints(table, include_extras=True)
        parts.append(f"\n## [{name}]\n\n{_first_paragraph(table.__doc__)}\n\n")
        parts.append("| field | type | bounds | default | description | flag |\n|---|---|---|---|---|---|\n")
        parts += [_field_line(f"{name}.{field}", hints[field]) for field in table.__struct_fields__]
    parts.append("\n## Built-in recipes\n\nThe recipes in the package. A field that is left out has its default.\n")
    for name, text in built_in_recipes():
        parts.append(f"\n### {name}\n\n```toml\n{text.strip()}\n```\n")
    return "".join(parts)


def built_in_recipes() -> list[tuple[str, str]]:
    """(name, TOML) of each recipe in the package."""
    folder = resources.files("kd2mobile.recipe") / "built_in"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return [(file.name.removesuffix(".toml"), file.read_text("utf-8")) for file in files]


def cli_page() -> str:
    """The help of every command."""
    parts = [
        NOTE.format(source="kd2mobile/cli/commands.py"),
        f"# The command line\n\n{_filled(ABOUT_COMMANDS)}\n",
    ]
    parts += [
        f"\n## {context.command_path}\n\n```text\n{context.get_help().rstrip()}\n```\n" for context in contexts(main)
    ]
    return "".join(parts)


def contexts(
    command: click.Command, name: str = "kd2mobile", above: click.Context | None = None
) -> Iterator[click.Context]:
    """The command and all below it, as contexts of a terminal of WIDTH columns."""
    context = click.Context(command, above, name, **({"terminal_width": WIDTH} | command.context_settings))
    yield context
    for below, one in getattr(command, "commands", {}).items():
        yield from contexts(one, below, context)


def _field_line(name: str, kind: Any) -> str:
    field = fields()[name]
    flag = next((f"`{option_of(flag)}`" for flag, of in FLAGS.items() if of == name), "")
    default = "" if field.default is None else f"`{msgspec.json.encode(field.default).decode()}`"
    cells = [
        f"`{name.partition('.')[2]}`",
        _type(field.kind),
        "; ".join(dict.fromkeys(_bounds(kind))),
        default,
        field.described,
        flag,
    ]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def _type(kind: Any) -> str:
    origin, parts = get_origin(kind), [part for part in get_args(kind) if part not in (type(None), ...)]
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " or ".join(f"`{msgspec.json.encode(value).decode()}`" for value in parts)
    if origin in (list, tuple):
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return f"table of {_type(parts[1])}"
    return " or ".join(map(_type, parts)) if parts else TYPES[kind]


def _bounds(kind: Any) -> list[str]:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        return []
    if origin is Annotated:
        least = next((f"at least {meta.min_length}" for meta in parts[1:] if meta.min_length), "")
        return [words for words in (bounds(*parts[1:]), least) if words] + _bounds(parts[0])
    return [words for part in parts for words in _bounds(part)]


def _filled(text: str) -> str:
    return "\n\n".join(fill(paragraph, 120) for paragraph in text.split("\n\n"))


def _first_paragraph(text: str) -> str:
    return " ".join(text.strip().partition("\n\n")[0].split())


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text, "utf-8", newline="\n")
        print(f"Written: {Path('docs/reference') / name}.")
