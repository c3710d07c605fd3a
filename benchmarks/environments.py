"""Python environments apart from the one that runs: one for each client, one for the core; made once and kept."""

import json
import subprocess
import sys
import venv
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).parent
KEPT = HERE.parent / ".environments"
"""Where the clients' environments lie; git ignores it."""
MARK = "installed.json"


class InstallationFailed(Exception):
    """pip could not install; says what and why in a line."""


def environment(folder: Path, *installs: list[str]) -> Path:
    """The Python of an environment at `folder` in which these pip installs were done, in this order.

    installs: arguments of `pip install`. One that is there, of this Python and of these installs, is used as it is; one
    that was left half made is made again. Raises InstallationFailed, for one without a network.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    contents = {"python": sys.version, "installs": [[str(word) for word in install] for install in installs]}
    mark = folder / MARK
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not mark.is_file() or json.loads(mark.read_text("utf-8")) != contents:
            mark.unlink(missing_ok=True)
            venv.create(folder, with_pip=True, clear=True)
            for install in contents["installs"]:
                _install(python_of(folder), install)
            mark.write_text(json.dumps(contents), "utf-8")
    return python_of(folder)


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return next(p for p in (folder / "bin" / "python", folder / "Scripts" / "python.exe") if p.exists())


def _install(python: Path, arguments: list[str]) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--no-compile", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise InstallationFailed(f"pip install {' '.join(arguments)}: {errors[-1] if errors else 'no message'}")
