"""The options that commands share: the flags of the recipe's fields, `--set`, `--store`, `--run`, `--json`."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click

from kd2mobile.cli.help import (
    DATA,
    DEVICE,
    FILES,
    INPUT,
    MEASUREMENT,
    OUTPUT,
    RECIPE,
    STUDENT,
    TEACHER,
    TRAINING,
    Command,
    option,
)
from kd2mobile.errors import RecipeError
from kd2mobile.measure.device import Device, Option
from kd2mobile.measure.devices import DEVICES, with_options
from kd2mobile.recipe.compose import FLAGS, Overrides, option_of
from kd2mobile.recipe.schema import fields
from kd2mobile.recipe.toml import assignment
from kd2mobile.store.output_files import (
    IsOurs,
    check_apart,
    check_different,
    check_output,
    check_outside,
    is_json_result,
)
from kd2mobile.store.run import check_outside_results

LISTS = {
    "precision": "Separate several with commas; `auto` finds the smallest file within --max-drop.",
    "compress": "Separate several with commas.",
    "threads": "Separate several with commas.",
    "cores": "",
    "range": "",
    "ensemble_temperatures": "",
}
"""The flags that take several values, with a sentence about that where the field's description has none."""
IN_ORDER = ("range", "ensemble_temperatures")
"""Those whose values each have their position, so that one may come twice."""
REPEATED = {"teacher": "Separate several with commas, or repeat the flag: their logits are combined."}
"""The flags of one text that may be repeated, with what several do."""
MOST_DIGITS = 20
"""More digits than any number of a recipe has: a longer word is kept as text and refused as such."""
IMAGE_FLAGS = ("data", "val_data", "test_data", "unlabelled")
"""The flags that name images."""
METAVARS = {
    "data": "PATH",
    "val_data": "PATH",
    "test_data": "PATH",
    "unlabelled": "DIR",
    "group_by": "REGEX",
    "teacher": "NAME|FILE",
    "teacher_weights": "FILE",
    "teacher_classes": "FILE",
    "student_weights": "FILE",
    "train_layers": "LAYERS",
    "device": "DEVICE",
}
GROUP_OF_TABLE = {
    "data": DATA,
    "views": DATA,
    "teacher": TEACHER,
    "ensemble": TEACHER,
    "label": TEACHER,
    "student": STUDENT,
    "distill": TRAINING,
    "export": FILES,
    "benchmark": MEASUREMENT,
}
OFF = {"groups": "Let near duplicates fall into different splits."}
"""The help of a flag that turns off what is on by default."""


class _Path(click.Path):
    """A file or folder. Another option in its position is refused instead of being read as a file name."""

    def convert(self, value, param, ctx):
        if "\0" in os.fspath(value):
            self.fail(f"{value!r} is not a path, which has no NUL in it.", param, ctx)
        if isinstance(param, click.Option) and str(value).startswith("-") and str(value) != "-":
            name, must = param.opts[0], f"must be followed by {'at least one' if param.multiple else 'its'} "
            raise RecipeError(
                f"{ctx.command_path}, {name}", must + param.metavar, value, f"See `{ctx.command_path} --help`."
            )
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)


def flag_option(flag: str) -> Callable:
    """The option of a recipe's field, in the group of its table."""
    field, group = fields()[FLAGS[flag]], DEVICE if flag == "device" else GROUP_OF_TABLE[FLAGS[flag].partition(".")[0]]
    kinds = [kind for kind in get_args(field.kind) if kind is not type(None)] if get_args(field.kind) else [field.kind]
    if get_origin(kinds[0]) is Literal:
        kinds = list(get_args(kinds[0]))
    name = option_of(flag)
    if get_origin(field.kind) is dict:
        text = f"{field.description} May be repeated."
        return option(name, flag, group=group, multiple=True, metavar="NAME=VALUE", help=text, callback=_by_name)
    if flag in LISTS:
        default = field.left_out or ",".join(
            map(str, [field.default] if isinstance(field.default, int) else field.default)
        )
        text = " ".join(filter(None, [field.description, LISTS[flag], f"[{default}]"]))
        return option(name, group=group, metavar="LIST", help=text)
    if field.kind == tuple[str, ...]:
        return option(name, group=group, multiple=True, metavar="NAME", help=f"{field.description} May be repeated.")
    if field.kind is bool:
        value = not field.default
        text = OFF[flag] if field.default else field.description
        return option(name, flag, group=group, is_flag=True, flag_value=value, default=None, help=text)
    text = field.described if field.default is None else f"{field.description} [{field.default}]"
    if all(isinstance(kind, str) for kind in kinds):
        return option(name, group=group, type=click.Choice(kinds), help=text)
    kind = kinds[0] if get_origin(kinds[0]) is None else kinds[0].__origin__
    several = {"multiple": True, "callback": _one_or_several} if len(kinds) > 1 or flag in REPEATED else {}
    if several:
        text = f"{field.description} {REPEATED.get(flag, 'May be repeated.')}" + text.removeprefix(field.description)
    return option(
        name,
        group=group,
        type=kind,
        metavar=METAVARS.get(flag) or {int: "N", float: "X"}.get(kind, "NAME"),
        help=text,
        **several,
    )


