"""`kd2mobile doctor`: healthy here, and what it says where something is missing or broken."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from kd2mobile.cli import doctor
from kd2mobile.cli.commands import main_status
from kd2mobile.cli.doctor import Diagnosis, diagnose
from kd2mobile.installation import install_command

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.fixture
def few(monkeypatch):
    """Tries few and light packages alone, as if the main chain needed no more."""
    monkeypatch.setattr(doctor, "CORE", {"click": "click"})
    monkeypatch.setattr(doctor, "TRAIN", {"jinja2": "jinja2"})
    monkeypatch.setattr(doctor, "RUNTIMES", {"msgspec": "msgspec"})
    monkeypatch.setattr(doctor, "backend_name", lambda: "filelock")
    monkeypatch.setattr("kd2mobile.backend.keras_backend.BACKENDS", ("tensorflow", "filelock"))
    monkeypatch.setattr(doctor, "ACCELERATORS", {"jax": "accelerators = ['a device']"})


@pytest.fixture
def package(tmp_path, monkeypatch):
    """package(name, code) puts a package that runs that code on the path."""

    def make(name, code):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code, "utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))

    return make


def of(found, name):
    return next(finding for finding in found.findings if finding.name == name)


def test_the_main_chain_can_run_here(tmp_path):
    """The real thing, in a process of its own: it loads no framework, and its JSON is a Diagnosis."""
    code = """
import sys
from kd2mobile.cli.commands import main_status
status = main_status(["doctor", "--json"])
assert not {"tensorflow", "keras", "jax", "numpy"} & set(sys.modules)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(done.stdout, type=Diagnosis, strict=True)
    assert found.main_chain and found.backend == "tensorflow"
    names = [finding.name for finding in found.findings]
    assert len(names) == len(set(names))
    assert {"python", "tensorflow", "ai-edge-litert", "gpu", "[train]", "[jax]", "store"} <= set(names)
    assert {"ssh", "adb", "node", "litert.js"} <= set(names)
    assert of(found, "tensorflow").status == "ok" and re.fullmatch(r"2\.\d+\.\d+.*", of(found, "tensorflow").found)
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_missing_package_is_named_with_its_command_and_exit_code_2(few, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main_status(["doctor"]) == 2
    out, err = capsys.readouterr()
    lines = out.splitlines()
    (at,) = [i for i, line in enumerate(lines) if re.match(r"missing +jinja2 +not installed$", line)]
    assert lines[at + 1].endswith(f"for distill, label, export, benchmark, report: `{install_command('train')}`")
    assert err.splitlines()[-1] == (
        "doctor: must find everything that distill, label, export, benchmark, report need, got jinja2 missing. "
        f"First: `{install_command('train')}`"
    )
    assert "can run here" not in out


def test_json_says_the_same_and_goes_to_a_file_too(few, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    file = tmp_path / "found.json"
    assert main_status(["doctor", f"--json={file}"]) == 2
    found = json.loads(file.read_text("utf-8"))
    assert found["main_chain"] is False and found["backend"] == "filelock"
    statuses = {finding["name"]: finding["status"] for finding in found["findings"]}
    assert statuses["jinja2"] == "missing" and statuses["click"] == "ok"
    assert main_status(["doctor", f"--json={tmp_path}/no/found.json"]) == 2
    assert "--json: must be a file in an existing folder" in capsys.readouterr().err.splitlines()[-1]


def test_without_what_is_optional_all_is_well(few, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "none"))
    monkeypatch.setitem(sys.modules, "jax", None)
    assert main_status(["doctor", "--store", str(tmp_path / "a" / "store")]) == 0
    out = capsys.readouterr().out
    tools = [rf"{name} +not found on PATH" for name in ("ssh", "adb", "node")]
    for line in (r"jax +not installed", *tools, r"weights .* empty;"):
        assert re.search(rf"^not needed +{line}", out, re.MULTILINE), line
    assert f"`{install_command('jax')}`" in out
    for device, package in {"ssh": "openssh-client", "adb": "adb", "browser": "nodejs"}.items():
        assert re.search(rf"for benchmark --device {device}.*: Install .* `sudo apt-get install {package}`", out), (
            device
        )
    assert out.endswith("distill, label, export, benchmark, report can run here.\n")


def test_without_any_framework_measuring_is_what_this_machine_is_for(few, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(doctor, "backend_name", lambda: None)
    for name in ("jax", "jinja2"):
        monkeypatch.setitem(sys.modules, name, None)
    store = ["doctor", "--store", str(tmp_path)]
    assert main_status(store) == 0
    out = capsys.readouterr().out
    assert out.endswith(
        "benchmark --model, predict, inspect, check can run here. "
        f"distill, label, export, report need [train]: `{install_command('train')}`\n"
    )
    assert re.search(r"^not needed  jinja2 +not installed$", out, re.MULTILINE) and "missing" not in out
    monkeypatch.setitem(sys.modules, "click", None)
    assert main_status(store) == 2
    assert "got click missing. First: `python -m pip install click`" in capsys.readouterr().err


def test_an_accelerator_that_a_backend_sees_is_named(few, tmp_path):
    assert of(diagnose(tmp_path), "gpu").found == "jax lists a device"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('libfoo.so.1: cannot open shared object')", "ImportError: libfoo.so.1: cannot open shared"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "its import was ended by SIGKILL"),
        ("import sys; sys.exit(3)", "its import ended with status 3"),
        ("print('chatter on standard output')", None),
    ],
)
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no SIGKILL")
def test_a_package_that_cannot_be_imported_is_broken(code, said, package, few, monkeypatch, tmp_path):
    package("fragile", code)
    monkeypatch.setattr(doctor, "TRAIN", {"fragile": "fragile"})
    found = diagnose(tmp_path)
    assert found.main_chain is (said is None)
    if said:
        assert of(found, "fragile").status == "broken" and said in of(found, "fragile").found
        assert of(found, "fragile").fix == "`python -m pip install --force-reinstall fragile`"


