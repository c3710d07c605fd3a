"""What a command starts from: the settings that it was given, and the run and its stages."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd2mobile.errors import RecipeError, UnknownNameError
from kd2mobile.progress import say
from kd2mobile.recipe.compose import FLAGS, Overrides, compose
from kd2mobile.recipe.schema import Recipe
from kd2mobile.recipe.toml import read_tables
from kd2mobile.stages.plan import Plan, make_plan
from kd2mobile.store.artifact import Store
from kd2mobile.store.run import LATER_TABLES, RUNS, STORE, Run, newest_run, open_run, start_run
from kd2mobile.teachers.kinds import whole_images_only


def composed(recipe: Path | None, settings: dict[str, Any] | None, flags: dict[str, Any]) -> Recipe:
    """The recipe of that file with the settings and keywords over it. Raises RecipeError, UnknownNameError."""
    if recipe and not read_tables(recipe):
        must = "must have at least one table, such as [data]"
        raise RecipeError(recipe, must, "none", "Fill it, or leave --recipe out for the demo.")
    return compose(recipe, all_settings(settings, flags), whole_images_only)


def all_settings(settings: dict[str, Any] | None, flags: dict[str, Any]) -> Overrides:
    """The fields of a recipe by dotted name: settings, and over them the keywords, which are named as the flags are.

    Raises RecipeError, UnknownNameError.
    """
    unknown = [flag for flag in flags if flag not in FLAGS]
    if unknown:
        raise UnknownNameError("keyword", unknown[0], list(FLAGS), see="kd2mobile list fields")
    lower, keywords = Overrides.from_dict(settings), Overrides()
    for flag, value in flags.items():
        keywords.add(FLAGS[flag], _plain(value), f"keyword {flag}")
    return keywords.merged_over(lower)


def open_or_start(
    run: Path | None,
    store: Path | None,
    settings: dict[str, Any],
    check: Callable[[Recipe], None] | None = None,
) -> tuple[Run, Plan]:
    """The run in the folder, by default the newest; where there is none, one of the demo's settings. And its stages.

    settings: of the tables that a run does not keep (`LATER_TABLES`) they are for this call, in a new run too.
    check: raises for a recipe that the command cannot use, before a run is made or an image looked at.
    """
    settings = Overrides.from_dict(settings)
    opened = None if run is None and newest_run() is None else open_run(run, store, settings)
    recipe = opened.recipe if opened else compose(settings=settings)
    if check:
        check(recipe)
    if opened:
        return opened, make_plan(recipe, opened.store)
    say(f"no run under {RUNS}/ yet: creating one with the demo's recipe")
    plan = make_plan(recipe, Store(store or STORE))
    kept = compose(settings=settings.without(LATER_TABLES))
    return replace(start_run(kept, None, store or STORE), recipe=recipe), plan


def _plain(value: Any) -> Any:
    """A Path means a file or folder, never a name: made absolute, as Path("./digits") loses its dot as text."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value.absolute()) if isinstance(value, Path) else value
