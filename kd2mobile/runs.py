"""A run: one folder of results that refers to artifacts. `recipe.toml`, `run.json`, `export/`, records, the report."""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.artifact import Store, made_with
from kd2mobile.errors import ArtifactError, RecipeError
from kd2mobile.files import disk_errors, write_json
from kd2mobile.progress import say
from kd2mobile.recipe import compose
from kd2mobile.recipe_file import write_recipe
from kd2mobile.schema import DESCRIBED, Compress, Export, Recipe
from kd2mobile.spec import differences
from kd2mobile.variants import Variant, in_order

RUNS = Path("runs")
RUN_RECORD = "run.json"
RECORDS = "benchmark.json"
"""What `benchmark` leaves in a run: the records of its files and its teacher."""
PREDICTIONS = "predictions.npz"
"""What `benchmark` leaves in a run: the answers to the test pictures, `teacher` and `<role>-<variant>`."""
MEASUREMENTS = "measurements"
"""The folder of a run in which every `benchmark` leaves its records, a file each, named by time and device."""
LATER_TABLES = ("compress", "export", "benchmark")
WITHOUT_EFFECT = ("label",)
"""The tables that change nothing that is made."""
DEFAULTS_FROM = (
    "data.resize, views.smallest_area and flip, and distill's loss, temperature, hard_label_weight, learning_rate, "
    "batch_size and warmup_epochs measured best on validation of what was tried (benchmarks/tuning.py and TABLE.md); "
    "the others were not varied",
    "kd2mobile/recipes/digits.toml, chosen for minutes on two cores",
)


@dataclass(frozen=True)
class Run:
    """A run's folder, its recipe and the store that holds its artifacts."""

    folder: Path
    recipe: Recipe
    store: Store

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds: when and with what it was made, its store, and the folders of its artifacts."""
        return _read_record(self.folder)

    def refer(self, artifacts: dict[str, Path]) -> None:
        """Adds references to artifacts, by role, as paths relative to the run's folder."""
        relative = {role: _relative(folder, self.folder) for role, folder in artifacts.items()}
        self._note(artifacts=self.record["artifacts"] | relative)

    def exported(self, variant: Variant, export: Export | None = None, compress: Compress | None = None) -> None:
        """Notes that the run has files of that variant, so that they are measured with the others.

        export, compress: how they were made, for this call or by the recipe; `export_of` tells it later.
        """
        record = self.record
        how = msgspec.to_builtins(export or self.recipe.export)
        how = {name: value for name, value in how.items() if name not in ("precisions", "compressions")}
        if variant.compression != "none":
            how["compress"] = msgspec.to_builtins(compress or self.recipe.compress)
        known = record.get("export", {}) | {variant.name: how}
        self._note(exported=in_order([*record["exported"], variant.name]), export=known)

    def export_of(self, variant: Variant) -> tuple[Export, Compress]:
        """How the files of that variant were last made; by the recipe if they were not."""
        known = dict(self.record.get("export", {}).get(variant.name, {}))
        compress = msgspec.to_builtins(self.recipe.compress) | known.pop("compress", {})
        return (
            msgspec.convert(msgspec.to_builtins(self.recipe.export) | known, Export),
            msgspec.convert(compress, Compress),
        )

    def describe(self) -> None:
        """Keeps what this call says in files about the model, over the recipe of the run, for the calls after it."""
        first = compose(self.folder / "recipe.toml").export
        said = {name: getattr(self.recipe.export, name) for name in DESCRIBED}
        self._note(described={name: text for name, text in said.items() if text != getattr(first, name)})

    def forget(self) -> None:
        """Removes a run that came to nothing: it has no artifact, and would be taken for the newest."""
        if not self.record["artifacts"]:
            for name in (RUN_RECORD, "recipe.toml"):
                (self.folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # something else lies there
                self.folder.rmdir()

    def _note(self, **fields: Any) -> None:
        with disk_errors(self.folder):
            write_json(self.folder / RUN_RECORD, self.record | fields)


def start_run(recipe: Recipe, folder: Path | None, store: Path) -> Run:
    """A run for the recipe: the folder's own if it holds that recipe, else a new one.

    folder: `runs/<time>-<student>` when left out. The tables [export] and [benchmark] may differ: they belong to later
    verbs; so may [label], which changes nothing that is made. Raises RecipeError if the folder holds the run of
    another recipe.
    """
    folder = Path(folder) if folder else _unused(f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(recipe.student.name).stem}")
    if (folder / RUN_RECORD).is_file():
        run = open_run(folder, store)
        changes = differences(_before_export(recipe), _before_export(run.recipe))
        if changes:
            raise RecipeError(
                folder, "must hold a run of this recipe", "; ".join(changes), "Give another --run folder."
            )
        return run
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, folder / "recipe.toml")
        record = {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "made_with": made_with(),
            "defaults_from": DEFAULTS_FROM[recipe.data.source == "digits"],
            "store": _relative(store, folder),
            "exported": [],
            "artifacts": {},
        }
        write_json(folder / RUN_RECORD, record)
    return Run(folder, recipe, Store(store))


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
            must = f"must be a field of {' or '.join(LATER_TABLES)} in a run that exists"
            raise RecipeError(folder, must, repr(name), "Start another run with `kd2mobile distill`.")
    record = _read_record(folder)
    described = {f"export.{name}": text for name, text in record.get("described", {}).items()}
    recipe = compose(folder / "recipe.toml", described | (settings or {}))
    return Run(folder, recipe, Store(store or os.path.normpath(folder / record["store"])))


def newest_run() -> Path | None:
    """The run under `runs/` that was created last; a damaged one is passed over, and said."""
    created = {}
    for path in RUNS.glob(f"*/{RUN_RECORD}"):
        try:
            created[path.parent] = _read_record(path.parent)["created"]
        except ArtifactError as fault:
            say(f"passed over: {fault}")
    return max(created, key=lambda folder: (created[folder], folder.name), default=None)


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RUN_RECORD
    try:
        record = json.loads(path.read_text("utf-8"))
        if not {"created", "store", "artifacts"} <= record.keys():
            raise ValueError("fields are missing")
        return record
    except (OSError, ValueError, AttributeError) as fault:
        raise ArtifactError(path, "must be the record of a run", fault, f"Remove {folder} or mend it.") from fault


def _relative(place: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(place, folder)).as_posix()
    except ValueError:  # on another drive, on Windows
        return Path(place).absolute().as_posix()


def _before_export(recipe: Recipe) -> dict[str, Any]:
    skipped = LATER_TABLES + WITHOUT_EFFECT
    return {name: table for name, table in msgspec.to_builtins(recipe).items() if name not in skipped}


def _unused(name: str) -> Path:
    numbers = (RUNS / (name if n == 1 else f"{name}-{n}") for n in range(1, 1000))
    return next(folder for folder in numbers if not folder.exists())
