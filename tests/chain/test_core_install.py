"""The device side: a wheel with one top-level name, made from the source distribution as `python -m build` makes it, in
an environment with the core's dependencies alone."""

import email
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_MB = 150


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    ignored = shutil.ignore_patterns(".*", "runs", "__pycache__", "dist", "node_modules")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(out), "-t"]
    subprocess.run([*build, "sdist"], cwd=source, check=True)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(out, filter="data")
    subprocess.run([*build, "wheel"], cwd=out / sdist.name.removesuffix(".tar.gz"), check=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory, benchmark_script):
    """The Python of an environment with the wheel and the core's locked dependencies."""
    place = tmp_path_factory.mktemp("core") / "venv"
    locked = ["--require-hashes", "-r", ROOT / "requirements" / "core.lock"]
    return benchmark_script("environments")["environment"](place, locked, ["--no-deps", wheel])


@pytest.fixture
def run(core, tmp_path):
    """run("doctor"): that command of the core, in an empty folder: (status, standard output, standard error).

    Nothing of this process's environment has it import another kd2mobile."""
    hidden = ("PYTHONPATH", "KERAS_BACKEND")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")

    def done(*words):
        command = [core, "-m", "kd2mobile", *words]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return ended.returncode, ended.stdout, ended.stderr

    return done


def test_the_wheel_has_one_top_level_name_and_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"kd2mobile"}
    assert {"kd2mobile/recipe/built_in/digits.toml", "kd2mobile/pages/report.html.j2"} <= set(names)
    web = {path.removeprefix("kd2mobile/measure/browser/") for path in names if "/browser/" in path}
    assert {"page/index.html", "web/classifier.js", "web/package.json", "web/package-lock.json"} <= web


def test_the_wheel_says_what_it_is_and_what_it_holds_of_others(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = [name.rpartition("/")[0] for name in names if name.endswith("/METADATA")]
        said = email.message_from_bytes(archive.read(f"{about}/METADATA"))
        notice = archive.read(f"{about}/licenses/NOTICE").decode()
    assert said["License-Expression"] == "Apache-2.0" and said.get_all("License-File") == ["LICENSE", "NOTICE"]
    assert said["Author"] and "Typing :: Typed" in said.get_all("Classifier") and "kd2mobile/py.typed" in names
    ours = {".py", ".toml", ".j2", ".css", ".js", ".html", ".typed"}
    others = [name for name in names if Path(name).suffix not in ours and not name.startswith(about)]
    assert set(others) - {"kd2mobile/measure/browser/web/package.json"} <= set(
        re.findall(r"^kd2mobile/.*", notice, re.M)
    )
    assert set(re.findall(r"^kd2mobile/.*", notice, re.M)) <= set(names)
    for name in names:
        assert "Copyright" not in zipfile.ZipFile(wheel).read(name).decode() or name.startswith(about), name


def test_the_description_has_no_link_that_needs_the_repository(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        said = email.message_from_bytes(archive.read(metadata))
    assert said["Description-Content-Type"] == "text/markdown"
    text = said.get_payload(decode=True).decode()
    assert text.startswith("# kd2mobile\n") and "contributing (CONTRIBUTING.md)" in text
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]*)\)", text))


def test_the_core_is_small_and_has_no_framework(core):
    """As unpacked: Python's bytecode caches come on top."""
    installed = subprocess.run([core, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True).stdout
    names = {package["name"].lower() for package in json.loads(installed)}
    assert not names & {"tensorflow", "keras", "jax", "scikit-learn", "matplotlib", "rich"}
    site = next((core.parent.parent).rglob("site-packages"))
    ours = [p for p in site.rglob("*") if p.is_file() and not {"pip", "setuptools", "__pycache__"} & set(p.parts)]
    assert sum(p.stat().st_size for p in ours) < MOST_MB * 1e6


def test_the_core_benchmarks_and_predicts(run, tiny_tflite, digit_folder, tmp_path):
    status, _, err = run("benchmark", "--model", tiny_tflite, "--data", digit_folder, "--json=out.json")
    assert status == 0, err
    (record,) = json.loads((tmp_path / "out.json").read_text())
    assert record["n"] == 20 and record["latency_ms"]["n"] >= 100
    status, out, err = run("predict", tiny_tflite, next(digit_folder.rglob("*.png")))
    assert status == 0 and "%" in out, err


def test_the_core_says_what_a_browser_needs_and_puts_npms_lock_there(run, tiny_tflite, digit_folder, tmp_path):
    status, _, err = run("benchmark", "--device", "browser", "--model", tiny_tflite, "--data", digit_folder)
    place = tmp_path / "cache" / "kd2mobile" / "litert.js"
    assert status == 2 and f"Install it with `npm ci --prefix {place}`" in err.splitlines()[-1]
    assert (place / "package-lock.json").read_bytes() == (ROOT / "export/web/package-lock.json").read_bytes()


def test_the_core_inspects_a_file(run, tiny_tflite):
    status, out, err = run("inspect", tiny_tflite)
    assert status == 0, err
    assert "Input: " in out and "uint8 [1, 8, 8, 3]" in out and "FULLY_CONNECTED" in out


def test_the_core_looks_at_images(run, digit_folder, tmp_path):
    status, out, err = run("check", "--data", digit_folder, "--sheet", "sheet.png")
    assert status == 0, err
    assert "20 images of 2 classes" in out and (tmp_path / "sheet.png").is_file()


def test_the_doctor_runs_in_the_core_and_says_that_measuring_works(run, wheel):
    status, out, err = run("doctor")
    assert status == 0, err
    assert out.splitlines()[-1] == (
        "benchmark --model, predict, inspect, check can run here. "
        f'distill, label, export, report need [train]: `python -m pip install "{wheel}[train]"`'
    )
    found = json.loads(run("doctor", "--json")[1])
    statuses = {finding["name"]: finding["status"] for finding in found["findings"]}
    assert statuses["numpy"] == "ok" and statuses["tensorflow"] == statuses["keras"] == "not needed"
    assert found["backend"] is None and found["main_chain"] is False and found["core_alone"] is True


def test_the_core_says_what_training_needs(run, wheel):
    status, _, err = run("distill")
    assert status == 2
    assert f'Install it with `python -m pip install "{wheel}[train]"`.' in err.splitlines()[-1]
