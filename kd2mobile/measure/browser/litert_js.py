"""Finds LiteRT.js, which npm installs in the version of the lock in this package."""

import json
import os
import shlex
from pathlib import Path

from kd2mobile.errors import InstallationError
from kd2mobile.files import write_bytes

PACKAGES = ("@litertjs/core", "@litertjs/wasm-utils")
LOCK = ("package.json", "package-lock.json")
_HERE = Path(__file__).parent
_CHECKOUT = Path(__file__).parents[3] / "export" / "web"


def web_folder() -> Path:
    """The folder of classifier.js and npm's lock: export/web of a checkout, or the copy in an installed package."""
    installed = _HERE / "web"
    return installed if installed.is_dir() else _CHECKOUT


def home() -> Path:
    """The folder that `npm ci` is run in: export/web of a checkout, else one of the user's cache."""
    if web_folder() == _CHECKOUT:
        return _CHECKOUT
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(cache or Path.home() / ".cache") / "kd2mobile" / "litert.js"


def locked_version() -> str:
    """The version of LiteRT.js in the lock."""
    lock = json.loads((web_folder() / "package-lock.json").read_text("utf-8"))
    return lock["packages"][f"node_modules/{PACKAGES[0]}"]["version"]


def installed_version() -> str | None:
    """The version in `home()`; None if it is missing or incomplete."""
    try:
        versions = [json.loads((_folder(name) / "package.json").read_text("utf-8"))["version"] for name in PACKAGES]
    except (OSError, ValueError, KeyError):
        return None
    return versions[0]


def npm_command() -> str:
    """The command that installs the locked version. Copies the lock to where the command reads it."""
    folder = home()
    if folder != web_folder():
        folder.mkdir(parents=True, exist_ok=True)
        for name in LOCK:
            write_bytes(folder / name, (web_folder() / name).read_bytes(), unless_same=True)
    return f"npm ci --prefix {shlex.quote(str(folder))}"


def litert_js() -> tuple[str, dict[str, Path]]:
    """The version of LiteRT.js, and its files by their path under node_modules.

    Raises InstallationError unless the locked version is installed there.
    """
    expected, installed = locked_version(), installed_version()
    if installed != expected:
        got = f"{installed} in {home()}" if installed else f"none in {home()}"
        install = f"Install it with `{npm_command()}`; npm comes with Node.js."
        raise InstallationError("--device browser", f"must find LiteRT.js {expected}", got, install)
    modules = home() / "node_modules"
    files = [file for name in PACKAGES for kind in ("dist/*.js", "wasm/*") for file in _folder(name).glob(kind)]
    return expected, {file.relative_to(modules).as_posix(): file for file in files if file.is_file()}


def _folder(package: str) -> Path:
    return home() / "node_modules" / package
