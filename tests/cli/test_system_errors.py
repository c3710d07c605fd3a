"""What the operating system says is a line and exit status 2, whatever it is; a bug keeps its traceback."""

import errno
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import kd2mobile
from kd2mobile.api import inspect as inspection
from kd2mobile.backend.child import Child
from kd2mobile.cli.commands import main_status
from kd2mobile.errors import ArtifactError, Kd2MobileError, OutOfMemoryError
from kd2mobile.files import disk_errors, replaced, system_errors
from kd2mobile.store.output_files import write_output


def raising(monkeypatch, fault):
    def inspect_file(path):
        raise fault

    monkeypatch.setattr(inspection, "inspect_file", inspect_file)


@pytest.mark.parametrize(
    "number", sorted(set(errno.errorcode) - {errno.EPIPE, errno.ESHUTDOWN}), ids=errno.errorcode.get
)
def test_every_error_of_the_system_is_a_line(number, monkeypatch, capsys):
    raising(monkeypatch, OSError(number, os.strerror(number), "some/file"))
    assert main_status(["inspect", "x"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and ": must " in said and os.strerror(number).lower() in said, said
    with pytest.raises(Kd2MobileError):
        kd2mobile.inspect("x")


def test_memory_that_runs_out_is_a_line(monkeypatch, capsys):
    with pytest.raises(MemoryError) as fault:
        np.empty((2**40, 2**10), np.uint8)
    for raised, got in ((fault.value, "got too little for 1.00 PiB"), (MemoryError(), "got too little")):
        raising(monkeypatch, raised)
        assert main_status(["inspect", "x"]) == 2
        smaller = "Use a smaller batch size or input_px, fewer threads or workers, or close other programs."
        assert capsys.readouterr().err == f"memory: must suffice for what was requested, {got}. {smaller}\n"
    with pytest.raises(OutOfMemoryError):
        kd2mobile.inspect("x")
    with pytest.raises(OutOfMemoryError, match=r"got too little for a tensor of shape \[9,9\]"), system_errors():
        raise type("ResourceExhaustedError", (Exception,), {})(
            "OOM when allocating tensor with shape[9,9] and type float"
        )


@pytest.mark.parametrize("fault", [ValueError("x"), OSError("no number: not the system's"), KeyError("x")])
def test_a_bug_keeps_its_traceback(fault, monkeypatch):
    raising(monkeypatch, fault)
    with pytest.raises(type(fault)):
        main_status(["inspect", "x"])
    with pytest.raises(type(fault)):
        kd2mobile.inspect("x")


def test_what_was_raised_on_purpose_stays_itself(monkeypatch):
    raising(monkeypatch, meant := OutOfMemoryError("x", "must be", None, "Do."))
    with pytest.raises(OutOfMemoryError) as raised:
        kd2mobile.inspect("x")
    assert raised.value is meant


def test_a_nul_in_a_path_of_python_is_a_line():
    for call in (kd2mobile.inspect, kd2mobile.check):
        with pytest.raises(Kd2MobileError, match="NUL"):
            call("a\0b")
    with pytest.raises(ArtifactError, match="a path: must have no NUL character in it"), system_errors():
        os.stat("a\0b")


@pytest.mark.skipif(sys.platform == "win32", reason="a shell that closes descriptors")
@pytest.mark.parametrize(("arguments", "status"), [("list losses", 0), ("inspect none", 2)])
def test_closed_streams_are_no_fault(arguments, status):
    command = f"{sys.executable} -m kd2mobile {arguments}"
    told = subprocess.run(["sh", "-c", f"{command} <&- >&-"], stderr=subprocess.PIPE, text=True)
    assert told.returncode == status and told.stderr.count("\n") == (1 if status else 0), told.stderr
    told = subprocess.run(["sh", "-c", f"{command} 2>&-"], stdout=subprocess.PIPE, text=True)
    assert told.returncode == status and bool(told.stdout) == (status == 0), "an error is not standard output"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux's device that is always full")
def test_a_full_output_is_named_and_no_store_is_advised(tmp_path):
    command = f"{sys.executable} -m kd2mobile list losses"
    told = subprocess.run(["sh", "-c", f"{command} > /dev/full"], stderr=subprocess.PIPE, text=True)
    room = "must have room to write, got no space left on device. Free some space or give another disk."
    assert (told.returncode, told.stderr) == (2, f"standard output: {room}\n")
    with pytest.raises(ArtifactError) as raised:
        write_output("/dev/full", "x")
    assert str(raised.value) == f"/dev/full: {room}"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EPERM])
def test_a_file_that_cannot_be_made_is_named_and_not_its_temporary(number, tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, *rest, **named):
        if ".tmp" in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return opened(path, *rest, **named)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ArtifactError) as raised, system_errors():
        write_output(tmp_path / "x.json", "x")
    said = str(raised.value)
    assert said.startswith(f"{tmp_path / 'x.json'}: must ") and "--store" not in said, said


def test_a_disk_that_fills_up_names_the_file_and_its_free_space(tmp_path):
    for number, store in ((errno.ENOSPC, False), (errno.EDQUOT, True)):
        with (
            pytest.raises(ArtifactError) as raised,
            disk_errors(tmp_path, store=store),
            replaced(tmp_path / "x.json"),
        ):
            raise OSError(number, os.strerror(number))
        said = str(raised.value)
        assert said.startswith(f"{tmp_path / 'x.json'}: must have room to write, got ")
        assert re.search(" [MGT]B free. ", said)
        assert ("--store" in said) == store


@pytest.mark.parametrize("kind", [ImportError, OSError])
def test_a_library_that_memory_does_not_suffice_for_is_a_line(kind, monkeypatch, capsys):
    raising(monkeypatch, kind("libtensorflow_cc.so.2: failed to map segment from shared object"))
    assert main_status(["inspect", "x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("memory: must suffice to load libtensorflow_cc.so.2, got too little. Close "), said
    assert said.count("\n") == 1


def test_a_process_that_memory_does_not_suffice_to_start_is_a_line():
    said = "ImportError('libx.so: failed to map segment from shared object')"
    for fault, error, words in (
        (said, OutOfMemoryError, "must suffice to load libx.so"),
        ("KeyError(1)", RuntimeError, "(?s)the export process ended with status 1:\nTraceback.*KeyError: 1"),
    ):
        child = Child(["-c", f"raise {fault}"], "the export process", ValueError)
        with pytest.raises(error, match=words), child:
            child.ask(None, int)
