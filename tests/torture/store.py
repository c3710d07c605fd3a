"""The store under kills, under faults of the disk and under several processes: whole in the end, the same bytes.

A trial copies what the commands before it made, runs one command in a forked child that has loaded Keras already, ends
or refuses its n-th change (`shim.py`), runs the command again undisturbed and compares every finished artifact and the
run's files with those of a run that nothing disturbed.
"""

import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import sys
import traceback
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd2mobile.teachers.zoo import TEACHERS, Architecture
from tests.torture import shim

LONGEST_S = 600
FAULTS = ("ENOSPC", "EDQUOT", "EIO", "EMFILE")
_STORE = ["--store", "store", "--quiet"]
_PHOTOS = ["--data", "photos", *_STORE]
_LOGITS = [*_PHOTOS, "--teacher", "logits.npz"]
_STUDENT = ["--student", "mlp-4", "--student-weights", "none", "--input-px", "4", "--epochs", "2", "--run", "run"]
_TRAINED = ["--teacher", "tiny", "--teacher-weights", "none", "--teacher-input-px", "16", "--views", "1"]
COMMANDS = {
    "check": ["check", *_PHOTOS],
    "label": ["label", *_LOGITS],
    "distill": ["distill", *_LOGITS, *_STUDENT],
    "export": ["export", "--run", "run", "--precision", "fp32", "--quiet"],
    "benchmark": ["benchmark", "--run", "run", "--set", "benchmark.latency_runs=100", "--quiet"],
    "report": ["report", "--run", "run", "--quiet"],
    "teacher": ["label", *_PHOTOS, *_TRAINED, "--set", "teacher.epochs=1"],
    "compress": ["export", "--run", "run", "--precision", "fp32", "--compress", "prune", "--quiet", "--set",
                 "compress.epochs=1"],
}  # fmt: skip
"""In order: each is tried on what those before it made. Together they have every stage."""
LIGHT = ("check", "label", "distill")
"""Those that start no process of TensorFlow's."""


@dataclass(frozen=True)
class Ended:
    """How a command ended. status: negative for a signal; changes: the kinds of those that it made, or began."""

    status: int
    said: str
    changes: list[str]


def register_tiny_teacher() -> None:
    """`tiny` among the teachers that Keras builds, from scratch in a second. Before anything is forked."""
    import keras

    def tiny(input_shape, weights=None, include_top=True, pooling=None):
        inputs = keras.Input(input_shape)
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, strides=2, activation="relu")(inputs))
        return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))

    keras.applications.Tiny = tiny
    TEACHERS.register("tiny", "for the torture")(Architecture("Tiny", 16, 16, "tf"))


