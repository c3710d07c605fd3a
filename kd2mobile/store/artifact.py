"""Artifacts: one stage's output folder, in the store under its fingerprint, with the record of how it came to be.

A `Step` is data: the stage, its part of the recipe, its input steps and the function that fills a folder. Its
fingerprint follows from those alone, so an artifact made on another machine is found by the same recipe here, and
asking for a step makes only what is missing. A folder is filled beside its place, its record is written last, then it
is renamed into place: whatever the moment of a crash, nothing half-made is taken for whole, and the next start goes on
from the files that stand.

The form of a step comes from marin's execution steps and allenai/tango: named, hashed inputs, metadata committed last.
"""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kd2mobile import __version__
from kd2mobile.errors import ArtifactError
from kd2mobile.files import (
    convert_json,
    disk_errors,
    inside,
    is_left_by_system,
    locked,
    read_json,
    remove_temporaries,
    sha256_of,
    write_json,
)
from kd2mobile.progress import bar, say
from kd2mobile.store.differences import differences, why_missing
from kd2mobile.store.stage_records import FORMS, Record, lacking

RECORD = "record.json"
PACKAGES = (
    "keras",
    "tensorflow",
    "tf_keras",
    "tensorflow-model-optimization",
    "jax",
    "ai-edge-litert",
    "numpy",
    "pillow",
    "scikit-learn",
)
KERNEL_VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_PLATFORMS",
    "KERAS_BACKEND",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "TF_CUDNN_DETERMINISTIC",
    "TF_DETERMINISTIC_OPS",
    "TF_ENABLE_ONEDNN_OPTS",
    "TF_NUM_INTEROP_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)
"""Variables that choose the kernels and with them the last digits, as the processor and the versions do too."""
SLOW_TO_HASH_BYTES = 500_000_000
LARGEST_RECORD = 32_000_000
"""Bytes; 70,000 images of a named data set take 9 MB."""


Results = msgspec.Struct | dict[str, Any]
"""What a build says of the folder that it filled."""
T = TypeVar("T", bound=msgspec.Struct)


@dataclass(frozen=True)
class Step:
    """What a stage is asked to do.

    stage: its name, the first folder under the store; version: raised when the stage's code changes its result.
    config: JSON-able; everything that can change the result, and nothing else.
    inputs: the steps whose artifacts it reads, by name.
    build: fills a folder, given the folders of its inputs, and returns the results for the record, as the stage types
    them. The folder may hold what a killed build left: the build goes on from there.
    up_to_date_note: why nothing has to be built when the artifact exists, for the message.
    """

    stage: str
    version: int
    config: Mapping[str, Any]
    inputs: Mapping[str, "Step"]
    build: Callable[[Path, dict[str, Path]], Results] = field(compare=False, repr=False)
    up_to_date_note: str = "same recipe, same inputs"

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The step as JSON: stage, version, config and the specs of its inputs."""
        inputs = {name: step.spec for name, step in self.inputs.items()}
        return json.loads(
            json.dumps({"stage": self.stage, "version": self.version, "config": dict(self.config), "inputs": inputs})
        )

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when anything that can change the result does."""
        return fingerprint_of(self.spec)


@dataclass(frozen=True)
class Artifact:
    """A finished folder and its record."""

    folder: Path
    record: dict[str, Any]

    @property
    def results(self) -> dict[str, Any]:
        """What the stage's build returned, as JSON."""
        return self.record["results"]

    def results_as(self, kind: type[T]) -> T:
        """What the stage's build returned, typed. Raises ArtifactError where the record says something else."""
        where = f"{self.folder / RECORD}: results"
        return convert_json(self.results, kind, where, _rebuilt(self.folder), error=ArtifactError)

    @property
    def fingerprint(self) -> str:
        return self.record["fingerprint"]


Commit = Callable[[Step, Results], None]


@dataclass(frozen=True)
class Building:
    """What one call builds: the missing ones of steps that share their inputs, each with its folder.

    inputs: their folders by name. commit: takes a step with its results as soon as its folder is filled.
    """

    steps: list[Step]
    folders: list[Path]
    inputs: dict[str, Path]
    commit: Commit


BuildTogether = Callable[[Building], None]


class Store:
    """The folder that holds all artifacts, `<root>/<stage>/<fingerprint>`."""

    def __init__(self, root: Path):
        self.root = Path(root)
        self._artifacts: dict[str, Artifact] = {}
        self._damaged: dict[str, list[str]] = {}
        self._reported: set[str] = set()
        self._built: set[str] = set()

    def folder(self, step: Step) -> Path:
        """Where the step's artifact stands, or would."""
        return self.root / step.stage / step.fingerprint

    def find(self, step: Step) -> Artifact | None:
        """The step's artifact if it is there and whole, its files checked against their checksums.

        One with damaged files is none; `make` makes these files again. Raises ArtifactError for a record that is not of
        this folder, and for a file in it that the record does not list.
        """
        record = self.folder(step) / RECORD
        if step.fingerprint not in self._artifacts and record.is_file():
            try:
                artifact = read_artifact(self.folder(step))
                if damaged := damaged_files(artifact):
                    self._damaged[step.fingerprint] = damaged
                else:
                    self._artifacts[step.fingerprint] = artifact
            except ArtifactError:
                if record.is_file():
                    raise  # else another process has just taken it up, to make what is damaged
        return self._artifacts.get(step.fingerprint)

    def reference(self, step: Step) -> Path | None:
        """The folder of the step's artifact if it is there, its files not looked at: for a run to refer to."""
        return self.folder(step) if (self.folder(step) / RECORD).is_file() else None

    def make(self, step: Step) -> Artifact:
        """The step's artifact: the one in the store, else made now, and before it the inputs that are missing."""

        def build(building: Building) -> None:
            building.commit(step, step.build(building.folders[0], building.inputs))

        return self.make_together([step], build)[0]

    def make_together(self, steps: list[Step], build: BuildTogether) -> list[Artifact]:
        """The artifacts of steps that share their inputs, the missing ones made by one call.

        build: fills the folders and commits each step as soon as it is done; one that fails costs the others nothing.
        One process at a time makes a step; another one waits. Raises ArtifactError on a full disk.
        """
        missing = [step for step in steps if not self.find(step)]
        for step in steps:
            if step not in missing:
                self._report_up_to_date(step)
        if missing:
            inputs = {name: self.make(needed).folder for name, needed in missing[0].inputs.items()}
            with disk_errors(self.root, store=True), ExitStack() as locks:
                for step in sorted(missing, key=lambda step: step.fingerprint):  # one order: no two wait in a ring
                    locks.enter_context(self._locked(step))
                missing = [step for step in missing if not self.find(step)]
                self._build(missing, build, inputs)
        return [self._artifacts[step.fingerprint] for step in steps]

    def _report_up_to_date(self, step: Step) -> None:
        if step.fingerprint not in self._reported:
            self._reported.add(step.fingerprint)
            folder = self._artifacts[step.fingerprint].folder.as_posix()
            say(f"{step.stage:<8} up to date {folder} ({step.up_to_date_note})")

    def _build(self, steps: list[Step], build: BuildTogether, inputs: dict[str, Path]) -> None:
        if not steps:
            return
        folders = [self._partial(step) for step in steps]
        for step, folder in zip(steps, folders, strict=True):
            self._resume_from(step)
            why = "resuming an interrupted build" if folder.exists() else self._why_missing(step)
            say(f"{step.stage:<8} building  {self.folder(step).as_posix()} ({why})")
            folder.mkdir(exist_ok=True)
            _refuse_links(folder)
            remove_temporaries(folder)
        begun = time.monotonic()

        def commit(step: Step, results: Results) -> None:
            nonlocal begun
            _commit(self._partial(step), self.folder(step), step, results, time.monotonic() - begun)
            self._artifacts[step.fingerprint] = read_artifact(self.folder(step))
            self._reported.add(step.fingerprint)
            self._built.add(step.fingerprint)
            begun = time.monotonic()

        build(Building(steps, folders, inputs, commit))

    def _resume_from(self, step: Step) -> None:
        """What stands in the artifact's place and is not whole is gone on from: one with damaged files, or without its
        record, as an interrupted copy leaves it. The caller holds its lock."""
        folder = self.folder(step)
        if not os.path.lexists(folder):
            return
        damaged = self._damaged.pop(step.fingerprint, [])
        if folder.is_symlink():
            got = f"a link to a folder that lacks {', '.join(damaged) or RECORD}"
            raise ArtifactError(folder, "must be a folder to be repaired", got, "Repair what it links to.")
        for name in damaged:  # names that were checked to stay inside the folder
            say(f"{step.stage:<8} damaged   {(folder / name).as_posix()}: its checksum differs; rebuilding it")
            (folder / name).unlink(missing_ok=True)
        if not damaged:
            say(f"{step.stage:<8} unfinished {folder.as_posix()}: it has no {RECORD}")
        (folder / RECORD).unlink(missing_ok=True)
        shutil.rmtree(self._partial(step), ignore_errors=True)
        folder.rename(self._partial(step))

    @contextmanager
    def _locked(self, step: Step) -> Iterator[None]:
        def waiting() -> None:
            say(f"{step.stage:<8} waiting   another process is building {self.folder(step).as_posix()}")

        if (stage := self.root / step.stage).is_symlink():
            give = "Put the folder in its place, or link the whole store instead."
            raise ArtifactError(stage, "must be a folder of the store itself to be written to", "a link", give)
        stage.mkdir(parents=True, exist_ok=True)
        with locked(self.folder(step), waiting):
            yield

    def adopt(self, step: Step, folder: Path) -> Artifact:
        """Copies the artifact in a folder that the user named into its place in the store.

        Raises ArtifactError if the folder holds no artifact, a damaged one, or the artifact of another recipe: then
        with the fields that differ.
        """
        if not (Path(folder) / RECORD).is_file():
            raise ArtifactError(
                folder, f"must be the folder of a {step.stage} artifact", f"no {RECORD}", "Give its folder."
            )
        artifact = read_artifact(Path(folder), copied=True)
        if artifact.record["stage"] != step.stage:
            raise ArtifactError(
                folder,
                f"must be the folder of a {step.stage} artifact",
                f"a {artifact.record['stage']} artifact",
                "Give its folder.",
            )
        if artifact.fingerprint != step.fingerprint:
            stale = "; ".join(differences(step.spec, artifact.record["spec"])) or "another version"
            raise ArtifactError(
                folder,
                f"must be the {step.stage} of this recipe",
                stale,
                "Build it again, or use the recipe it was made with.",
            )
        if damaged := damaged_files(artifact):
            raise ArtifactError(folder, "must be undamaged", f"damaged {', '.join(damaged)}", "Copy it again.")
        if not self.find(step):
            with disk_errors(self.root, store=True), self._locked(step):
                if not self.find(step):
                    self._resume_from(step)
                    self._copy(artifact, step)
        stored = self.find(step)
        assert stored
        return stored

    def _copy(self, artifact: Artifact, step: Step) -> None:
        """The files of the record and nothing else that lies beside them."""
        partial = self._partial(step)
        shutil.rmtree(partial, ignore_errors=True)
        for name in (*artifact.record["files"], RECORD):
            copy = inside(partial, name, artifact.folder / RECORD)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(artifact.folder / name, copy)
        partial.rename(self.folder(step))

    def _partial(self, step: Step) -> Path:
        return self.root / step.stage / f".{step.fingerprint}.partial"

    def _why_missing(self, step: Step) -> str:
        """Beside what is missing stands the nearest that an earlier command made; what this one made is no news."""
        folders = {path.parent for path in (self.root / step.stage).glob(f"[!.]*/{RECORD}")}
        folders -= {self.root / step.stage / fingerprint for fingerprint in self._built}
        specs = []
        for folder in sorted(folders):
            with suppress(ArtifactError):  # told when somebody asks for that one
                specs.append(read_artifact(folder).record["spec"])
        return why_missing(step.spec, specs)


def read_artifact(folder: Path, *, copied: bool = False) -> Artifact:
    """The artifact in a finished folder, its files not looked at.

    Whoever made it: the record's fields have their types, its fingerprint is that of its spec and the name of its
    folder, its stage the folder around it, and it lists the files that the stage must have, by names inside the folder.
    copied: by hand, into a folder of any name. Raises ArtifactError for a record that is otherwise.
    """
    record_path = folder / RECORD
    next_step = "Copy it again from where it was made." if copied else _rebuilt(folder)
    if record_path.is_symlink():
        raise ArtifactError(record_path, "must be a file, not a link", f"a link to {record_path.readlink()}", next_step)
    content = read_json(record_path, dict[str, Any], next_step, error=ArtifactError, most=LARGEST_RECORD)
    record = convert_json(content, Record, record_path, next_step, error=ArtifactError)
    home = folder.absolute()
    for name, got, must in (
        ("spec.stage", record.spec.stage, record.stage),
        ("fingerprint", record.fingerprint, fingerprint_of(content["spec"])),
        ("fingerprint", record.fingerprint, record.fingerprint if copied else home.name),
        ("stage", record.stage, record.stage if copied else home.parent.name),
    ):
        if got != must:
            must_be = f"must be {must}, that of its spec and its folder"
            raise ArtifactError(f"{record_path}: {name}", must_be, got, next_step)
    if missing := lacking(record.stage, record.files):
        raise ArtifactError(
            f"{record_path}: files", f"must list {missing}, which each {record.stage} has", "none", next_step
        )
    for name in record.files:
        inside(folder, name, f"{record_path}: files")
    if record.results.get("file", next(iter(record.files), None)) not in (*record.files, None):
        raise ArtifactError(
            f"{record_path}: results.file", "must be a file of the artifact", record.results["file"], next_step
        )
    form = FORMS.get(record.stage)
    if form and form.results:
        convert_json(record.results, form.results, f"{record_path}: results", next_step, error=ArtifactError)
    return Artifact(folder, content)


def open_artifact(folder: Path, next_step: str) -> Artifact:
    """The artifact in a finished folder, its files checked. next_step: what makes it, for the message.

    Raises ArtifactError if it is not there or damaged.
    """
    if not (folder / RECORD).is_file():
        raise ArtifactError(folder, "must be in the store", "no such artifact", next_step)
    artifact = read_artifact(folder)
    if damaged := damaged_files(artifact):
        raise ArtifactError(folder, "must be undamaged", f"damaged {', '.join(damaged)}", next_step)
    return artifact


def fingerprint_of(spec: dict[str, Any]) -> str:
    """The fingerprint of a step with that spec, as a record holds it."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def made_with() -> dict[str, Any]:
    """What a record names beside its spec: the versions of kd2mobile, Python, the platform and the packages that are
    installed, and those of KERNEL_VARIABLES that are set."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "kd2mobile": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions,
        "environment": {name: os.environ[name] for name in KERNEL_VARIABLES if name in os.environ},
    }


def _rebuilt(folder: Path) -> str:
    """The next step for an artifact that cannot be used."""
    return f"Remove {folder}; it will be built again."


def _commit(partial: Path, folder: Path, step: Step, results: Results, seconds: float) -> None:
    remove_temporaries(partial)
    files = sorted(p for p in partial.rglob("*") if p.is_file() and p.name != RECORD)
    record = {
        "stage": step.stage,
        "fingerprint": step.fingerprint,
        "spec": step.spec,
        "results": msgspec.to_builtins(results),
        "seconds": round(seconds, 3),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "made_with": made_with(),
        "files": {
            p.relative_to(partial).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in files
        },
    }
    write_json(partial / RECORD, record)
    partial.rename(folder)


def damaged_files(artifact: Artifact) -> list[str]:
    """The files of an artifact that are not there or not what its record says.

    Raises ArtifactError for a file that the record does not list: a stage could take it for its own.
    """
    files = artifact.record["files"]
    if added := next((name for name in _names_in(artifact.folder) if name not in files), None):
        must = f"must hold the files of its {RECORD} alone"
        raise ArtifactError(artifact.folder, must, f"{added} too", f"Remove {artifact.folder / added}.")
    total = sum(listed["bytes"] for listed in files.values())
    if total < SLOW_TO_HASH_BYTES:
        return [name for name, listed in files.items() if _is_damaged(artifact.folder / name, listed)]
    damaged = []
    with bar(f"checking {artifact.record['stage']}", total // 1_000_000, "MB") as advance:
        for name, listed in files.items():
            damaged += [name] if _is_damaged(artifact.folder / name, listed) else []
            advance(listed["bytes"] // 1_000_000)
    return damaged


def _names_in(folder: Path) -> Iterator[str]:
    """The files in a folder but its record and what a system leaves, which no stage reads."""
    for path in folder.rglob("*"):
        unread = path.name == RECORD or path.name.startswith(".") or is_left_by_system(path.name)
        if not unread and (path.is_symlink() or not path.is_dir()):
            yield path.relative_to(folder).as_posix()


def _refuse_links(folder: Path) -> None:
    """A build writes into what a stopped one left, which may be a copy of somebody else's: not through a link."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise ArtifactError(path, "must be a file of the store itself", "a link", f"Remove {folder}.")


def _is_damaged(path: Path, listed: dict[str, Any]) -> bool:
    return not path.is_file() or path.stat().st_size != listed["bytes"] or sha256_of(path) != listed["sha256"]
