"""The teachers of a recipe while its layers are put together: one table, or a list of tables, one per teacher."""

import os
from typing import Any

from kd2mobile.errors import RecipeError
from kd2mobile.recipe.schema import SEED, Ensemble, Recipe, Teacher

TeacherTables = dict[str, Any] | list[dict[str, Any]]


def names_of(name: Any, where: str) -> Any:
    """The names in a teacher.name that was typed, `a,b` or a list of such: one as it stands, several as a list.

    A path that exists is one name, whatever commas it has. where: for the message.

    >>> names_of("xception, mobilenetv2", "--teacher"), names_of(["xception"], "--teacher")
    (['xception', 'mobilenetv2'], 'xception')
    """
    typed = list(name) if isinstance(name, list | tuple) else [name]
    names = []
    for typed_name in typed:
        is_one_name = not isinstance(typed_name, str) or "," not in typed_name or os.path.exists(typed_name)
        words = [typed_name] if is_one_name else [word.strip() for word in typed_name.split(",")]
        if "" in words[1:] or (len(words) > 1 and not words[0]):
            raise RecipeError(
                f"{where}, teacher.name", "must be names with one comma between", repr(typed_name), "Correct it."
            )
        names += words
    return names[0] if len(names) == 1 else names


def table_per_teacher(teacher: Any) -> Any:
    """[teacher] of one layer: a table with several names as a list of tables, each with one name and all other fields.

    >>> table_per_teacher({"name": ["a", "b"], "seed": 1})
    [{'name': 'a', 'seed': 1}, {'name': 'b', 'seed': 1}]
    """
    names = teacher.get("name") if isinstance(teacher, dict) else None
    if isinstance(names, list | tuple) and names:
        return [teacher | {"name": name} for name in names]
    return teacher


def merged_teachers(lower: TeacherTables, upper: TeacherTables) -> TeacherTables:
    """The teachers of one layer merged over those of the layers below it.

    An upper list replaces a lower list, and each of its tables is merged over a single lower table. An upper table with
    a name replaces a lower list; without a name its fields are set for every teacher of the list.

    >>> merged_teachers({"weights": "none"}, [{"name": "a"}, {"name": "b", "weights": "imagenet"}])
    [{'weights': 'none', 'name': 'a'}, {'weights': 'imagenet', 'name': 'b'}]
    >>> several = [{"name": "a"}, {"name": "b"}]
    >>> merged_teachers(several, {"seed": 1}), merged_teachers(several, {"name": "c"})
    ([{'name': 'a', 'seed': 1}, {'name': 'b', 'seed': 1}], {'name': 'c'})
    """
    if isinstance(upper, list):
        return upper if isinstance(lower, list) else [lower | one for one in upper]
    if isinstance(lower, list):
        return upper if "name" in upper else [one | upper for one in lower]
    return lower | upper


def as_list(teacher: TeacherTables) -> list[dict[str, Any]]:
    """The tables, of one teacher too."""
    return teacher if isinstance(teacher, list) else [teacher]


def check_ensemble(recipe: Recipe) -> None:
    """Raises RecipeError unless the teachers differ and [ensemble] fits their number."""
    teachers, ensemble = recipe.teachers, recipe.ensemble
    if len(set(teachers)) < len(teachers):
        twice = next(one.name for i, one in enumerate(teachers) if one in teachers[:i])
        must = "must be another teacher each, or one with another seed"
        raise RecipeError("teacher.name", must, f"{twice!r} twice", "Leave it out once.")
    if ensemble.members and not isinstance(recipe.teacher, Teacher):
        step = "Leave it out, or give one teacher."
        raise RecipeError("ensemble.members", "must be left out with several teachers", ensemble.members, step)
    if teachers[-1].seed > SEED["le"]:
        must = f"must be at most {SEED['le'] + 1 - len(teachers):,} with {len(teachers)} members"
        raise RecipeError("teacher.seed", must, teachers[0].seed, "Each member takes the next seed.")
    if len(teachers) == 1:
        for field in Ensemble.__struct_fields__:
            if (value := getattr(ensemble, field)) != getattr(Ensemble(), field):
                step = "Leave it out, or give several: `--teacher xception,mobilenetv2`, or `--members 3`."
                raise RecipeError(f"ensemble.{field}", "must be left out with one teacher", value, step)
    elif len(ensemble.temperatures) not in (0, len(teachers)):
        must = f"must be one temperature per teacher, {len(teachers)} of them, or left out"
        raise RecipeError("ensemble.temperatures", must, len(ensemble.temperatures), "Give one each, such as 1,2.")
    elif ensemble.temperatures and ensemble.fit_temperatures:
        must = "must be left out where the temperatures are fitted"
        raise RecipeError("ensemble.temperatures", must, list(ensemble.temperatures), "Leave out one of the two.")
    elif ensemble.keep_best and ensemble.keep_best > len(teachers):
        must = f"must be at most {len(teachers)}, the number of teachers"
        raise RecipeError("ensemble.keep_best", must, ensemble.keep_best, "Leave it out to keep all.")
