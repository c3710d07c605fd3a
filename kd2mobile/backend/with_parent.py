"""Child processes end with their parent, however it ends: by SIGKILL too.

On Linux the kernel sees to it: a command is started behind this file, which asks for it (PR_SET_PDEATHSIG) and then
becomes the command. On other systems those of our own that take their work from standard input notice that it closes.
Nothing but the standard library: this file runs without the package.
"""

import os
import shutil
import sys

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_NOT_RUN = 126


def why_not_run(program: str, status: int, stderr: str) -> str | None:
    """Why a program behind `with_parent` could not be run, from its status and standard error; None if it could."""
    start = f"{program}: "
    return stderr[len(start) :].strip() if status == _NOT_RUN and stderr.startswith(start) else None


def with_parent(command: list[str]) -> list[str]:
    """The command, to be started so that it ends when the thread that starts it does.

    As it stands where the system has no such thing, or the program is not there: then starting it says so.
    """
    if sys.platform != "linux" or not sys.executable or not shutil.which(command[0]):
        return command
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *command]


def _become(parent: int, command: list[str]) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it ended before that
    try:
        os.execvp(command[0], command)
    except OSError as fault:
        print(f"{command[0]}: {fault.strerror}", file=sys.stderr)
        os._exit(_NOT_RUN)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
