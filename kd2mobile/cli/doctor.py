"""Which of kd2mobile's requirements this machine meets, and the command that installs what is missing.

Nothing is loaded here. A package is ok when a separate process can import it, so that a broken installation, or a
processor that TensorFlow was not built for, is reported.
"""

import os
import platform
import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from kd2mobile import __version__, progress
from kd2mobile.backend.child import Child
from kd2mobile.backend.keras_backend import backend_name, check_backend, check_environment, keras_home
from kd2mobile.backend.probe import Tried, Try
from kd2mobile.data.in_threads import in_threads
from kd2mobile.errors import InstallationError
from kd2mobile.installation import install_command
from kd2mobile.measure.browser.device import PURPOSE as IN_A_BROWSER
from kd2mobile.measure.browser.litert_js import home, installed_version, locked_version, npm_command
from kd2mobile.measure.device import Program
from kd2mobile.measure.devices import DEVICES
from kd2mobile.measure.host.machine import device_words
from kd2mobile.text import count_of, size_of

Status = Literal["ok", "missing", "broken", "not needed"]
MAIN_CHAIN = "distill, label, export, benchmark, report"
MEASURING = "benchmark --model, predict, inspect, check"
"""The commands that the core alone runs."""
TRAINING = "distill, label, export, report"
"""The commands that need [train]."""
CORE = {
    "click": "click",
    "filelock": "filelock",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "pillow": "PIL.Image",
    "segno": "segno",
    "tomli-w": "tomli_w",
}
"""Packages of the core, with the module that is imported to test each. The runtime is tested as well."""
RUNTIMES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}
"""The runtimes for .tflite files; the first installed one is used."""
TRAIN = {
    "jinja2": "jinja2",
    "keras": "keras",
    "matplotlib": "matplotlib",
    "scikit-learn": "sklearn.linear_model",
    "tensorflow": "tensorflow",
}
"""Packages of [train] that the main chain needs. Rich is not among them: without it, progress is plain lines."""
EXTRAS = {
    "train": ("jinja2", "keras", "matplotlib", "rich", "scikit-learn", "tensorflow"),
    "jax": ("jax", "jinja2", "keras", "matplotlib", "rich", "scikit-learn"),
    "compress": ("tensorflow-model-optimization", "tf-keras"),
    "test": (
        "editables",
        "hatchling",
        "hypothesis",
        "import-linter",
        "jax",
        "pytest",
        "pytest-xdist",
        "ruff",
        "tf-keras",
    ),
}
"""The packages of each extra, as in pyproject.toml."""
ACCELERATORS = {
    "tensorflow": "import tensorflow as it; accelerators = [d.name for d in it.config.list_physical_devices('GPU')]",
    "jax": "import jax as it; accelerators = [str(d) for d in it.devices() if d.platform != 'cpu']",
}
"""The code that imports each backend and lists its accelerators."""
LONGEST_IMPORT_S = 180
LEAST_FREE_BYTES = 1_000_000_000
OLDEST_PYTHON, NEWEST_FOR_TENSORFLOW = (3, 11), (3, 13)


class Finding(msgspec.Struct, frozen=True):
    """The result of one check. found: a version, a state or a fault; needed_for: commands or a purpose; fix: how to
    install or repair it, empty if there is nothing to do.
    """

    name: str
    status: Status
    found: str
    needed_for: str
    fix: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """Which commands can run here, and why. main_chain: distill, export, benchmark and report can. core_alone: no
    framework is installed, which is no fault, and the core's commands can. backend: the one that Keras would use."""

    main_chain: bool
    core_alone: bool
    backend: str | None
    findings: list[Finding]


