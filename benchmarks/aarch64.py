"""A Python of 64-bit Arm with LiteRT, run here under qemu's user emulation: for what it answers, never for how fast.

Its interpreter and libraries are Debian's packages of arm64, fetched by an apt with lists and caches of its own and
unpacked into a folder, its packages the wheels that pip has for that platform. Nothing is installed on this machine, no
root is needed, and nothing of Arm's runs outside qemu.
"""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from environments import MARK, InstallationFailed
from filelock import FileLock

PACKAGES = ["python3-minimal", "libpython3-stdlib", "libstdc++6"]
WHEELS = ["ai-edge-litert>=2.1", "backports-strenum<1.3", "numpy"]
PLATFORMS = ["manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"]
QEMU = ("qemu-aarch64-static", "qemu-aarch64")
FEATURES = {"asimddp": (16, 20), "sve": (16, 22), "i8mm": (26, 13)}
"""By the kernel's names: which word of the auxiliary vector and which bit of it says that the processor has it."""


class Cpu(NamedTuple):
    """A processor by qemu's words for it. part: Arm's number of its kind; means: what it is to a person."""

    part: str
    means: str


CPUS = {
    "cortex-a53": Cpu("0xd03", "NEON alone, as in a Raspberry Pi 3"),
    "cortex-a76": Cpu("0xd0b", "NEON with dot products, as in a Raspberry Pi 5"),
    "max,sme=off": Cpu("0xd40", "8-bit matrix products and SVE, as in phones since 2021"),
}
"""SME is off: qemu 7.2 computes its SMOPA, the product of int8 matrices, wrongly (the second row's values end up in the
first), and an int8 file answers nonsense by it. So LiteRT's kernels for SME are not covered."""


class UserSpace(NamedTuple):
    """root: where Arm's files lie; site: its Python packages; python: its interpreter; qemu: what runs it."""

    root: Path
    site: Path
    python: Path
    qemu: str

    def command(self, cpu: str, *words: str | Path) -> list[str | Path]:
        """That Python with these words on that processor, one at a time: LiteRT looks the processor up in the root."""
        _describe_processor(self.root, CPUS[cpu])
        emulated = [self.qemu, "-cpu", cpu, "-L", self.root, "-E", f"PYTHONPATH={self.site}"]
        return [*emulated, self.python, "-s", "-B", *words]

    def evaluate(self, cpu: str, code: str) -> object:
        """What this code prints there, as JSON."""
        return json.loads(_run(self.command(cpu, "-c", code)))

    def features(self, cpu: str) -> list[str]:
        """Which of FEATURES a program finds there."""
        words = self.evaluate(cpu, f"{_AUXILIARY}; print([getauxval(16), getauxval(26)])")
        return [name for name, (word, bit) in FEATURES.items() if words[word == 26] >> bit & 1]

    def versions(self) -> dict[str, str]:
        """Of qemu, and of the Python and the packages there."""
        there = self.evaluate(next(iter(CPUS)), _VERSIONS)
        return {"qemu": _run([self.qemu, "--version"]).split()[2], **there}


_AUXILIARY = (
    "import ctypes; getauxval = ctypes.CDLL(None).getauxval; getauxval.restype = ctypes.c_ulong; "
    "getauxval.argtypes = [ctypes.c_ulong]"
)
_VERSIONS = (
    "import json, platform; from importlib.metadata import version; names = ['ai-edge-litert', 'numpy']; "
    "print(json.dumps({'machine': platform.machine(), 'python': platform.python_version(), "
    "**{name: version(name) for name in names}}))"
)


def user_space(folder: Path) -> UserSpace:
    """Made at `folder` on first use and kept; one that was left half made is made again.

    Raises InstallationFailed: where qemu or Debian's tools are missing, or without a network.
    """
    if platform.machine() != "x86_64":
        raise InstallationFailed(f"the comparison is with x86-64, and this is {platform.machine()}")
    qemu = next(filter(None, map(shutil.which, QEMU)), None)
    if qemu is None:
        raise InstallationFailed(f"no {QEMU[0]} on this machine. On Debian: apt-get install qemu-user-static")
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        raise InstallationFailed(f"no {' and no '.join(missing)} here, and Arm's Python comes from Debian's packages")
    folder.mkdir(parents=True, exist_ok=True)
    root, site, mark = folder / "root", folder / "site", folder / MARK
    contents = {"packages": PACKAGES, "wheels": WHEELS, "platforms": PLATFORMS}
    with FileLock(folder / ".lock"):
        if not mark.is_file() or json.loads(mark.read_text("utf-8")) != contents:
            mark.unlink(missing_ok=True)
            for folder in (root, site):
                shutil.rmtree(folder, ignore_errors=True)
            _unpack(folder, root)
            _install(_python_in(root), site)
            mark.write_text(json.dumps(contents), "utf-8")
    return UserSpace(root, site, _python_in(root), qemu)


def _unpack(folder: Path, root: Path) -> None:
    """Debian's packages of arm64, and what they depend on, as this machine's own sources have them."""
    apt = folder / "apt"
    shutil.rmtree(apt, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "1",
        "Dir::Cache": apt / "cache",
        "Dir::State::Lists": apt / "lists",
        "Dir::State::status": apt / "status",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run(["apt-get", *options, "update", "-qq"])
    _run(["apt-get", *options, "install", "-qq", "-y", "--download-only", "--no-install-recommends", *PACKAGES])
    root.mkdir()
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", package, root])
    for name in ("bin", "lib"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    shutil.rmtree(apt)


def _install(python: Path, site: Path) -> None:
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    version = ["--implementation", "cp", "--python-version", python.name.removeprefix("python")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", site]
    _run([*command, "--only-binary", ":all:", *platforms, *version, *WHEELS])


def _python_in(root: Path) -> Path:
    pythons = sorted((root / "usr" / "bin").glob("python3.*[0-9]"))
    if not pythons:
        raise InstallationFailed(f"no Python among Debian's packages of arm64 in {root}")
    return pythons[-1]


def _describe_processor(root: Path, cpu: Cpu) -> None:
    """What LiteRT reads of the processor's kind, which is this machine's where qemu does not say otherwise.

    It looks into /proc and /sys; qemu takes what its root has before what this machine has. A processor of another
    kind than the emulated one would be given instructions that it lacks.
    """
    lines = {"processor": 0, "CPU implementer": "0x41", "CPU architecture": 8, "CPU variant": "0x0"}
    lines |= {"CPU part": cpu.part, "CPU revision": 0}
    kernel = root / "sys" / "devices" / "system" / "cpu"
    (root / "proc").mkdir(exist_ok=True)
    kernel.mkdir(parents=True, exist_ok=True)
    (root / "proc" / "cpuinfo").write_text("".join(f"{name}\t: {value}\n" for name, value in lines.items()) + "\n")
    for name in ("possible", "present"):
        (kernel / name).write_text("0\n")


def _run(command: list[str | Path]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        errors = [line for line in lines if line.startswith(("E:", "ERROR"))] or lines
        raise InstallationFailed(f"{Path(command[0]).name} ended with {done.returncode}: {errors[-1]}")
    return done.stdout
