"""A run: one folder of results that refers to artifacts. `recipe.toml`, `run.json`, `export/`, records, the report."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.artifact import Store, differences, disk_errors, made_with, write_json
from kd2mobile.errors import ArtifactError, RecipeError
from kd2mobile.recipe import Recipe, compose, write_recipe

RUNS = Path("runs")
RUN_RECORD = "run.json"
DEFAULTS_FROM = "what measured best on validation: benchmarks/tuning.py, its record in benchmarks/TABLE.md"


@dataclass(frozen=True)
class Run:
    """A run's folder, its recipe and the store that holds its artifacts."""

    folder: Path
    recipe: Recipe
    store: Store

    @property
    def record(self) -> dict[str, Any]:
        """What `run.json` holds: when and with what the run was made, and the folders of its artifacts."""
        return json.loads((self.folder / RUN_RECORD).read_text("utf-8"))

    def refer(self, artifacts: dict[str, Path]) -> None:
        """Adds references to artifacts, by role, as paths relative to the run's folder."""
        relative = {role: Path(os.path.relpath(folder, self.folder)).as_posix() for role, folder in artifacts.items()}
        write_json(self.folder / RUN_RECORD, self.record | {"artifacts": self.record["artifacts"] | relative})


def start_run(recipe: Recipe, folder: Path | None, store: Path) -> Run:
    """A run for the recipe: the folder's own if it holds that recipe, else a new one.

    folder: `runs/<time>-<student>` when left out. Raises RecipeError if the folder holds the run of another recipe.
    """
    folder = Path(folder) if folder else _unused(f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(recipe.student.name).stem}")
    if (folder / RUN_RECORD).is_file():
        run = open_run(folder, store)
        changes = differences(msgspec.to_builtins(recipe), msgspec.to_builtins(run.recipe))
        if changes:
            raise RecipeError(
                folder, "must hold a run of this recipe", "; ".join(changes), "Give another --run folder."
            )
        return run
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_recipe(recipe, folder / "recipe.toml")
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record = {"created": created, "made_with": made_with(), "defaults_from": DEFAULTS_FROM, "artifacts": {}}
        write_json(folder / RUN_RECORD, record)
    return Run(folder, recipe, Store(store))


def open_run(folder: Path | None, store: Path, settings: dict[str, Any] | None = None) -> Run:
    """The run in the folder, or the newest under `runs/`; settings of its later stages are written into its recipe.

    Raises ArtifactError where there is none.
    """
    folder = Path(folder) if folder else newest_run()
    if folder is None or not (folder / RUN_RECORD).is_file():
        shown = folder or RUNS
        raise ArtifactError(shown, "must hold a run", "none", "Make one with `kd2mobile distill`, or give --run DIR.")
    recipe = compose(folder / "recipe.toml", settings)
    if settings:
        write_recipe(recipe, folder / "recipe.toml")
    return Run(folder, recipe, Store(store))


def newest_run() -> Path | None:
    """The run under `runs/` that was created last."""
    records = list(RUNS.glob(f"*/{RUN_RECORD}"))
    created = {path.parent: json.loads(path.read_text("utf-8"))["created"] for path in records}
    return max(created, key=lambda folder: (created[folder], folder.name), default=None)


def _unused(name: str) -> Path:
    numbers = (RUNS / (name if n == 1 else f"{name}-{n}") for n in range(1, 1000))
    return next(folder for folder in numbers if not folder.exists())
