"""What must hold of every committed file, and of the documents."""

import ast
import io
import re
import subprocess
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from kd2mobile.cli.commands import main

ROOT = Path(__file__).parent.parent
LONG_FUNCTION, LONGEST_FUNCTION = 50, 90
MOST_MODULES, MOST_AT_THE_ROOT = 16, 10
"""A folder that fills up opens folders inside. A long file is a question to its reader, not a failure here."""


def committed() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def text_of(path: Path) -> str:
    return path.read_text("utf-8", errors="ignore")


def test_no_file_names_a_machines_path_or_a_registry():
    absolute = re.compile(r"""["'\s(=](/(home|root|Users|work|farm)/\S+)""")
    hosts = re.compile("pypi" + r"\.org|python" + r"hosted|registry\.npm" + "js|" + "deb" + r"\.debian")
    for path in committed():
        if path.suffix in (".png", ".tflite"):
            continue
        found = absolute.search(text_of(path)) or hosts.search(text_of(path))
        assert not found, f"{path}: {found.group(0)}"


def test_locks_have_hashes_and_no_addresses():
    for lock in (ROOT / "requirements").glob("*.lock"):
        text = text_of(lock)
        assert "--hash=sha256:" in text and "://" not in text and "--index" not in text
        pinned = re.findall(r"^[a-z0-9._-]+==", text, re.MULTILINE)
        assert len(pinned) > 5


def test_no_function_is_longer_than_it_should_be():
    for path in (ROOT / "kd2mobile").rglob("*.py"):
        for node in ast.walk(ast.parse(text_of(path))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{path}: {node.name}"


def test_long_functions_say_their_order_in_comments():
    for path in (ROOT / "kd2mobile").rglob("*.py"):
        text = text_of(path)
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        comments = [t.start[0] for t in tokens if t.type == tokenize.COMMENT and "noqa" not in t.string]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= LONG_FUNCTION:
                count = sum(node.lineno < line <= node.end_lineno for line in comments)
                assert count >= 2, f"{path}: {node.name} has {count}"


def test_no_folder_of_the_package_holds_more_modules_than_a_reader_looks_through():
    folders = Counter(path.parent for path in (ROOT / "kd2mobile").rglob("*.py"))
    for folder, modules in folders.items():
        most = MOST_AT_THE_ROOT if folder == ROOT / "kd2mobile" else MOST_MODULES
        assert modules <= most, f"{folder}: {modules} modules"


def test_files_are_replaced_in_one_step_by_one_function():
    """`files.replaced`. What runs on a board, in its own Python, stands alone; the store renames folders."""
    by_hand = re.compile(
        r"os\.(replace|rename)\(|\.rename\(|\.tmp\b|NamedTemporaryFile|mkstemp|os\.fsync|\.write_(bytes|text)\("
    )
    assert by_hand.search("path.write_text('half')") and by_hand.search("new.rename(old)")
    package = ROOT / "kd2mobile"
    for path in package.rglob("*.py"):
        if path.relative_to(package).as_posix() not in (
            "files.py",
            "measure/ssh/board_program.py",
            "store/artifact.py",
        ):
            assert not (found := by_hand.search(text_of(path))), f"{path}: {found.group(0)}"


def test_one_module_knows_the_first_bytes_of_a_tflite():
    knowing = [path.name for path in (ROOT / "kd2mobile").rglob("*.py") if 'b"TFL3"' in text_of(path)]
    assert knowing == ["model_schema.py"]


def test_the_readme_names_every_verb():
    readme = text_of(ROOT / "README.md")
    for verb in main.commands:
        assert f"kd2mobile {verb}" in readme, verb


def test_the_links_between_documents_lead_somewhere():
    export = [*(ROOT / "export").glob("*.md"), *(ROOT / "export").glob("*/*.md")]  # deeper lies node_modules
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md"), *export]:
        for target in re.findall(r"\]\(([^)#\s]+)\)", text_of(path)):
            assert (path.parent / target).exists(), f"{path}: {target}"


def test_the_modules_that_the_code_and_the_documents_name_exist():
    """Those in backquotes, such as `measure/roles.py`, but `my...`. Decisions and the change log are history."""
    names = [path.relative_to(ROOT).as_posix() for path in committed()]
    tails = {"/".join(parts[start:]) for parts in (name.split("/") for name in names) for start in range(len(parts))}
    named, missing = re.compile(r"`((?:\w+/)*(?!my)\w+\.(?:py|js|j2))`"), []
    for name in names:
        if name.endswith((".py", ".md", ".j2", ".js")) and name != "CHANGELOG.md" and "/decisions/" not in name:
            missing += [f"{name}: {module}" for module in named.findall(text_of(ROOT / name)) if module not in tails]
    assert not missing
