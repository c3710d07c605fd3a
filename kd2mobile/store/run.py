"""A run: one folder of results that refers to artifacts. `recipe.toml`, `run.json`, `export/`, records, the report."""

import itertools
import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import msgspec

from kd2mobile.errors import ArtifactError, RecipeError
from kd2mobile.files import convert_json, disk_errors, locked, read_json, sha256_of, write_json
from kd2mobile.progress import say
from kd2mobile.recipe.compose import Overrides, compose
from kd2mobile.recipe.schema import COMPRESSIONS, DESCRIBED, PRECISIONS, TABLES, Compress, Export, Recipe
from kd2mobile.recipe.toml import read_tables, recipe_toml, shown_tables, write_recipe
from kd2mobile.recipe.variants import Variant, in_order
from kd2mobile.store.artifact import RECORD, Artifact, Store, made_with, open_artifact
from kd2mobile.store.differences import differences
from kd2mobile.store.output_files import check_outside
from kd2mobile.store.stage_records import FINGERPRINT, FORMS, Sha256

RUNS = Path("runs")
STORE = Path(".kd2mobile")
"""Where artifacts live if nothing else is said."""
RUN_RECORD, RECIPE = "run.json", "recipe.toml"
EXPORT = "export"
"""The folder of a run that holds its .tflite files."""
RECORDS = "benchmark.json"
"""What `benchmark` leaves in a run: the records of its files and its teacher."""
COMPARISONS = "comparisons.json"
"""What `benchmark` leaves in a run: the paired tests."""
PREDICTIONS = "predictions.npz"
"""What `benchmark` leaves in a run: the answers to the test images, `teacher` and `<role>-<variant>`."""
MEASUREMENTS = "measurements"
"""The folder of a run in which every `benchmark` leaves its records, a file each, named by time and device."""
PAGE = "report.html"
"""What `report` leaves in a run."""
LATER_TABLES = ("compress", "export", "benchmark")
OWN_FILES = (RUN_RECORD, RECIPE, RECORDS, COMPARISONS, PREDICTIONS, PAGE)
"""What lies in a run and no command writes but for that run."""
WITHOUT_EFFECT = ("label",)
"""The tables that change nothing that is made."""
DEFAULTS_FROM = (
    "data.resize, views.smallest_area and flip, and distill's loss, temperature, hard_label_weight, learning_rate, "
    "batch_size and warmup_epochs measured best on validation of what was tried (benchmarks/tuning.py and TABLE.md); "
    "the others were not varied",
    "kd2mobile/recipe/built_in/digits.toml, chosen for minutes on two cores",
)

VARIANTS = "|".join(re.escape(Variant(c, p).name) for c in COMPRESSIONS for p in PRECISIONS)
VariantName = Annotated[str, msgspec.Meta(pattern=f"^({VARIANTS})$")]


class MadeWith(msgspec.Struct, frozen=True):
    kd2mobile: str
    python: str
    platform: str
    packages: dict[str, str]


class RunRecord(msgspec.Struct, frozen=True):
    """run.json. created: the time in UTC; store: the folder of its artifacts, relative to the run's.

    artifacts: by role the stage and the fingerprint of each, as the end of a path; exported: names of variants; export:
    how each was made; described: fields of [export] that a later call gave; recipe_sha256: of recipe.toml, which nobody
    changes after the start.
    """

    created: str
    store: str
    made_with: MadeWith
    artifacts: dict[str, str]
    exported: list[VariantName]
    export: dict[VariantName, dict[str, Any]] = {}
    described: dict[str, str | None] = {}
    defaults_from: str = ""
    recipe_sha256: Sha256 | None = None