def _one_or_several(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> Any:
    """The value as a recipe holds it: None, one value, or all of them."""
    return values[0] if len(values) == 1 else values or None


def _by_name(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, Any] | None:
    """`beta=2` and `gamma=0.5` as the table that a recipe would have; None where none is given."""
    return dict(assignment(text, option.opts[0], "beta=2") for text in values) or None


def table_options(*tables: str) -> Callable:
    """The flags of these recipe tables, in the order of `FLAGS`."""

    def decorate(function: Callable) -> Callable:
        for flag in reversed([flag for flag, field in FLAGS.items() if field.partition(".")[0] in tables]):
            function = flag_option(flag)(function)
        return function

    return decorate


def recipe_options(*tables: str) -> Callable:
    """The flags of these recipe tables, with --recipe, --set, --store and --quiet."""

    def decorate(function: Callable) -> Callable:
        function = store_options(function)
        function = set_option(function)
        function = option(
            "--recipe", group=RECIPE, type=PATH, metavar="FILE.toml", help="A recipe file; flags override its fields."
        )(function)
        return table_options(*tables)(function)

    return decorate


def set_option(function: Callable) -> Callable:
    text = "Set any recipe field of this command, such as distill.patience=5; `kd2mobile list fields` lists them. "
    text += "May be repeated."
    return option("--set", "assignments", group=RECIPE, multiple=True, metavar="FIELD=VALUE", help=text)(function)


def store_options(function: Callable) -> Callable:
    function = option("--quiet", group=OUTPUT, is_flag=True, help="Print plain lines instead of progress bars.")(
        function
    )
    return option(
        "--store",
        group=INPUT,
        type=PATH,
        metavar="DIR",
        help="The folder of the artifacts. [.kd2mobile, or the run's store]",
    )(function)


def run_options(function: Callable) -> Callable:
    function = store_options(function)
    return option("--run", group=INPUT, type=PATH, metavar="DIR", help="The folder of the run. [the newest run]")(
        function
    )


def records_options(function: Callable) -> Callable:
    """--records FILE..., and the accuracy that a recommended model must have."""
    for decorate in (
        option(
            "--min-top1",
            group=INPUT,
            type=float,
            metavar="PERCENT",
            help="With --records: lowest test top-1 of a recommended model. [any]",
        ),
        option(
            "--within",
            group=INPUT,
            type=float,
            metavar="POINTS",
            help="With --records: percentage points of top-1 that a recommended model may lack of the best one. [0.5]",
        ),
        option(
            "--records",
            group=INPUT,
            multiple=True,
            type=PATH,
            metavar="FILE",
            help="Compare these benchmark records. May be repeated.",
        ),
        click.argument("files", nargs=-1, type=PATH, metavar="[FILE]..."),
    ):
        function = decorate(function)
    return function


def device_options(function: Callable) -> Callable:
    """The flags that the devices declare, each for one of them."""
    for device in reversed(DEVICES.values()):
        for declared in reversed(device.listed_options()):
            function = _device_option(device, declared)(function)
    return function


def _device_option(device: Device, declared: Option) -> Callable:
    text = f"With {device.name}: {declared.help[0].lower()}{declared.help[1:]}"
    if declared.kind is bool:
        value = {"is_flag": True, "flag_value": not declared.default}
    elif declared.choices:
        value = {"type": click.Choice(declared.choices)}
    elif declared.kind is int:
        value = {"type": click.IntRange(declared.least, declared.most), "metavar": declared.metavar}
    else:
        value = {"type": PATH, "metavar": declared.metavar, "nargs": len(get_args(declared.kind)) or 1}
    return option(declared.flag, declared.name, group=DEVICE, default=None, help=text, **value)


def requested_device(flags: dict[str, Any]) -> str | None:
    """The device with the flags of `device_options` in its text; they are taken out of `flags`.

    Raises RecipeError for a flag of another device.
    """
    names = [option.name for device in DEVICES.values() for option in device.listed_options()]
    given = {name: value for name in names if (value := flags.pop(name)) is not None}
    return with_options(flags["device"], given)


class OutputFile(click.Path):
    """A file that a command writes; - is standard output. `CarefulCommand` checks it before any work is done."""

    def __init__(self, is_ours: IsOurs):
        super().__init__(path_type=Path)
        self.is_ours = is_ours


class CarefulCommand(Command):
    """Refuses to overwrite one of its inputs, or a file that is not an earlier result of the same kind."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`--json` alone is `--json=-`: the word after it is never its file."""
        return super().parse_args(ctx, ["--json=-" if word == "--json" else word for word in args])

    def invoke(self, ctx: click.Context) -> Any:
        outputs = {param: ctx.params[param.name] for param in self.params if isinstance(param.type, OutputFile)}
        inputs = {
            param.opts[0] if isinstance(param, click.Option) else param.human_readable_name: one
            for param in self.params
            if param not in outputs
            for one in _paths(ctx.params.get(param.name))
        }
        folders = [one for name in IMAGE_FLAGS for one in _paths(ctx.params.get(name)) if one.is_dir()]
        runs = [one for name in ("run", "runs") for one in _paths(ctx.params.get(name))]
        files = {param: path for param, path in outputs.items() if path is not None and str(path) != "-"}
        for param, path in files.items():
            check_output(path, param.opts[0], param.type.is_ours)
            check_apart(path, param.opts[0], inputs)
            check_outside_results(path, param.opts[0], ctx.params.get("store"), runs)
            for folder in folders:
                check_outside(path, param.opts[0], folder, "a folder of the data", hidden_allowed=True)
        check_different({param.opts[0]: path for param, path in files.items()})
        return super().invoke(ctx)


def _paths(value: Any) -> list[Path]:
    """The parts of a flag's value that may be files: every path and text, one or several."""
    several = value if isinstance(value, tuple | list) else [value]
    return [Path(one) for one in several if isinstance(one, str | Path) and "\0" not in str(one)]


def json_option(*results: str) -> Callable:
    """--json[=FILE]: standard output if no file is given. results: the types that may be written: `is_json_result`."""
    text = "Write the result as JSON to standard output, and nothing else there; with =FILE, to this file."
    kind = OutputFile(is_json_result(*results))
    return option("--json", "json_file", group=OUTPUT, type=kind, metavar="[=FILE]", help=text)


def settings(flags: dict[str, Any], assignments: tuple[str, ...] = ()) -> Overrides:
    """The fields that a command line sets, each checked once: those of --set, and over them the flags'."""
    values = Overrides()
    for text in assignments:
        values.add(*assigned(text), "--set")
    for flag, value in flags.items():
        if value not in (None, ()):
            listed = _listed(value, once=flag not in IN_ORDER) if flag in LISTS else value
            if flag == "precision" and "auto" in listed:
                if len(listed) > 1:
                    next_step = "Give --precision auto, or the precisions without it."
                    raise RecipeError(
                        "--precision", "must be auto alone, because it chooses the precisions itself", value, next_step
                    )
                values.add("export.auto", True, "--precision")
                continue
            values.add(FLAGS[flag], listed, option_of(flag))
    return values


def typed(flag: str, value: Any) -> tuple[str, ...]:
    """The words of a command line that set the flag to that value: `--resize crop`, or `--no-groups` alone."""
    name = option_of(flag) if flag in FLAGS else f"--{flag.replace('_', '-')}"
    return (name,) if isinstance(value, bool) else (name, str(value))


def assigned(text: str) -> tuple[str, Any]:
    """The name and value of a `--set`. A text field reads `3` and `true` as text."""
    name, value = assignment(text)
    field = fields().get(name)
    if field and field.kind in (str, str | None) and not isinstance(value, str):
        value = text.partition("=")[2].strip()
    return name, value


def _listed(text: str, once: bool) -> tuple[str | int, ...]:
    """`fp32,int8` as words, `1,2` and `-0.5,1` as numbers. once: drop repeated words."""
    words = [word.strip() for word in text.split(",")]
    return tuple(map(_number_or_word, dict.fromkeys(words) if once else words))


def _number_or_word(word: str) -> str | int | float:
    if len(word) > MOST_DIGITS or not re.fullmatch(r"-?\d+(\.\d+)?", word, re.ASCII):
        return word
    return float(word) if "." in word else int(word)


def finite(value: object) -> list[float]:
    """Numbers separated by commas. Raises ValueError for any other word, and for NaN and infinity."""
    numbers = [float(number) for number in str(value).split(",")]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(value)
    return numbers


class Numbers(click.ParamType):
    """Numbers separated by commas."""

    name = "X,X,..."

    def convert(self, value, param, ctx):
        try:
            return finite(value)
        except ValueError:
            self.fail(f"{value!r} is not a list of finite numbers separated by commas.", param, ctx)


class ChannelValues(click.ParamType):
    """One number, or three for red, green and blue: `127.5` or `123.7,116.3,103.5`."""

    name = "X[,X,X]"

    def convert(self, value, param, ctx):
        try:
            numbers = finite(value)
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r} is not one finite number, or three separated by commas.", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers
