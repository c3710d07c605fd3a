"""The device side: a wheel with one top-level name, in an environment with the core's dependencies alone."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_MB = 150


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    ignored = shutil.ignore_patterns(".*", "runs", "__pycache__", "dist", "node_modules")
    shutil.copytree(ROOT, source, ignore=ignored)
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)], cwd=source, check=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory, benchmark_script):
    """The Python of an environment with the wheel and the core's locked dependencies."""
    place = tmp_path_factory.mktemp("core") / "venv"
    locked = ["--require-hashes", "-r", ROOT / "requirements" / "core.lock"]
    return benchmark_script("environments")["environment"](place, locked, ["--no-deps", wheel])


def test_the_wheel_has_one_top_level_name_and_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"kd2mobile"}
    assert {"kd2mobile/recipes/digits.toml", "kd2mobile/report/report.html.j2"} <= set(names)
    web = {path.removeprefix("kd2mobile/measure/browser/") for path in names if "/browser/" in path}
    assert {"page/index.html", "web/classifier.js", "web/package.json", "web/package-lock.json"} <= web


def test_the_core_is_small_and_has_no_framework(core):
    """As unpacked: Python's bytecode caches come on top."""
    installed = subprocess.run([core, "-m", "pip", "list", "--format", "json"], capture_output=True, check=True).stdout
    names = {package["name"].lower() for package in json.loads(installed)}
    assert not names & {"tensorflow", "keras", "jax", "scikit-learn", "matplotlib", "rich"}
    site = next((core.parent.parent).rglob("site-packages"))
    ours = [p for p in site.rglob("*") if p.is_file() and not {"pip", "setuptools", "__pycache__"} & set(p.parts)]
    assert sum(p.stat().st_size for p in ours) < MOST_MB * 1e6


def test_the_core_benchmarks_and_predicts(core, tiny_tflite, digit_folder, tmp_path):
    command = [core, "-m", "kd2mobile"]
    measure = ["benchmark", "--model", tiny_tflite, "--data", digit_folder, "--json", "out.json"]
    done = subprocess.run([*command, *measure], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads((tmp_path / "out.json").read_text())
    assert record["n"] == 20 and record["latency_ms"]["n"] >= 100
    picture = next(digit_folder.rglob("*.png"))
    done = subprocess.run([*command, "predict", tiny_tflite, picture], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "%" in done.stdout, done.stderr


def test_the_core_says_what_a_browser_needs_and_puts_npms_lock_there(core, tiny_tflite, digit_folder, tmp_path):
    measure = ["benchmark", "--device", "browser", "--model", tiny_tflite, "--data", digit_folder]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    command = [core, "-m", "kd2mobile", *measure]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    place = tmp_path / "cache" / "kd2mobile" / "litert.js"
    assert done.returncode == 2 and f"Install it with `npm ci --prefix {place}`" in done.stderr.splitlines()[-1]
    assert (place / "package-lock.json").read_bytes() == (ROOT / "export/web/package-lock.json").read_bytes()


def test_the_core_inspects_a_file(core, tiny_tflite, tmp_path):
    command = [core, "-m", "kd2mobile", "inspect", tiny_tflite]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Input: " in done.stdout and "uint8 [1, 8, 8, 3]" in done.stdout and "FULLY_CONNECTED" in done.stdout


def test_the_core_looks_at_pictures(core, digit_folder, tmp_path):
    command = [core, "-m", "kd2mobile", "check", "--data", digit_folder, "--sheet", "sheet.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "20 pictures of 2 classes" in done.stdout and (tmp_path / "sheet.png").is_file()


def test_the_doctor_runs_in_the_core_and_says_what_is_missing(core, tmp_path):
    command = [core, "-m", "kd2mobile", "doctor", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("doctor: must find what distill,")
    found = json.loads(done.stdout)
    statuses = {finding["name"]: finding["status"] for finding in found["findings"]}
    assert statuses["numpy"] == "ok" and statuses["tensorflow"] == statuses["keras"] == "missing"
    assert found["backend"] is None and found["main_chain"] is False


def test_the_core_says_what_training_needs(core, tmp_path):
    done = subprocess.run([core, "-m", "kd2mobile", "distill"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert 'Install it with `python -m pip install "kd2mobile[train]"`.' in done.stderr.splitlines()[-1]
