"""What measuring needs on a board: kd2mobile's own modules for it, packed, and the names of four packages."""

import ast
import zipfile
from pathlib import Path

import kd2mobile

PACKAGES = ["ai-edge-litert>=2.1", "msgspec>=0.20", "numpy>=1.26", "pillow>=11"]
PACKAGES_ARMV7L = ["tflite-runtime>=2.14", "msgspec>=0.20", "numpy>=1.26,<2", "pillow>=11"]
"""32-bit Arm has a wheel of LiteRT's forerunner alone, which was built for NumPy 1."""
WORK = "measure.ssh.measure_on_board"
"""What the board runs."""
LONG_AGO = (2020, 1, 1, 0, 0, 0)
"""The time of every packed file, so that the same source is the same bytes."""


def packages(machine: str) -> list[str]:
    """What pip is to install on such a machine."""
    return PACKAGES_ARMV7L if machine == "armv7l" else PACKAGES


def pack_core(to: Path) -> None:
    """Writes a ZIP of `measure_on_board.py` and all that it imports here, the same bytes for the same source."""
    home = Path(kd2mobile.__file__).parent
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted(modules_used(home, WORK)):
            name = zipfile.ZipInfo((Path(home.name) / source.relative_to(home)).as_posix(), LONG_AGO)
            archive.writestr(name, source.read_bytes(), zipfile.ZIP_DEFLATED)


def modules_used(home: Path, module: str) -> set[Path]:
    """The files of the package that a module needs to run: those that it imports, anywhere in it, and their packages.

    home: the package's folder. module: its dotted name within the package.
    """
    used, waiting = set(), [module]
    while waiting:
        parts = waiting.pop().split(".")
        for path in (home.joinpath(*parts[:end]) for end in range(len(parts) + 1)):
            file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            if file.is_file() and file not in used:
                used.add(file)
                waiting += _imports(file, home.name)
    return used


def _imports(file: Path, package: str) -> list[str]:
    """What a file imports of the package, dotted names within it; a name may be one that the last module defines."""
    tree, imported = ast.parse(file.read_bytes()), []
    checked = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    unused = {inner for node in checked for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in unused:
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import) and node not in unused:
            imported += [alias.name for alias in node.names]
    return [name.removeprefix(f"{package}.") for name in imported if name.startswith(f"{package}.")]
