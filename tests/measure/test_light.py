"""A Raspberry Pi measures with numpy, Pillow, msgspec and LiteRT alone."""

import subprocess
import sys
from pathlib import Path

import kd2mobile

HOME = Path(kd2mobile.__file__).parent
PARTS = [*HOME.glob("measure/**/[a-z]*.py"), *HOME.glob("inspection/[a-z]*.py")]
MODULES = [".".join(path.relative_to(HOME).with_suffix("").parts) for path in PARTS]
HEAVY = [
    "tensorflow",
    "keras",
    "jax",
    "torch",
    "sklearn",
    "scipy",
    "matplotlib",
    "jinja2",
    "pandas",
    "ai_edge_litert",
    "tflite_runtime",
    "rich",
]


def test_importing_measure_loads_no_framework():
    program = "import importlib, sys\n"
    program += "".join(f"importlib.import_module('kd2mobile.{name}')\n" for name in MODULES)
    program += f"print(sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_measuring_loads_no_framework_and_leaves_the_runtime_to_its_processes(models, photos):
    program = f"""
import sys
from pathlib import Path
from kd2mobile.measure.external import measure_on_folder
measure_on_folder(Path({str(models / "uint8.tflite")!r}), Path({str(photos)!r}))
print(sorted({{name.split('.')[0] for name in sys.modules}} & set({HEAVY!r})))"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "INFO" not in done.stderr
