"""Wheels for the board's platform, fetched by this machine's pip: for a board without a network."""

import subprocess
import sys
from pathlib import Path

from kd2mobile.backend.with_parent import with_parent
from kd2mobile.errors import DeviceError
from kd2mobile.measure.ssh.address import Address
from kd2mobile.measure.ssh.board import About

OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
"""The 2.N from which on wheels are built; 17 on any other machine."""
LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
MUSL = ("1_2", "1_1")


def machine_of(about: About) -> str:
    """The machine for which the board's Python was built: a 32-bit Python may run on a 64-bit kernel.

    >>> from msgspec import convert
    >>> said = {"python": "", "version": (3, 11, 2), "system": "Linux", "machine": "aarch64", "bits": 32}
    >>> machine_of(convert(said | {"glibc": "2.36", "musl": False, "has_venv": True, "free_bytes": 0}, About))
    'armv7l'
    """
    if about.bits == 32:
        return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(about.machine, about.machine)
    return about.machine


def platforms(about: About) -> list[str]:
    """The platforms whose wheels run on the board, the most specific first. Source: PEP 600 and PEP 656."""
    machine = machine_of(about)
    if about.musl:
        return [f"musllinux_{version}_{machine}" for version in MUSL] + [f"linux_{machine}"]
    tags = []
    minor = int((about.glibc or "2.17").split(".")[1])
    for step in range(minor, OLDEST_GLIBC.get(machine, 17) - 1, -1):
        tags.append(f"manylinux_2_{step}_{machine}")
        if step in LEGACY:
            tags.append(f"{LEGACY[step]}_{machine}")
    return [*tags, f"linux_{machine}"]


def fetch_wheels(address: Address, about: About, requirements: list[str], folder: Path) -> list[Path]:
    """Downloads the wheels of the packages and of their dependencies into the folder.

    Raises DeviceError if pip on this machine is missing or finds no wheel for the board.
    """
    version = ".".join(map(str, about.version[:2]))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", version, "--dest", str(folder)]
    command += [word for platform in platforms(about) for word in ("--platform", platform)]
    done = subprocess.run(
        with_parent([*command, *requirements]), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if "No module named pip" in done.stderr:
        install = f"Install it: {sys.executable} -m ensurepip. Or connect the board to a network."
        raise DeviceError(address, "must get its wheels from pip here", "no pip in this environment", install)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        got = (errors or lines or ["no message"])[-1].rstrip(".")
        libc = "musl" if about.musl else f"glibc {about.glibc}"
        must = f"must have wheels for its Python {version} on {machine_of(about)} with {libc}"
        next_step = "Use a Python version that has wheels, or a package index that has them."
        raise DeviceError(address, must, got, next_step)
    return sorted(folder.glob("*.whl"))