def diagnose(store: Path) -> Diagnosis:
    """Checks Python, the packages, GPUs, the weights cache, the disk and the tools. Takes some seconds.

    store: the folder for artifacts. Changes nothing, except that if LiteRT.js is missing from an installed package, its
    lock file is written where npm will read it.
    """
    backend = backend_name()
    runtime = next((name for name in RUNTIMES if _installed(RUNTIMES[name])), next(iter(RUNTIMES)))
    usable = _usable(backend)
    needed = CORE | {runtime: RUNTIMES[runtime]} | TRAIN | ({usable: usable} if usable == backend and usable else {})
    tried = needed | {"jax": "jax"}
    with progress.bar("trying", len(tried), "packages") as advance:
        fault_of, devices_of = {}, {}
        for name, (fault, accelerators) in in_threads(lambda item: (item[0], _try(*item, usable)), tried.items(), 4):
            fault_of[name], devices_of[name] = fault, accelerators
            advance(1)
    findings = [*_machine()]
    frameworks = {"keras", "tensorflow", "jax", *([backend] if backend else [])}
    core_alone = all(fault_of.get(name, "missing") == "missing" for name in frameworks)
    required = {runtime, *CORE} if core_alone else set(needed)
    findings += [_backend(backend, core_alone)]
    findings += [_package(name, fault_of[name], name in required) for name in tried]
    findings += [*([] if core_alone else [_environment()]), _gpu(devices_of)]
    findings += [_extra(extra) for extra in EXTRAS]
    findings += [
        _weights_cache(),
        _disk(Path(store)),
        *(_tool(program) for device in DEVICES.values() for program in device.programs),
        _litert_js(),
    ]
    whole = not any(finding.status in ("missing", "broken") for finding in findings)
    return Diagnosis(whole and not core_alone, whole and core_alone, backend, findings)


def lines(diagnosis: Diagnosis) -> list[str]:
    """One line per finding, followed by its fix if it has one."""
    width = max(len(finding.name) for finding in diagnosis.findings)
    shown = []
    for finding in diagnosis.findings:
        shown.append(f"{finding.status:<10}  {finding.name:<{width}}  {finding.found}".rstrip())
        if finding.fix:
            shown.append(f"{'':<10}  {'':<{width}}  for {finding.needed_for}: {finding.fix}")
    return shown


def _installed(module: str) -> bool:
    try:
        return find_spec(module.partition(".")[0]) is not None
    except ValueError:  # something stands in sys.modules under that name without saying what it is
        return False


def _usable(backend: str | None) -> str | None:
    """The backend for testing packages: that one, or an installed one in place of a wrong KERAS_BACKEND."""
    try:
        if backend:
            check_backend(backend)
    except InstallationError:
        return next(filter(_installed, ACCELERATORS), "tensorflow")
    return backend


def _try(name: str, module: str, backend: str | None) -> tuple[str | None, list[str]]:
    """Why the package cannot be imported (`missing`: not installed; None: it can), and the accelerators it lists."""
    if not _installed(module):
        return "missing", []
    code = ACCELERATORS.get(name, f"import {module}; accelerators = []")
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3"} | ({"KERAS_BACKEND": backend} if backend else {})
    try:
        with Child(["-m", "kd2mobile.backend.probe"], f"the import of {name}", _Died, environment) as child:
            tried = child.ask(Try(code), Tried, LONGEST_IMPORT_S)
    except _Died as died:
        (death,) = died.args
        if death.late:
            return f"its import took longer than {LONGEST_IMPORT_S} s", []
        return (death.status > 0 and death.last) or f"its import {death.how}", []
    return tried.fault, tried.accelerators


class _Died(Exception):
    """An import that ended its process: a Death."""


def _package(name: str, fault: str | None, needed: bool) -> Finding:
    extra = next((extra for extra, packages in EXTRAS.items() if name in packages), None)
    purpose = MAIN_CHAIN if needed else TRAINING if name in TRAIN else "training and labelling on JAX"
    fix = f"`{install_command(extra)}`" if extra else f"`python -m pip install {name}`"
    newest = ".".join(map(str, NEWEST_FOR_TENSORFLOW))
    if name == "tensorflow" and sys.version_info[:2] > NEWEST_FOR_TENSORFLOW:
        fix = f"it has no wheel for this Python: use an environment of Python 3.11 to {newest}."
    if fault is None:
        return Finding(name, "ok", _version(name), purpose)
    if fault == "missing":
        return Finding(name, "missing" if needed else "not needed", "not installed", purpose, fix)
    again = f"`python -m pip install --force-reinstall {name}`"
    return Finding(name, "broken" if needed else "not needed", f"{_version(name)}: {fault}", purpose, again)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _machine() -> list[Finding]:
    old = sys.version_info[:2] < OLDEST_PYTHON
    fix = "Use an environment of Python 3.11 to 3.13." if old else ""
    return [
        Finding("kd2mobile", "ok", __version__, "everything"),
        Finding("python", "broken" if old else "ok", platform.python_version(), "everything", fix),
        Finding("system", "ok", platform.platform(), "everything"),
        Finding("processor", "ok", device_words(), "everything"),
    ]


