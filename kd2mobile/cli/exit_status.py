"""How a command ends: its exit status, and the one line on standard error that gives the reason."""

import errno
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import click
from click.shell_completion import shell_complete

from kd2mobile.cli.usage import as_raised
from kd2mobile.errors import Kd2MobileError
from kd2mobile.files import NO_ROOM, STANDARD_OUTPUT, system_errors

NAME, COMPLETE = "kd2mobile", "_KD2MOBILE_COMPLETE"
"""The program's name, and the variable by which a shell requests completions."""
UNREAD = 141
"""The status that a shell gives to a program ended by SIGPIPE."""
_GOES_ON = "interrupted: finished stages are kept. Run the same command to resume."
_MEASURES = "interrupted: earlier measurements are kept. Run the same command to start this one again."
INTERRUPTED = dict.fromkeys(("distill", "check", "label", "export"), _GOES_ON) | dict.fromkeys(
    ("benchmark", "report"), _MEASURES
)
"""The line after Ctrl-C or SIGTERM, for the commands that keep something."""


class Stopped(KeyboardInterrupt):
    """As Ctrl-C, for another signal that ends a program."""

    def __init__(self, signal_number: int):
        super().__init__()
        self.status = 128 + signal_number


def heed_signals() -> None:
    """Makes SIGTERM, and the end of the terminal, stop this process as Ctrl-C does. One that is ignored stays so."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _stop)


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


def status_of(command: click.Command, arguments: list[str]) -> int:
    """Runs the command line with these arguments and returns its exit status.

    0, 2 for an error, 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP, 141 where nobody reads its output any more, as
    behind `| head`; then nothing is printed.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):  # a console of another encoding must not end a run over a class name
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(command, arguments)
    except BrokenPipeError:
        if not _silenced():
            raise  # it was another pipe than the output: a bug
        return UNREAD
    except SystemExit as left:
        if not isinstance(left.__context__, BrokenPipeError):
            raise
        return UNREAD  # Rich leaves so, and has silenced the output


def _open_closed_streams() -> None:
    """Opens streams that the shell closed (`>&-`) on the null device, so that no file of ours gets their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8")  # noqa: SIM115 - it stays; of the lowest free number
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _run(command: click.Command, arguments: list[str]) -> int:
    if instruction := os.environ.get(COMPLETE):
        return shell_complete(command, {}, NAME, COMPLETE, instruction)
    try:
        try:
            with (
                system_errors(),
                _output_named(),
                command.make_context(NAME, list(arguments)) as context,
            ):  # not main(): it takes any broken pipe for the output's, and ends without a word
                command.invoke(context)
        except click.exceptions.Exit:
            pass  # --help, --version
        with system_errors(), _output_named():
            sys.stdout.flush()
        return 0
    except click.exceptions.NoArgsIsHelpError as bare:
        print(bare.ctx.get_help(), flush=True)
        return 0
    except Kd2MobileError as error:
        print(error, file=sys.stderr)
        return 2
    except click.UsageError as error:
        print(as_raised(error, arguments), file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort) as stop:
        print(INTERRUPTED.get(next(iter(arguments), ""), "interrupted"), file=sys.stderr)
        return stop.status if isinstance(stop, Stopped) else 130


@contextmanager
def _output_named() -> Iterator[None]:
    """Names standard output as the file of a disk error that has no file name, and silences that stream."""
    try:
        yield
    except OSError as fault:
        if fault.filename is None and fault.errno in (*NO_ROOM, errno.EFBIG, errno.EIO):
            fault.filename = STANDARD_OUTPUT
            with suppress(OSError), open(os.devnull, "w") as nothing:  # the interpreter writes again what is left
                os.dup2(nothing.fileno(), sys.stdout.fileno())
        raise


def _silenced() -> bool:
    """Whether the reader of standard output or error has gone; that stream is silenced."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if _is_gone(stream)]
    with open(os.devnull, "w") as nothing:
        for stream in gone:
            os.dup2(nothing.fileno(), stream.fileno())
    return bool(gone)


def _is_gone(stream: TextIO) -> bool:
    """Whether the other end of a pipe was closed."""
    if not hasattr(select, "poll"):
        return False  # Windows, where a closed pipe is no BrokenPipeError
    look = select.poll()
    look.register(stream, 0)
    return bool(look.poll(0))
