"""Python runs this at its start where the folder is on the path: see shim.py."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("torture_shim", Path(__file__).parent.parent / "shim.py")
_shim = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_shim)
_shim.install_from_environment()
