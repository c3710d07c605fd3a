"""What a user reads keeps to one vocabulary: help, messages, pages and documents hold none of the phrases below.

Phrases, not ordinary words: "found" or "current" stay where they are English.
"""

import ast
import re
from pathlib import Path

import click
import pytest

from kd2mobile.cli.commands import main

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "kd2mobile"
PHRASES = {
    r"from nothing": "from scratch",
    r"judge[ds]?|judging|out of sight": "evaluate, or hidden",
    r"pictures?": "image; photo for what a user took",
    r"verbs?": "command",
    r"set aside|passed over": "skipped, with the reason",
    r"again for (more|another)": "may be repeated",
    r"makes? (it )?true again": "reproduces",
    r"going on (from|after)|goes on from": "resuming",
    r"(labels?|rows?|scale|numbers?|bytes|views) an? (line|class|image|tensor|channel|file|batch)|one name "
    r"a line": "per",
    r"ms an? (image|run|file)|s a file": "per",
    r"the found one|told by name": "the chosen file",
    r"the others have nothing of it": "no effect on others",
    r"the more the rarer": "weighted by the rarity of its class",
    r"(folder|file|path) that is there": "an existing folder or file",
    r"\d+ it is": "is the fastest",
    r"did harm": "is worse",
    r"whose card it": "reproduces the card",
    r"in brackets the defaults": "defaults are in brackets",
    r"smaller on the way": "smaller downloads",
    r"makes? nothing \w+ again": "is not built again",
    r"there before the field was": "is older than the field",
    r"options that it has|(verb|command) that it has": "options of this command",
    r"somebody must say|nobody trained it": "must define",
}
"""A phrase, as a regular expression of whole words, and what stands in its place."""
ALLOWED = re.compile(r"`[^`]*`|\{[^}]*\}|\{%.*?%\}|<[^>]*>")
"""Code, fields, the values of a template and tags: names, not sentences."""
ANY = re.compile("|".join(rf"(?:\b(?:{phrase}))(?:\b|(?<= ))" for phrase in PHRASES), re.IGNORECASE)


PARTS = ("must", "got", "next_step", "why", "note", "notes", "fix", "reason", "said", "line", "lines")
"""The variables in which a message is put together before it is raised or shown."""


def faults(text: str) -> list[str]:
    """The phrases in a text, with some words around them."""
    prose = ALLOWED.sub(" ", text)
    return [" ".join(prose[max(0, one.start() - 30) : one.end() + 30].split()) for one in ANY.finditer(prose)]


def messages(source: str) -> list[str]:
    """The texts in a module's raise statements, in its calls of say, bar and of the errors, and in what these are given
    by the names of PARTS. One word alone is a text in say and bar; elsewhere it may be a key."""
    found = []
    for node in ast.walk(ast.parse(source)):
        name = _name(node.func) if isinstance(node, ast.Call) else ""
        part = isinstance(node, ast.Assign) and any(getattr(target, "id", "") in PARTS for target in node.targets)
        if part or isinstance(node, ast.Raise) or name in ("say", "bar", "tell", "says") or name.endswith("Error"):
            texts = [
                one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            found += [text for text in texts if name in ("say", "bar") or " " in text.strip()]
    return found


def _name(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def helps() -> dict[str, str]:
    """The help of every command by its name."""
    group = click.Context(main, info_name="kd2mobile")
    contexts = {name: click.Context(command, group, name) for name, command in main.commands.items()}
    return {"kd2mobile": main.get_help(group)} | {name: one.command.get_help(one) for name, one in contexts.items()}


def documents() -> list[Path]:
    """What a user reads. Decisions, records and the log of changes are history."""
    docs = ROOT / "docs"
    return [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted(docs.glob("*.md")),
        *sorted((docs / "how-to").glob("*.md")),
        *sorted((docs / "reference").glob("*.md")),
        *sorted((ROOT / "export").glob("*.md")),
        *sorted((ROOT / "export").glob("*/*.md")),
        *sorted(PACKAGE.rglob("*.j2")),
        *sorted(PACKAGE.rglob("*.html")),
        *sorted((ROOT / "benchmarks").glob("*.md")),
        ROOT / "benchmarks" / "card.md.j2",
        *sorted((ROOT / "models").glob("*/CARD.md")),
    ]


def scripts() -> list[Path]:
    """What a page says by itself."""
    return [*sorted(PACKAGE.rglob("*.js")), ROOT / "export" / "web" / "classifier.js"]


def strings(script: str) -> list[str]:
    """The texts of several words in a script of JavaScript, without the values in them."""
    code = re.sub(r"^\s*(//|\*|/\*).*$", "", script, flags=re.MULTILINE)
    texts = (re.sub(r"\$\{[^}]*\}", "", quoted[1:-1]) for quoted in re.findall(r"'[^'\n]*'|`[^`]*`", code))
    return [text for text in texts if " " in text.strip()]


def test_a_phrase_is_noticed():
    for planted in (
        "Views a picture.",
        "Train it from nothing.",
        "3 files set aside",
        "one label a line",
        "the verb",
        "8 views an image",
    ):
        assert faults(planted), planted
    assert not faults("The current folder is found. `pictures` is a field of {pictures}, one image per class.")
    raised = messages('raise DataError(path, "must be judged", f"{n} pictures a class")')
    assert set(raised) == {"must be judged", " pictures a class"}
    assert (
        messages('bar("judging", 5)') == ["judging"]
        and messages('must = "must be seen whole"')
        and not messages("x = 'a b'")
    )


def test_the_help_of_every_command():
    assert len(helps()) >= 12
    assert not {name: wrong for name, text in helps().items() if (wrong := faults(" ".join(text.split())))}


@pytest.mark.parametrize("folder", sorted(path.name for path in PACKAGE.iterdir()))
def test_messages(folder):
    files = sorted((PACKAGE / folder).rglob("*.py")) if (PACKAGE / folder).is_dir() else [PACKAGE / folder]
    texts = {file: messages(file.read_text("utf-8")) for file in files if file.suffix == ".py"}
    wrong = {
        file.name: found for file, said in texts.items() if (found := [one for text in said for one in faults(text)])
    }
    assert not wrong


@pytest.mark.parametrize("page", documents(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_documents_and_pages(page):
    prose = re.sub(r"^```.*?^```$", " ", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert not faults(prose)


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.name)
def test_texts_of_scripts(script):
    texts = strings(script.read_text("utf-8"))
    assert not [fault for text in texts for fault in faults(text)]


def test_a_phrase_in_a_script_is_noticed():
    assert strings("// a verb\nshow('Done', `${count} pictures here`);") == [" pictures here"]
    assert faults(*strings("// a verb\nshow('Done', `${count} pictures here`);"))
