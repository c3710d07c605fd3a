"""The notebook: run as it stands, in an empty folder, and shown with the output of a real run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
NOTEBOOK = DOCS / "demo.ipynb"


def code_cells(notebook):
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


def kinds(cell):
    return [(output["output_type"], sorted(output.get("data", ()))) for output in cell["outputs"]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder that the notebook ran in, with `out.ipynb`."""
    place = tmp_path_factory.mktemp("notebook")
    command = [sys.executable, str(DOCS / "run_notebook.py"), str(NOTEBOOK), "out.ipynb"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def test_it_runs_in_an_empty_folder(ran):
    run = ran / "runs" / "notebook"
    assert (run / "report.html").is_file() and (run / "export" / "small_cnn-int8.tflite").is_file()
    top1 = {record["role"]: record["top1"] for record in json.loads((run / "benchmark.json").read_text("utf-8"))}
    assert all(share > 0.8 for share in top1.values()), top1


def test_the_output_that_is_shown_is_of_these_cells(ran):
    shown, now = code_cells(NOTEBOOK), code_cells(ran / "out.ipynb")
    assert [cell["execution_count"] for cell in shown] == list(range(1, len(shown) + 1))
    again = "run `make notebook` and commit it"
    assert [kinds(cell) for cell in shown] == [kinds(cell) for cell in now], again


def test_a_cell_that_fails_is_said(tmp_path):
    cells = [{"cell_type": "code", "source": ["print(1)\n", "1 / 0"], "metadata": {}, "outputs": []}]
    (tmp_path / "bad.ipynb").write_text(json.dumps({"cells": cells}))
    command = [sys.executable, str(DOCS / "run_notebook.py"), "bad.ipynb", "out.ipynb"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr and "cell 1" in done.stderr
    assert not (tmp_path / "out.ipynb").exists()