def prepare(place: Path) -> None:
    """Sixteen images in two classes, and logits for them."""
    from PIL import Image

    rng = np.random.default_rng(0)
    ids = [f"{name}/{number}.png" for name in "ab" for number in range(8)]
    for path in ids:
        (place / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(place / "photos" / path)
    logits = np.array([[1.0, -1.0] if path[0] == "a" else [-1.0, 1.0] for path in ids], np.float32)
    np.savez(place / "logits.npz", sample_ids=np.array(ids), class_names=np.array(["a", "b"]), logits=logits)


class Chain:
    """bases: the folder that each command begins in; whole: what it leaves, undisturbed; changes: what it makes."""

    def __init__(self, place: Path, commands: list[str]):
        self.place, self.commands = place, commands
        self.changes: dict[str, list[str]] = {}
        self.whole: dict[str, dict[str, str]] = {}
        base = place / "base-0"
        base.mkdir(parents=True)
        prepare(base)
        self.bases = {}
        for number, name in enumerate(commands, 1):
            self.bases[name] = base
            base = place / f"base-{number}"
            shutil.copytree(self.bases[name], base)
            ended = run(COMMANDS[name], base, 0, "")
            if ended.status:
                raise RuntimeError(f"{name}, undisturbed, ended with {ended.status}:\n{ended.said}")
            self.changes[name], self.whole[name] = ended.changes, manifest(base)
        self.last = base

    def positions(self, name: str, fault: str) -> list[int]:
        """The numbers of the command's changes that may meet the fault, from 1."""
        return [at for at, kind in enumerate(self.changes[name], 1) if shim.may_meet(fault, kind)]

    def disturbed(self, name: str, at: int, fault: str) -> str | None:
        """What is wrong after the command's change number `at` was not made and the command ran again, or None."""
        place = self._fresh(name)
        first = run(COMMANDS[name], place, at, fault)
        if fault == "kill" and not first.status and len(first.changes) >= at:
            return f"was not killed: {first.said[-2000:]}"
        if first.status != -signal.SIGKILL and (why := _is_no_line(first)):  # of a kill: of a process that it started
            return why
        return self._again(name, place)

    def together(self, seed: int) -> str | None:
        """Two to eight processes at random on one store and run, some of them killed at a random change."""
        rng = random.Random(f"together {seed}")
        place = self._fresh(self.commands[0])
        chosen = [rng.choice([one for one in self.commands if one in LIGHT]) for _ in range(rng.randint(2, 8))]
        kills = [rng.randint(1, max(1, len(self.changes[name]))) if rng.random() < 0.5 else 0 for name in chosen]
        begun = [Begun(COMMANDS[name], place, at, "kill") for name, at in zip(chosen, kills, strict=True)]
        for name, at, one in zip(chosen, kills, begun, strict=True):
            ended = one.wait()
            if ended.status and not (at and ended.status == -signal.SIGKILL):
                return f"{name} beside {chosen}, killed at {kills}, ended with {ended.status}: {ended.said[-2000:]}"
        for name in self.commands[:-1]:
            if name in LIGHT and (ended := run(COMMANDS[name], place, 0, "")).status:
                return f"{name}, afterwards, ended with {ended.status}: {ended.said[-2000:]}"
        return self._again(next(name for name in reversed(self.commands) if name in LIGHT), place)

    def _fresh(self, name: str) -> Path:
        """The folder of a trial of this process, as the command finds it."""
        place = self.place / f"trial-{os.getpid()}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.bases[name], place)
        return place

    def _again(self, name: str, place: Path) -> str | None:
        again = run(COMMANDS[name], place, 0, "")
        if again.status:
            return f"the rerun ended with {again.status}: {again.said[-2000:]}"
        found, whole = manifest(place), self.whole[name]
        wrong = sorted(path for path in found.keys() | whole.keys() if found.get(path) != whole.get(path))
        return f"not as undisturbed: {', '.join(wrong)}" if wrong else None


class Begun:
    """A command that runs in a child with a session of its own."""

    def __init__(self, arguments: list[str], place: Path, at: int, fault: str):
        self._counter = place.parent / f"counter-{random.SystemRandom().getrandbits(64):x}"
        self._said = self._counter.with_suffix(".said")
        told = {"roots": [str(place)], "counter": str(self._counter), "at": at, "fault": fault}
        sys.stdout.flush()
        sys.stderr.flush()
        self._child = os.fork()
        if self._child == 0:
            _be(arguments, place, told, self._said)

    def wait(self) -> Ended:
        descriptor = os.pidfd_open(self._child)
        ended, _, _ = select.select([descriptor], [], [], LONGEST_S)
        os.close(descriptor)
        if not ended:
            os.killpg(self._child, signal.SIGKILL)
        _, status = os.waitpid(self._child, 0)
        said = self._said.read_text("utf-8", "replace") + ("" if ended else f"\nit hung for {LONGEST_S} s")
        changes = shim.changes_in(self._counter.read_bytes())
        self._counter.unlink()
        self._said.unlink()
        return Ended(os.waitstatus_to_exitcode(status), said, changes)


def run(arguments: list[str], place: Path, at: int, fault: str) -> Ended:
    """Runs the command there to its end."""
    return Begun(arguments, place, at, fault).wait()


def _be(arguments: list[str], place: Path, told: dict, said: Path) -> None:
    """The child. Never returns."""
    status = 1
    try:
        os.setsid()
        os.chdir(place)
        with open(said, "wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", encoding="utf-8"), os.fdopen(2, "w", 1, encoding="utf-8")
        os.environ[shim.VARIABLE] = json.dumps(told)
        sys.path.insert(0, str(Path(__file__).parent / "site"))  # a child's path is this one's
        shim.install(**told)
        from kd2mobile.cli.commands import main_status

        status = main_status(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _is_no_line(ended: Ended) -> str | None:
    """What is wrong with how a command ended that met a fault: it must do without, or say so in a line."""
    last = next(reversed(ended.said.splitlines()), "")
    if ended.status == 0 or (
        ended.status == 2 and re.search(r".: must .+\. .+\.$", last) and "Traceback" not in ended.said
    ):
        return None
    return f"ended with {ended.status}: {ended.said[-2000:]}"


def manifest(place: Path) -> dict[str, str]:
    """What must be the same: every file of an artifact and of the run by its content, less what tells the time.

    Unfinished folders and temporaries stand there too: none may stay.
    """
    found = {}
    for path in sorted((place / "store").rglob("*")) + sorted((place / "run").rglob("*")):
        name = path.relative_to(place).as_posix()
        if path.is_file() and not path.name.endswith(".lock") and not name.startswith("run/measurements/"):
            found[name] = _content(path)
    return found


def _content(path: Path) -> str:
    if path.name == "record.json":
        record = json.loads(path.read_text("utf-8"))
        timed = (*TIMED, *UNTIMED)
        files = {name: file for name, file in record["files"].items() if name not in timed and name[-6:] != ".keras"}
        return json.dumps({name: record[name] for name in ("stage", "fingerprint", "spec")} | files, sort_keys=True)
    if path.name in TIMED:
        return "there"
    if path.name in UNTIMED:
        return TIMES.sub("", path.read_text("utf-8"))
    if path.suffix == ".keras":
        return _weights(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _weights(path: Path) -> str:
    """Of a model's file, which holds a date and the object's ids besides."""
    import h5py

    digest = hashlib.sha256()

    def add(name: str, stored: object) -> None:
        if isinstance(stored, h5py.Dataset):
            digest.update(f"{name} {stored.dtype} {stored.shape}".encode())
            digest.update(np.ascontiguousarray(stored[()]).tobytes())

    with zipfile.ZipFile(path) as archive, archive.open("model.weights.h5") as weights, h5py.File(weights) as file:
        file.visititems(add)
    return digest.hexdigest()


TIMED = ("hashes.json", "run.json", "report.html", "benchmark.json", "predictions.npz", "export.json")
"""Files that hold times or latencies."""
UNTIMED = ("history.jsonl", "teacher.json")
"""Files that hold times as JSON numbers: the rest of them is compared."""
TIMES = re.compile(r'"(seconds|images_per_s)": ?[^,}]+')
