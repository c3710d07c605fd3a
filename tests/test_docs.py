"""The documents say what the code does: the reference is made from it, and nothing that a user can name is left out."""

import ast
import inspect
import re
import runpy
import shlex
from pathlib import Path

import click
import pytest

import kd2mobile
from kd2mobile.cli.commands import main
from kd2mobile.cli.options import assigned
from kd2mobile.errors import Kd2MobileError
from kd2mobile.recipe.compose import FLAGS, check_settings, option_of
from kd2mobile.recipe.schema import fields

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
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
        flag = next((option_of(flag) for flag, of in FLAGS.items() if of == name), None)
        assert line.rstrip(" |").endswith(f"`{flag}`") if flag else "`--" not in line.rpartition(" | ")[2]


def test_bounds_and_choices_are_said():
    text = (REFERENCE / "recipe.md").read_text("utf-8")
    line = {name: next(li for li in text.splitlines() if li.startswith(f"| `{name}` |")) for name in ("val", "resize")}
    assert "| number | above 0 and below 0.5 | `0.1` |" in line["val"]
    assert '| `"crop"` or `"stretch"` or `"pad"` |' in line["resize"]


def test_every_built_in_recipe_is_in_the_reference():
    text = (REFERENCE / "recipe.md").read_text("utf-8")
    recipes = sorted((DOCS.parent / "kd2mobile" / "recipe" / "built_in").glob("*.toml"))
    assert recipes
    for recipe in recipes:
        assert f"\n### {recipe.stem}\n" in text and recipe.read_text("utf-8").strip() in text, recipe.stem


def pages() -> list[Path]:
    """What a person reads to use it. The change log may name what is gone."""
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(DOCS.rglob("*.md")),
        *sorted((ROOT / "benchmarks").glob("*.md")),
        *sorted((ROOT / "export").glob("*.md")),
        *sorted((ROOT / "export").glob("*/*.md")),
        *sorted((ROOT / "models").glob("*/CARD.md")),
    ]


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page: language and text."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """What stands between single backquotes outside the fenced blocks of a page."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands() -> list[tuple[str, list[str]]]:
    """Every line of the documents' shell blocks and of the help that calls kd2mobile: the page, and the words after."""
    found = []
    for page in pages():
        for block in [text for language, text in blocks(page) if language == "sh"]:
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["kd2mobile"]:
                    found.append((page.name, words[1:]))
    examples = [("--help", shlex.split(command.example)[1:]) for command in main.commands.values()]
    return found + examples


def refused(words: list[str]) -> str | None:
    """Why the command line does not take these words, or None if it does. Nothing is run."""
    verb = main.commands.get(words[0])
    if verb is None:
        return f"no command {words[0]}"
    try:
        given = verb.make_context(words[0], list(words[1:])).params
        check_settings(dict(map(assigned, given.get("assignments", ()))), "--set")
    except (click.UsageError, Kd2MobileError) as fault:
        return str(fault)
    for flag, kind in (("teacher", "teachers"), ("student", "students"), ("loss", "losses")):
        typed = given.get(flag) or ()
        for name in ",".join([typed] if isinstance(typed, str) else typed).split(","):
            if name and not Path(name).suffix and name not in kd2mobile.names(kind).names:
                return f"no {name} among the {kind}"
    return None


def unknown_flags(text: str) -> list[str]:
    """The flags in a span of the prose that its verb does not have, or no verb if the span does not begin with one."""
    words = text.split()
    verbs = (
        [main.commands[words[1]]] if words[0] == "kd2mobile" and words[1] in main.commands else main.commands.values()
    )
    known = {flag for verb in verbs for option in verb.params for flag in option.opts} | {"--help"}
    return [flag for flag in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*", text) if flag not in known]


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else value[0])
def test_a_command_in_the_documents_is_one_that_the_command_line_takes(page, words):
    assert refused(words) is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("distil --data photos", "no command distil"),
        ("distill --temprature 3", "No such option '--temprature'"),
        ("distill --temperature warm", "not a valid float"),
        ("distill --set distill.heat=3", "must be one of"),
        ("distill --student mobilenet25", "no mobilenet25 among the students"),
        ("predict student.tflite", "Missing parameter: images"),
        ("export --data photos", "No such option '--data'"),
    ],
)
def test_a_command_that_is_not_would_be_noticed(line, why):
    assert why in refused(line.split())


def test_no_command_stands_where_it_is_not_read():
    for page in pages():
        for language, text in blocks(page):
            if language != "sh" and page.parent != REFERENCE:
                assert not re.search(r"^(\$ )?kd2mobile ", text, re.MULTILINE), (
                    f"{page}: a command in a block of {language}"
                )


def test_what_the_prose_calls_a_verb_or_a_flag_is_one():
    for page in pages():
        for span in spans(page):
            if span.startswith("kd2mobile "):
                verb = span.split()[1]
                assert verb in main.commands or verb.startswith("-"), f"{page}: {span}"
            if span.startswith(("kd2mobile ", "--")):
                assert not unknown_flags(span), f"{page}: {span}"
    assert unknown_flags("kd2mobile export --baseline") == ["--baseline"]
    assert unknown_flags("--unlabeled DIR --views 4") == ["--unlabeled"]


def test_the_documents_call_the_python_interface_as_it_is():
    called = 0
    for page in pages():
        codes = [text for language, text in blocks(page) if language == "python"]
        codes += [span for span in spans(page) if re.fullmatch(r"kd2mobile\.\w+\(.*\)", span)]
        for call in [node for code in codes for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]:
            if not ast.unparse(call.func).startswith("kd2mobile."):
                continue
            verb = getattr(kd2mobile, ast.unparse(call.func).partition(".")[2])
            known = {*inspect.signature(verb).parameters, *(FLAGS if verb is not kd2mobile.predict else ())}
            unknown = {keyword.arg for keyword in call.keywords} - known
            assert not unknown, f"{page}: {ast.unparse(call)}"
            called += 1
    assert called >= 4


def test_the_tutorial_walks_the_whole_chain():
    walked = [words for page, words in commands() if page == "tutorial.md"]
    verbs = ["doctor", "check", "distill", "distill", "export", "benchmark", "report", "predict", "show"]
    assert [words[0] for words in walked] == verbs, "twice distill: Keras fetches the weights, or files hold them"
    run = {words[words.index("--run") + 1] for words in walked if "--run" in words}
    assert len(run) == 1, "one run, named where it is made"
    assert walked[7][1].startswith(f"{run.pop()}/export/"), "the file can be named as it stands on the page"
