"""What measuring needs on a board: kd2mobile's own modules for it, packed, and the names of four packages."""

import zipfile
from pathlib import Path

import kd2mobile

PACKAGES = ["ai-edge-litert>=2.1", "msgspec>=0.20", "numpy>=1.26", "pillow>=11"]
PACKAGES_ARMV7L = ["tflite-runtime>=2.14", "msgspec>=0.20", "numpy>=1.26,<2", "pillow>=11"]
"""32-bit Arm has a wheel of LiteRT's forerunner alone, which was built for NumPy 1."""
LONG_AGO = (2020, 1, 1, 0, 0, 0)
"""The time of every packed file, so that the same source is the same bytes."""


def packages(machine: str) -> list[str]:
    """What pip is to install on such a machine."""
    return PACKAGES_ARMV7L if machine == "armv7l" else PACKAGES


def pack_core(to: Path) -> None:
    """Writes a ZIP of the package's own modules, measure/ and inspection/, the same bytes for the same source."""
    home = Path(kd2mobile.__file__).parent
    parts = [*(home / "measure").rglob("*.py"), *(home / "inspection").glob("*.py")]
    with zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted([*home.glob("*.py"), *parts]):
            name = zipfile.ZipInfo((Path(home.name) / source.relative_to(home)).as_posix(), LONG_AGO)
            archive.writestr(name, source.read_bytes(), zipfile.ZIP_DEFLATED)
