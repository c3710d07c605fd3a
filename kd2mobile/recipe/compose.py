"""The recipe: what to do. Flags, TOML files and `--set` write the same fields, those of `schema.py`.

A recipe is layered: the built-in one for its data, then the file, then `--set`, then the flags.
"""

import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.errors import RecipeError, UnknownNameError, WeightsError
from kd2mobile.files import got_instead
from kd2mobile.recipe.schema import TABLES, Recipe, fields, takes
from kd2mobile.recipe.several_teachers import as_list, check_ensemble, merged_teachers, names_of, table_per_teacher
from kd2mobile.recipe.toml import WRITABLE, built_in, in_toml, in_words, is_writable, read_tables

WHOLE_VIEW = {"count": 1, "smallest_area": 1.0, "flip": False}
"""The [views] of a teacher that is given as logits: they are of whole images."""
WORD = re.compile(r"[A-Za-z0-9_]+")
"""A name of Keras's networks; a teacher with any other character in its name is a file or something else."""
SETTINGS = "settings"
"""What a message calls the place of values that came by no file."""

FLAGS = {field.flag: name for name, field in fields().items() if field.flag}
"""The fields that have a flag, `--teacher-weights`, and a keyword, `teacher_weights=`, of their own."""


def option_of(flag: str) -> str:
    """How a flag is typed.

    >>> option_of("teacher_weights"), option_of("groups")
    ('--teacher-weights', '--no-groups')
    """
    return f"--{'no-' * (fields()[FLAGS[flag]].default is True)}{flag.replace('_', '-')}"


class Overrides(dict[str, Any]):
    """Fields of a recipe by dotted name, for one call. Each is checked once, where it comes in, and keeps its origin.

    >>> given = Overrides.from_dict({"distill.epochs": 3})
    >>> given.add("distill.temperature", 2.0, "--temperature")
    >>> dict(given), given.origin("distill.temperature")
    ({'distill.epochs': 3, 'distill.temperature': 2.0}, '--temperature')
    """

    def __init__(self) -> None:
        super().__init__()
        self._origins: dict[str, str] = {}

    @classmethod
    def from_dict(cls, settings: dict[str, Any] | None, origin: str = SETTINGS) -> "Overrides":
        """The settings, checked if they are a plain dict. origin: what a message calls the place where they came from.

        Raises RecipeError, UnknownNameError.
        """
        if isinstance(settings, cls):
            return settings
        overrides = cls()
        for name, value in (settings or {}).items():
            overrides.add(name, value, origin)
        return overrides

    def add(self, name: str, value: Any, origin: str) -> None:
        """Sets a field. origin: `--temperature` or `keyword temperature`. Raises RecipeError, UnknownNameError."""
        check_settings({name: value}, origin)
        self[name] = value
        self._origins[name] = origin

    def origin(self, name: str) -> str:
        """What gave the field."""
        return self._origins.get(name, SETTINGS)

    def merged_over(self, lower: "Overrides") -> "Overrides":
        """These fields and those of the lower ones that are not among them."""
        both = Overrides()
        for one in (lower, self):
            both.update(one)
            both._origins |= one._origins
        return both

    def without(self, tables: Iterable[str]) -> "Overrides":
        """The fields of other tables than these."""
        rest = Overrides()
        rest.update({name: value for name, value in self.items() if name.partition(".")[0] not in tables})
        rest._origins |= self._origins
        return rest


def compose(
    file: Path | None = None,
    settings: dict[str, Any] | None = None,
    whole_images_only: Callable[[str], bool] = lambda teacher: False,
) -> Recipe:
    """The recipe of the built-in layer, the file and the settings, in this order.

    file: a TOML file; settings: values by dotted name, checked here unless they are `Overrides`, which were.
    The built-in layer is `digits` (the demo) while data.source is digits, else none: the defaults of the types. Its
    teacher, which is trained from scratch, is left out where teacher.name is not a plain word, as Keras's names are.
    whole_images_only: whether the teacher of that name sees whole images alone (`teachers.kinds.whole_images_only`):
    then the views are WHOLE_VIEW, and others are refused; a recipe that a run wrote says so already. An array of one
    source is that source. Raises RecipeError or UnknownNameError with the file, the field's dotted name, what must hold
    and the value.
    """
    file_tables, overrides = read_tables(file) if file else {}, Overrides.from_dict(settings)
    layers = [file_tables, _nested(overrides, SETTINGS)]
    for tables in layers:
        if "teacher" in tables:
            tables["teacher"] = table_per_teacher(tables["teacher"])
    _check(file_tables, str(file))
    merged = _merged(layers)
    for field, value in merged.get("data", {}).items():
        if isinstance(value, list | tuple) and len(value) == 1:
            merged["data"][field] = value[0]
    if merged.get("data", {}).get("source", "digits") == "digits":
        merged = _merge_with_demo(merged)
    teachers = as_list(merged.get("teacher", {}))
    if teacher_name := next((name for one in teachers if whole_images_only(name := one.get("name", ""))), None):
        _refuse_other_views(file_tables.get("views", {}), lambda field: str(file), teacher_name)
        _refuse_other_views(layers[1].get("views", {}), overrides.origin, teacher_name)
        merged = _merged([merged, {"views": WHOLE_VIEW}])
    recipe = msgspec.convert(merged | {"teacher": teachers[0] if len(teachers) == 1 else teachers}, Recipe)
    check_ensemble(recipe)
    return recipe


