"""Files in processes of their own: the answers are the same, and what dies takes nothing with it."""

import os
import select
import signal
import subprocess
import sys

import numpy as np
import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.errors import ModelFileError, RecipeError
from kd2mobile.measure.litert.guarded import GuardedClassifier
from kd2mobile.measure.litert.runtime import Classifier
from kd2mobile.measure.protocol import Setting
from tests.measure.conftest import image
from tests.tiny_models import changed, pixels

ONE = Setting(1, True)
DYING = """
import os, signal
class Interpreter:
    def __init__(self, model_path, num_threads):
        os.kill(os.getpid(), signal.SIGSEGV)
class OpResolverType:
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 0
"""


def test_it_is_and_answers_what_the_file_does_in_this_process(models):
    for name in ("full_int8", "float", "wide_uint8"):
        normal = {"mean": [124, 116, 104], "std": [58, 57, 60]} if name != "full_int8" else {}
        here = Classifier(models / f"{name}.tflite", **normal)
        with GuardedClassifier(models / f"{name}.tflite", ONE, **normal) as there:
            for field in ("path", "input_px", "classes", "input", "output", "metadata", "last_op", "notes", "step"):
                assert getattr(there, field) == getattr(here, field), field
            np.testing.assert_array_equal(there.mean, here.mean)
            np.testing.assert_array_equal(there.std, here.std)
            for colour in [(255, 0, 3), (60, 70, 50)]:
                np.testing.assert_array_equal(there.outputs(pixels(colour)), here.outputs(pixels(colour)))


def test_a_refusal_of_an_answer_leaves_the_process_alive(models):
    with GuardedClassifier(models / "nan.tflite", ONE) as classifier:
        for _ in range(2):
            with pytest.raises(ModelFileError, match="must output finite numbers, got NaN"):
                classifier.outputs(pixels((0, 0, 0)))


def test_an_error_of_another_kind_keeps_its_kind(models):
    classifier = GuardedClassifier(models / "uint8.tflite", Setting(0, True))
    with pytest.raises(RecipeError, match="must be at least 1, got 0"), classifier:
        pass


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """A LiteRT that dies of every file, for processes that are started now."""
    stand_in = tmp_path / "deadly" / "ai_edge_litert"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "interpreter.py").write_text(DYING)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(stand_in.parent), os.environ.get("PYTHONPATH", "")]))


def test_a_file_that_ends_litert_is_one_line_and_exit_2(models, photos, deadly, capsys):
    file, red = str(models / "uint8.tflite"), str(photos / "red" / "plain.png")
    for command in (["predict", file, red], ["benchmark", "--model", file, "--data", str(photos)]):
        assert main_status(command) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err == (
            f"{file}: must run in LiteRT, got a process that was ended by SIGSEGV. "
            "The file may be damaged or need more memory.\n"
        )


def test_a_damaged_file_that_ends_litert_is_one_line_and_exit_2(models, photos, tmp_path, capsys):
    """The sums that an op writes are said to lie in the file, which is mapped for reading alone: LiteRT's verifier does
    not look, and the write is a SIGSEGV (LiteRT 2.3.0)."""

    def damage(stored):
        graph = stored.subgraphs[0]
        made = [index for op in graph.operators for index in op.outputs][1]
        graph.tensors[made].buffer = max(range(len(stored.buffers)), key=lambda i: len(filled(stored.buffers[i])))

    def filled(buffer):
        return [] if buffer.data is None else buffer.data

    file = str(changed(tmp_path / "damaged.tflite", (models / "full_int8.tflite").read_bytes(), damage))
    assert main_status(["inspect", file]) == 0, "nothing is wrong with its tables"
    capsys.readouterr()
    for command in (
        ["predict", file, str(photos / "red" / "plain.png")],
        ["benchmark", "--model", file, "--data", str(photos)],
    ):
        assert main_status(command) == 2
        output = capsys.readouterr()
        assert (
            output.out == ""
            and output.err.count("\n") == 1
            and output.err.startswith(f"{file}: must run in LiteRT, got ")
        )


def test_a_bug_in_the_process_keeps_its_traceback(models, tmp_path, monkeypatch):
    broken = "import kd2mobile.measure.litert.runtime as runtime\nruntime.read_metadata = lambda path: 1 / 0\n"
    (tmp_path / "sitecustomize.py").write_text(broken)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    classifier = GuardedClassifier(models / "uint8.tflite", ONE)
    message = "(?s)uint8.tflite ended with status 1:\nTraceback .*ZeroDivisionError"
    with pytest.raises(RuntimeError, match=message), classifier:
        pass


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd_open to wait with")
def test_no_process_outlives_its_parent(models):
    program = f"""
import os, signal
from pathlib import Path
from kd2mobile.measure.litert.guarded import GuardedClassifier
from kd2mobile.measure.protocol import Setting
classifier = GuardedClassifier(Path({str(models / "uint8.tflite")!r}), Setting(1, True)).__enter__()
print(classifier._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        child = int(parent.stdout.readline())
    assert parent.returncode == -signal.SIGKILL
    try:
        ends = os.pidfd_open(child)
    except ProcessLookupError:
        return
    try:
        assert select.select([ends], [], [], 60)[0], "it read the end of its input"
    finally:
        os.close(ends)


def test_an_image_of_another_folder_is_read_while_the_process_waits(models, tmp_path, capsys):
    file = image(tmp_path / "green.png", (0, 255, 0))
    assert main_status(["predict", str(models / "uint8.tflite"), str(file)]) == 0
    assert "%  1\n" in capsys.readouterr().out