def _backend(backend: str | None, core_alone: bool) -> Finding:
    if backend is None or core_alone:
        status, purpose = ("not needed", TRAINING) if core_alone else ("missing", MAIN_CHAIN)
        return Finding(
            "backend", status, "neither TensorFlow nor JAX is installed", purpose, f"`{install_command('train')}`"
        )
    try:
        check_backend(backend)
    except InstallationError as fault:
        return Finding("backend", "missing", f"{backend}, which KERAS_BACKEND requests", MAIN_CHAIN, fault.next_step)
    why = "set by KERAS_BACKEND" if os.environ.get("KERAS_BACKEND") else "TensorFlow before JAX"
    return Finding("backend", "ok", f"{backend} ({why})", MAIN_CHAIN)


def _environment() -> Finding:
    try:
        check_environment()
    except InstallationError as fault:
        return Finding("settings", "broken", f"{fault.where}: {fault.got}", MAIN_CHAIN, fault.next_step)
    return Finding("settings", "ok", "no environment variable or keras.json changes results", MAIN_CHAIN)


def _gpu(devices_of: dict[str, list[str]]) -> Finding:
    lists = [f"{name} lists {', '.join(devices)}" for name, devices in devices_of.items() if devices]
    return Finding("gpu", "ok" if lists else "not needed", "; ".join(lists) or "none", "faster labelling")


def _extra(extra: str) -> Finding:
    gone = [name for name in EXTRAS[extra] if _version(name) == "of unknown version"]
    purpose = {"train": MAIN_CHAIN, "jax": "training and labelling on JAX", "compress": "export --compress"}.get(
        extra, "working on kd2mobile itself"
    )
    if not gone:
        return Finding(f"[{extra}]", "ok", "all installed", purpose)
    fix = f"`{install_command(extra)}`"
    return Finding(f"[{extra}]", "not needed", f"without {', '.join(gone)}", purpose, fix)


def _weights_cache() -> Finding:
    folder = keras_home() / "models"
    files = [path for path in folder.glob("*.h5")] if folder.is_dir() else []
    if not files:
        state = f"{folder}: empty; Keras downloads ImageNet weights there, or give files with --teacher-weights"
        return Finding("weights", "not needed", state, "ImageNet weights")
    size = size_of(sum(path.stat().st_size for path in files))
    return Finding("weights", "ok", f"{folder}: {count_of(len(files), 'file')}, {size}", "ImageNet weights")


def _disk(store: Path) -> Finding:
    existing = next(folder for folder in (store.absolute(), *store.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    found = f"{store}: {size_of(free)} free"
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        return Finding("store", "broken", f"{store}: {existing} is not writable", MAIN_CHAIN, "Give another --store.")
    if free < LEAST_FREE_BYTES:
        need = f"Free at least {size_of(LEAST_FREE_BYTES)}, or give another --store."
        return Finding("store", "missing", found, MAIN_CHAIN, need)
    return Finding("store", "ok", found, MAIN_CHAIN)


def _litert_js() -> Finding:
    required, installed = locked_version(), installed_version()
    state = f"{installed or 'none'} in {home()}"
    if installed == required:
        return Finding("litert.js", "ok", state, IN_A_BROWSER)
    try:
        fix = f"`{npm_command()}`"
    except OSError as fault:
        fix = f"Set XDG_CACHE_HOME to a writable folder ({fault.strerror}), and run `kd2mobile doctor` again."
    return Finding("litert.js", "not needed", state, IN_A_BROWSER, fix)


def _tool(program: Program) -> Finding:
    name, purpose, fix = program
    path = shutil.which(name)
    if path is None:
        return Finding(name, "not needed", "not found on PATH", purpose, fix)
    return Finding(name, "ok", path, purpose)
