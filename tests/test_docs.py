"""The documents say what the code does: the reference is made from it, and nothing that a user can name is left out."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from kd2mobile.cli import main
from kd2mobile.recipe import FLAGS, fields

DOCS = Path(__file__).parent.parent / "docs"
REFERENCE = DOCS / "reference"
MAKE = runpy.run_path(str(REFERENCE / "make.py"))


@pytest.mark.parametrize("page", ["recipe.md", "cli.md"])
def test_the_reference_is_what_the_code_says(page):
    stands = (REFERENCE / page).read_text("utf-8") if (REFERENCE / page).exists() else ""
    made = MAKE["pages"]()[page]
    said = f"docs/reference/{page} is not what the code says any more: run `make docs` and commit it"
    assert stands.splitlines() == made.splitlines(), said


def test_every_verb_and_every_option_is_in_the_reference():
    text = (REFERENCE / "cli.md").read_text("utf-8")
    for verb, command in main.commands.items():
        section = text.partition(f"\n## kd2mobile {verb}\n")[2].partition("\n## ")[0]
        assert f"Usage: kd2mobile {verb}" in section, verb
        for parameter in command.params:
            assert all(name in section for name in parameter.opts if name.startswith("-")), (verb, parameter.opts)


def test_every_field_and_flag_of_a_recipe_is_in_the_reference():
    text = (REFERENCE / "recipe.md").read_text("utf-8")
    for name, field in fields().items():
        table, _, own = name.partition(".")
        section = text.partition(f"\n## [{table}]\n")[2].partition("\n## ")[0]
        line = next(line for line in section.splitlines() if line.startswith(f"| `{own}` |"))
        assert line.count(" | ") == 5 and field.description.replace("|", "&#124;") in line
        flag = next((f"--{flag.replace('_', '-')}" for flag, of in FLAGS.items() if of == name), None)
        assert line.rstrip(" |").endswith(f"`{flag}`") if flag else "`--" not in line.rpartition(" | ")[2]


def test_bounds_and_choices_are_said():
    text = (REFERENCE / "recipe.md").read_text("utf-8")
    line = {name: next(li for li in text.splitlines() if li.startswith(f"| `{name}` |")) for name in ("val", "resize")}
    assert "| number | above 0, below 0.5 | `0.1` |" in line["val"]
    assert '| `"crop"` or `"stretch"` or `"pad"` |' in line["resize"]


def test_every_built_in_recipe_is_in_the_reference():
    text = (REFERENCE / "recipe.md").read_text("utf-8")
    recipes = sorted((DOCS.parent / "kd2mobile" / "recipes").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        assert f"\n### {recipe.stem}\n" in text and recipe.read_text("utf-8").strip() in text, recipe.stem


def commands() -> list[tuple[str, list[str]]]:
    """Every line of the documents' shell blocks that calls kd2mobile: the page, and the words after the name."""
    found = []
    for page in [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["kd2mobile"]:
                    found.append((page.name, words[1:]))
    return found


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_command_in_the_documents_is_one_that_the_command_line_takes(page, words):
    verb = main.commands[words[0]]
    verb.make_context(words[0], words[1:])


def test_the_tutorial_walks_the_whole_chain():
    walked = [words[0] for page, words in commands() if page == "tutorial.md"]
    assert walked == ["check", "distill", "export", "benchmark", "report", "predict", "show"]
