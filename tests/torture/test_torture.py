"""The small form of `make torture`: a few of each kind of trial. The long form is `python -m tests.torture`."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills by process groups, and reads /proc")


def test_a_little_torture():
    command = [sys.executable, "-m", "tests.torture", "--small"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-8000:] + done.stdout
    assert " 0 failed" in done.stdout and "kill distill" in done.stdout and "mutated keras" in done.stdout