def test_an_import_that_never_ends_is_broken(package, monkeypatch):
    package("endless", "import threading; threading.Event().wait()")
    monkeypatch.setattr(doctor, "LONGEST_IMPORT_S", 0.5)
    assert doctor._try("endless", "endless", None) == ("its import took longer than 0.5 s", [])


def test_a_store_without_room_or_that_cannot_be_written_to(few, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 10**18)
    short = of(diagnose(tmp_path / "store"), "store")
    assert short.status == "missing" and short.found.endswith(" free") and "--store" in short.fix
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    closed = of(diagnose(tmp_path / "store"), "store")
    assert closed.status == "broken" and f"{tmp_path} is not writable" in closed.found


def test_the_backend_is_the_one_that_keras_would_load(monkeypatch):
    from kd2mobile.backend import keras_backend as backend

    monkeypatch.setattr(backend, "find_spec", lambda name: None)
    monkeypatch.delenv("KERAS_BACKEND")
    assert backend.backend_name() is None
    assert doctor._backend(None, False).status == "missing"
    monkeypatch.setattr(backend, "find_spec", lambda name: name == "jax" or None)
    assert backend.backend_name() == "jax"
    monkeypatch.setenv("KERAS_BACKEND", "torchh")
    assert backend.backend_name() == "torchh"
    assert doctor._backend("torchh", False).status == "missing"
    assert doctor._backend("torchh", False).found == "torchh, which KERAS_BACKEND requests"


def test_a_wrong_keras_backend_is_the_first_advice_and_breaks_nothing_else(few, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "backend_name", lambda: "foo")
    monkeypatch.setattr(doctor, "ACCELERATORS", {"filelock": "import filelock; accelerators = []"})
    found = diagnose(tmp_path)
    wrong = [finding for finding in found.findings if finding.status in ("missing", "broken")]
    assert [(finding.name, finding.fix) for finding in wrong] == [
        ("backend", "Unset KERAS_BACKEND, or name one of them.")
    ]
    assert found.backend == "foo" and not found.main_chain
    assert doctor._usable("foo") == "filelock" and doctor._usable("filelock") == "filelock"


def test_the_tables_are_those_of_pyproject():
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]

    def names(requirements):
        return {re.match(r"[A-Za-z0-9._-]+", requirement).group(0) for requirement in requirements}

    assert {extra: set(packages) for extra, packages in doctor.EXTRAS.items()} == {
        extra: names(requirements) for extra, requirements in project["optional-dependencies"].items()
    }
    assert set(doctor.CORE) | set(doctor.RUNTIMES) == names(project["dependencies"])
    assert set(doctor.TRAIN) == names(project["optional-dependencies"]["train"]) - {"rich"}
