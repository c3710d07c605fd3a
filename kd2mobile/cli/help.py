"""How a command's help is laid out: what it does, one example, and its options in groups."""

from collections.abc import Callable
from typing import Any

import click

INPUT, DATA, TEACHER, STUDENT, TRAINING = "Input", "Data", "Teacher", "Student", "Training"
FILES, DEVICE, MEASUREMENT, RECIPE, OUTPUT = "Files", "Device", "Measurement", "Recipe", "Output"
GROUPS = (INPUT, DATA, TEACHER, STUDENT, TRAINING, FILES, DEVICE, MEASUREMENT, RECIPE, OUTPUT)
"""The titles of the groups, in the order of the help."""


class GroupedOption(click.Option):
    """An option that stands under a title of `GROUPS` in the help."""

    def __init__(self, *names: Any, group: str = OUTPUT, **how: Any):
        super().__init__(*names, **how)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)  # as `0<=x<=65535`: the message of a number outside says it in words
        return extra


def option(*names: str, group: str, **how: Any) -> Callable:
    """`click.option`, under that title of `GROUPS` in the help."""
    return click.option(*names, cls=GroupedOption, group=group, **how)


class Command(click.Command):
    """A command whose help shows an example, a whole command line, and its options in groups."""

    def __init__(self, *positional: Any, example: str = "", **how: Any):
        super().__init__(*positional, **how)
        self.example = example

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_help_text(ctx, formatter)
        with formatter.section("Example"):
            formatter.write(f"{'':{formatter.current_indent}}{self.example}\n")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {title: [] for title in GROUPS}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (row := parameter.get_help_record(ctx)):
                rows[getattr(parameter, "group", OUTPUT)].append(row)  # --help, which click adds, has no group
        for title, of_group in rows.items():
            if of_group:
                with formatter.section(title):
                    formatter.write_dl(of_group)