def check_settings(settings: dict[str, Any], where: str) -> None:
    """Refuses values by dotted name that no recipe takes. where: where they came from, `--set`, for the message.

    Raises RecipeError or UnknownNameError.
    """
    tables = _nested(settings, where)
    if "teacher" in tables:
        tables["teacher"] = table_per_teacher(tables["teacher"])
    _check(tables, where)


def weights_file(field: str, weights: str) -> Path | None:
    """The file that a field like `teacher.weights` names; None for the words `imagenet` and `none`.

    Raises WeightsError for anything else.
    """
    if weights in ("imagenet", "none"):
        return None
    if not Path(weights).is_file():
        raise WeightsError(
            f"{field}, {weights}",
            "must be a weights file, `imagenet` or `none`",
            got_instead(weights),
            f"Check the path, or use `{_flag_of(field)} none` to train from scratch.",
        )
    return Path(weights)


def _flag_of(field: str) -> str:
    return next(option_of(flag) for flag, name in FLAGS.items() if name == field)


def _merged(layers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for tables in layers:
        for name, values in tables.items():
            below = merged.get(name, {})
            merged[name] = merged_teachers(below, values)
            if isinstance(below, dict) and isinstance(values, dict):
                merged[name] |= _tables_inside(below, values)
    return merged


def _tables_inside(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Fields that are tables in both, such as distill.loss_options: the upper one's entries over the lower one's."""
    both = [field for field, value in upper.items() if isinstance(value, dict) and isinstance(lower.get(field), dict)]
    return {field: lower[field] | upper[field] for field in both}


def _merge_with_demo(tables: dict[str, Any]) -> dict[str, Any]:
    """The tables over those of the demo, whose teacher goes under teachers with a plain word for a name alone."""
    demo = built_in("digits")
    demo_teacher = demo.pop("teacher")
    _check_none_over(demo, tables)
    teachers = []
    for teacher in as_list(tables.get("teacher", {})):
        if not (name := teacher.get("name")) or WORD.fullmatch(name):
            _check_none_over({"teacher": demo_teacher}, {"teacher": teacher})
            teacher = demo_teacher | teacher
        teachers.append(teacher)
    return _merged([demo, tables]) | {"teacher": teachers}


def _nested(settings: dict[str, Any], where: str) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        table, dot, field = name.partition(".")
        if not dot:
            raise UnknownNameError(f"{where}, field", name, list(fields()), see="kd2mobile list fields")
        tables.setdefault(table, {})[field] = names_of(value, where) if name == "teacher.name" else value
    return tables


def _check_none_over(built_in_tables: dict[str, dict[str, Any]], tables: dict[str, dict[str, Any]]) -> None:
    """Refuses None where the built-in recipe has a value: a run would be read back with that value."""
    for table in (name for name in tables if name in built_in_tables):
        for field, value in tables[table].items():
            default = built_in_tables[table].get(field)
            if value is None and default is not None:
                must = f"must be a value: the built-in recipe has {default!r}, and no recipe file can say None"
                raise RecipeError(f"{SETTINGS}, {table}.{field}", must, value, "Give a value, or leave it out.")


def _refuse_other_views(views: dict[str, Any], origin: Callable[[str], str], teacher: str) -> None:
    for field, only in WHOLE_VIEW.items():
        if views.get(field, only) != only:
            raise RecipeError(
                f"{origin(f'views.{field}')}, views.{field}",
                f"must be {str(only).lower()} with the teacher {teacher}, whose logits are of whole images",
                views[field],
                "Leave it out, or give the model itself as the teacher: it labels as many views as you like.",
            )


def _check(tables: dict[str, Any], where: str) -> None:
    for table, values in tables.items():
        if table not in TABLES:
            raise UnknownNameError(f"{where}, table", table, list(TABLES), see="kd2mobile list fields")
        if table == "teacher" and isinstance(values, list) and values:
            for number, one in enumerate(values, 1):
                _check_table(table, one, f"{where}, teacher {number}")
        else:
            _check_table(table, values, where)


def _check_table(table: str, values: Any, where: str) -> None:
    if not isinstance(values, dict):
        raise RecipeError(f"{where}, {table}", "must be a table", repr(values), f"Write its fields under [{table}].")
    known = TABLES[table].__struct_fields__
    for field, value in values.items():
        if field not in known:
            raise UnknownNameError(f"{where}, field of {table}", field, list(known), see="kd2mobile list fields")
        _check_value(f"{table}.{field}", value, where)
    try:
        msgspec.convert(values, TABLES[table])
    except msgspec.ValidationError as fault:
        field, entry, _ = str(fault).partition(" - at `$.")[2].rstrip("`").partition("[")
        name = f"{table}.{field}"
        must = f"must be {takes(name, bool(entry))}"
        raise RecipeError(f"{where}, {name}", must, in_words(values[field]), _description(name)) from fault


def _check_value(name: str, value: Any, where: str) -> None:
    """Refuses what no number and no text of a recipe may be, for any field."""
    several = value.values() if isinstance(value, dict) else value
    for one in several if isinstance(value, list | tuple | dict) else (value,):
        if isinstance(one, float) and not math.isfinite(one):
            raise RecipeError(f"{where}, {name}", "must be a finite number", repr(one), _description(name))
        if isinstance(one, str) and not is_writable(one):
            raise RecipeError(f"{where}, {name}", f"must be {WRITABLE}", in_words(one), _description(name))


def _description(name: str) -> str:
    field = fields()[name]
    return f"{field.description} The default is {field.left_out or in_toml(field.default)}."
