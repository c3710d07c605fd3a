"""How a command ends: its exit status, and the one line on standard error that says why."""

import sys
from pathlib import Path

import click

from kd2mobile.artifact import DISK_FAULTS, disk_error
from kd2mobile.errors import Kd2MobileError
from kd2mobile.usage import as_raised


def status_of(command: click.Command, arguments: list[str]) -> int:
    """Runs the command line with these arguments and returns its exit status: 0, 2 for an error, 130 for Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):  # a console of another encoding must not end a run over a class name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        command.main(arguments, prog_name="kd2mobile", standalone_mode=False)
        return 0
    except click.exceptions.NoArgsIsHelpError as bare:
        print(bare.ctx.get_help())
        return 0
    except Kd2MobileError as error:
        print(error, file=sys.stderr)
        return 2
    except click.UsageError as error:
        print(as_raised(error, arguments), file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("interrupted: what is finished is kept. The same command goes on from there.", file=sys.stderr)
        return 130
    except OSError as fault:
        if fault.errno not in DISK_FAULTS:
            raise
        print(disk_error(Path(fault.filename or "."), fault), file=sys.stderr)
        return 2
