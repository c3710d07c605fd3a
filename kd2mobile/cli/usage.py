"""Usage errors of click, in the form of every other error."""

import re

import click
from msgspec import Meta

from kd2mobile.errors import Kd2MobileError, RecipeError
from kd2mobile.recipe.schema import bounds
from kd2mobile.text import did_you_mean, nearest

_NEAR = 0.7
_NEAR_ELSEWHERE = 0.8
"""How alike a mistyped option and one of this command, or of another, must be for it to be suggested."""


def as_raised(fault: click.UsageError, arguments: list[str]) -> Kd2MobileError:
    """The error `<command>: <what must hold>, got <value>. See ...` for one of click's own.

    arguments: of the command line, the command first; click leaves it out where an option lacks its value.
    """
    first = [word for word in arguments[:1] if not word.startswith("-")]
    command = fault.ctx.command_path if fault.ctx else " ".join(["kd2mobile", *first])
    next_step = f"See `{command} --help`."
    if isinstance(fault, click.NoSuchOption):
        return RecipeError(
            command, "must be given options of this command", fault.option_name, f"{_nearest_option(fault)}{next_step}"
        )
    if isinstance(fault, click.MissingParameter):
        return RecipeError(command, f"must be given {_called(fault)}", "none", next_step)
    if isinstance(fault, click.BadParameter):
        match = re.fullmatch(r"(?P<got>'.*'|\S+) is not (?P<must>.+?)\.?", fault.message, re.DOTALL)
        if match:
            must = _number(fault.param) or match["must"]
            return RecipeError(f"{command}, {_called(fault)}", f"must be {must}", match["got"], next_step)
    message = fault.format_message()
    if match := re.match(r"No such command '(?P<name>.*?)'\.", message):
        near = did_you_mean(match["name"], getattr(fault.ctx.command, "commands", {}), _NEAR)
        return RecipeError(command, "must be given one of its commands", repr(match["name"]), f"{near}{next_step}")
    if match := re.fullmatch(r"Option '(?P<name>.*)' requires (?P<count>\d+) arguments\.", message):
        return RecipeError(
            f"{command}, {match['name']}", f"must be given with {match['count']} values", "fewer", next_step
        )
    if match := re.fullmatch(r"Option '(?P<name>.*)' (?:requires an argument|does not take a value)\.", message):
        without = message.endswith("take a value.")
        must, got = ("must be given without a value", None) if without else ("must be given with a value", "none")
        return RecipeError(f"{command}, {match['name']}", must, got, next_step)
    if match := re.fullmatch(r"Got unexpected extra arguments? \((?P<words>.*)\)", message):
        after_json = "A file is given as --json=FILE. " if "--json" in arguments else ""
        return RecipeError(command, "must be given no further argument", match["words"], after_json + next_step)
    return RecipeError(command, message.rstrip("."), None, next_step)


def _number(option: click.Parameter | None) -> str | None:
    """The values that a number option accepts, in words; None for an option of another kind."""
    kind = option.type if option else None
    if isinstance(kind, click.IntRange):
        return f"a whole number {bounds(Meta(ge=kind.min, le=kind.max))}".rstrip()
    return {click.INT: "a whole number", click.FLOAT: "a number"}.get(kind)


def _called(fault: click.BadParameter) -> str:
    return fault.param.get_error_hint(fault.ctx).replace("'", "") if fault.param else "its arguments"


def _nearest_option(fault: click.NoSuchOption) -> str:
    """The nearest option of this command or of another one, as a question."""
    if near := did_you_mean(fault.option_name, _options(fault.ctx.command), _NEAR):
        return near
    for name, other in getattr(fault.ctx.find_root().command, "commands", {}).items():
        if near := nearest(fault.option_name, _options(other), _NEAR_ELSEWHERE):
            return f"Did you mean `kd2mobile {name} {near[0]}`? "
    return ""


def _options(command: click.Command) -> list[str]:
    return [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