@dataclass
class Run:
    """A run's folder, its recipe, the store that holds its artifacts, and its record.

    record: as this process last read or wrote `run.json`. Each change reads the file once, under its lock, for another
    process may have changed it, and writes it once, before anything else is done: killed at any moment, a run keeps
    every change.
    """

    folder: Path
    recipe: Recipe
    store: Store
    record: RunRecord

    @property
    def artifacts(self) -> dict[str, Path]:
        """The folders of its artifacts by role, there or not: always in the run's store, whatever `run.json` says."""
        return _referred(self.folder, self.record, self.store.root)

    def artifact(self, role: str) -> Artifact:
        """The artifact of that role, its files checked. Raises ArtifactError if it is not there or not whole."""
        folder = self.folder.as_posix()
        next_step = f"`kd2mobile distill --recipe {folder}/{RECIPE} --run {folder}` creates it."
        if role not in self.record.artifacts:
            raise ArtifactError(self.folder, f"must have a {role}", "none", next_step)
        return open_artifact(self.artifacts[role], next_step)

    def refer(self, artifacts: dict[str, Path]) -> None:
        """Adds references to artifacts, by role, as paths relative to the run's folder."""
        relative = {role: _relative(folder, self.folder) for role, folder in artifacts.items()}
        self._change(lambda record: {"artifacts": record.artifacts | relative})

    def add_export(self, variant: Variant, artifacts: dict[str, Path], export: Export, compress: Compress) -> None:
        """Keeps that the run has a file of that variant, which is then measured with the others.

        artifacts: as `refer` takes them; export, compress: how the file was made, which `export_of` returns later.
        """
        relative = {role: _relative(folder, self.folder) for role, folder in artifacts.items()}
        options = msgspec.to_builtins(export)
        options = {name: value for name, value in options.items() if name not in ("precisions", "compressions")}
        if variant.compression != "none":
            options["compress"] = msgspec.to_builtins(compress)
        self._change(
            lambda record: {
                "artifacts": record.artifacts | relative,
                "exported": in_order([*record.exported, variant.name]),
                "export": record.export | {variant.name: options},
            }
        )

    def export_of(self, variant: Variant) -> tuple[Export, Compress]:
        """How the files of that variant were last made; by the recipe if they were not."""
        stored = dict(self.record.export.get(variant.name, {}))
        where, next_step = f"{self.folder / RUN_RECORD}: export.{variant.name}", "Export it again into a new run."
        compress = convert_json(stored.pop("compress", {}), dict[str, Any], f"{where}.compress", next_step)
        defaults = msgspec.to_builtins(self.recipe.export), msgspec.to_builtins(self.recipe.compress)
        return (
            convert_json(defaults[0] | stored, Export, where, next_step),
            convert_json(defaults[1] | compress, Compress, f"{where}.compress", next_step),
        )

    def describe(self) -> None:
        """Keeps what this call says in files about the model, over the recipe of the run, for the calls after it."""
        initial = compose(self.folder / RECIPE).export
        values = {name: getattr(self.recipe.export, name) for name in DESCRIBED}
        described = {name: text for name, text in values.items() if text != getattr(initial, name)}
        self._change(lambda record: {"described": described})

    def forget(self) -> None:
        """Removes a run that came to nothing: it has no artifact, and would be taken for the newest."""
        if not _read_record(self.folder).artifacts:
            for name in (RUN_RECORD, RECIPE, f".{RUN_RECORD}.lock"):
                (self.folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # something else lies there
                self.folder.rmdir()

    def _change(self, change: Callable[[RunRecord], dict[str, Any]]) -> None:
        """Changes fields of `run.json`. change: returns them, from the record as it is in the locked file."""
        path = self.folder / RUN_RECORD
        with disk_errors(self.folder), locked(path):
            before = _read_record(self.folder)
            self.record = msgspec.structs.replace(before, **change(before))
            if self.record != before:
                write_json(path, msgspec.to_builtins(self.record))


def start_run(recipe: Recipe, folder: Path | None, store: Path) -> Run:
    """A run for the recipe: the folder's own if it holds that recipe, else a new one.

    folder: `runs/<time>-<student>` when left out. The tables [export] and [benchmark] may differ: they belong to later
    commands; so may [label], which changes nothing that is made. Raises RecipeError if the folder holds the run of
    another recipe.
    """
    with disk_errors(Path(folder or RUNS)):
        if folder:
            folder = Path(folder)
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = _new_folder(f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(recipe.student.name).stem}")
        with locked(folder / RUN_RECORD):
            if not (folder / RUN_RECORD).is_file():
                return _started(recipe, folder, store)
    run = open_run(folder, store)
    changes = differences(_before_export(recipe), _before_export(run.recipe))
    if changes:
        raise RecipeError(folder, "must hold a run of this recipe", "; ".join(changes), "Give another --run folder.")
    return run


def _started(recipe: Recipe, folder: Path, store: Path) -> Run:
    file = folder / RECIPE
    if os.path.lexists(file) and not (file.is_file() and file.read_bytes() == recipe_toml(recipe)):  # a kill leaves it
        must = "must be free for the recipe of the new run"
        raise RecipeError(file, must, "another file", "Give another --run folder, or move the file.")
    write_recipe(recipe, file)
    record = RunRecord(
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        made_with=msgspec.convert(made_with(), MadeWith),
        defaults_from=DEFAULTS_FROM[recipe.data.source == "digits"],
        store=_relative(store, folder),
        exported=[],
        artifacts={},
        recipe_sha256=sha256_of(file),
    )
    write_json(folder / RUN_RECORD, msgspec.to_builtins(record))
    return Run(folder, recipe, Store(store), record)


def open_run(folder: Path | None, store: Path | None = None, settings: dict[str, Any] | None = None) -> Run:
    """The run in the folder, or the newest under `runs/`.

    store: another one than the run's own. settings: fields of [compress], [export] and [benchmark] by dotted name, for
    this call; over what an earlier one had described.
    Raises ArtifactError where there is no run, RecipeError for a setting of an earlier stage.
    """
    folder = Path(folder) if folder else newest_run()
    if folder is None or not (folder / RUN_RECORD).is_file():
        shown = folder or RUNS
        raise ArtifactError(shown, "must hold a run", "none", "Make one with `kd2mobile distill`, or give --run DIR.")
    for name in settings or {}:
        if name.partition(".")[0] not in LATER_TABLES:
            must = f"must be a field of {' or '.join(LATER_TABLES)} for an existing run"
            raise RecipeError(folder, must, repr(name), "Start another run with `kd2mobile distill`.")
    record = _read_record(folder)
    for name in (EXPORT, MEASUREMENTS):  # what is written there must stay in the run
        if (folder / name).is_symlink():
            raise ArtifactError(folder / name, "must be a folder of the run itself", "a link", "Remove the link.")
    _check_recipe(folder, record)
    described = {f"export.{name}": text for name, text in record.described.items()}
    lower = Overrides.from_dict(described, f"{folder / RUN_RECORD}: described")
    recipe = compose(folder / RECIPE, Overrides.from_dict(settings).merged_over(lower))
    return Run(folder, recipe, Store(store or _store_of(folder, record)), record)


def _check_recipe(folder: Path, record: RunRecord) -> None:
    """Refuses a recipe that is not the one which the run was started with, above all an emptied or cut one."""
    next_step = "Restore the original file, or start another run with your recipe."
    must = "must be the recipe with which the run was started"
    if not (folder / RECIPE).is_file():
        raise RecipeError(folder / RECIPE, must, "no such file", next_step)
    if record.recipe_sha256 is None:  # a run from before the hash
        lacking = [name for name in TABLES if name not in read_tables(folder / RECIPE)]
        if lacking:
            raise RecipeError(folder / RECIPE, must, f"one without the table {lacking[0]}", next_step)
    elif sha256_of(folder / RECIPE) != record.recipe_sha256:
        raise RecipeError(folder / RECIPE, must, "another SHA-256", next_step)


def _store_of(folder: Path, record: RunRecord) -> Path:
    """The store that the run names: one that is there, or a new or empty folder. What else lies in a folder of somebody
    else's run is not written to."""
    where = f"{folder / RUN_RECORD}: store"
    if not record.store or "\0" in record.store:
        raise ArtifactError(where, "must be the path of a folder", repr(record.store), "Give it with --store.")
    store = Path(os.path.normpath(folder / record.store))
    with disk_errors(store, store=True):
        names = {path.name for path in store.iterdir()} if store.exists() else set()
    if names and not names & {*FORMS, "hashes.json"}:
        must = "must be a store of artifacts, or a new folder"
        raise ArtifactError(where, must, f"{store}, which holds other files", "Give the store with --store.")
    return store


def artifacts_of(folder: Path) -> dict[str, Path]:
    """The folders of a run's artifacts by role, there or not, in the store that the run names. Raises ArtifactError."""
    record = _read_record(folder)
    return _referred(folder, record, _store_of(folder, record))


def _referred(folder: Path, record: RunRecord, store: Path) -> dict[str, Path]:
    """The folders in the store that the run's references end in: a stage and a fingerprint each."""
    folders = {}
    for role, reference in record.artifacts.items():
        stage, fingerprint = ("", "", *PurePosixPath(reference).parts)[-2:]
        if stage not in FORMS or not re.fullmatch(FINGERPRINT, fingerprint):
            where = f"{folder / RUN_RECORD}: artifacts.{role}"
            must, next_step = (
                "must end in a stage and a fingerprint",
                "Remove it there, and run `kd2mobile distill` again.",
            )
            raise ArtifactError(where, must, repr(reference), next_step)
        folders[role] = store / stage / fingerprint
    return folders


def check_outside_data(recipe: Recipe, outputs: dict[str, Path | None]) -> None:
    """Raises RecipeError for an output that is a folder of the recipe's images, or lies in one: images alone lie there.

    outputs: files and folders, by what named them.
    """
    data = recipe.data
    for source in (data.source, data.val_source, data.test_source, data.unlabelled):
        for folder in map(Path, [source] if isinstance(source, str) else source or ()):
            for flag, path in outputs.items():
                if path is not None and folder.is_dir():
                    check_outside(path, flag, folder, "a folder of the data", hidden_allowed=True)


def check_outside_results(path: Path, flag: str, store: Path | None = None, runs: Iterable[Path] = ()) -> None:
    """Raises RecipeError for an output that lies in a store or among the measurements of a run, or that would replace a
    file of a run which another command reads there. store, runs: those that the command was given, which may be new."""
    resolved = Path(os.path.realpath(path))
    if store is not None:
        check_outside(path, flag, store, "which holds only artifacts")
    for folder in (resolved, *resolved.parents):
        if folder.name == STORE.name or (folder.name in FORMS and any(folder.glob(f"*/{RECORD}"))):
            check_outside(path, flag, folder, "which holds only artifacts")
        if folder.name == MEASUREMENTS and (folder.parent / RUN_RECORD).is_file():
            check_outside(path, flag, folder, "which holds only a run's measurements")
    of_a_run = (resolved.parent / RUN_RECORD).is_file() or str(resolved.parent) in map(os.path.realpath, runs)
    if resolved.name in OWN_FILES and of_a_run:
        raise RecipeError(flag, "must be different from a run's own files", path, "Give another path.")


def newest_run() -> Path | None:
    """The run under `runs/` that was created last; a damaged one is skipped, and said."""
    created = {}
    for path in RUNS.glob(f"*/{RUN_RECORD}"):
        try:
            created[path.parent] = _read_record(path.parent).created
        except ArtifactError as fault:
            say(f"skipped: {fault}")
    return max(created, key=lambda folder: (created[folder], folder.name), default=None)


def _read_record(folder: Path) -> RunRecord:
    return read_json(folder / RUN_RECORD, RunRecord, f"Remove {folder} or repair it.", error=ArtifactError)


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive, on Windows
        return Path(path).absolute().as_posix()


def _before_export(recipe: Recipe) -> dict[str, Any]:
    skipped = LATER_TABLES + WITHOUT_EFFECT
    return {name: table for name, table in shown_tables(recipe).items() if name not in skipped}


def _new_folder(name: str) -> Path:
    """A new folder under `runs/` that no other process has."""
    RUNS.mkdir(exist_ok=True)
    for number in itertools.count(1):
        with suppress(FileExistsError):
            (folder := RUNS / (name if number == 1 else f"{name}-{number}")).mkdir()
            return folder
    raise AssertionError
