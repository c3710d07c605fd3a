"""The program that runs on a board, here in this process: what holds the lock, and what may be removed when."""

import fcntl
import os
from contextlib import contextmanager

import pytest

from kd2mobile.measure.ssh import board_program


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder where all lies on a board, with `job` in it, which has answered."""
    for name in ("files", "environments", "jobs"):
        monkeypatch.setattr(board_program, name.upper(), str(tmp_path / name))
        (tmp_path / name).mkdir()
    monkeypatch.setattr(board_program, "HOME", str(tmp_path))
    monkeypatch.setattr(board_program, "LOCK", str(tmp_path / "measuring.lock"))
    (tmp_path / "jobs" / "job").mkdir()
    (tmp_path / "jobs" / "job" / "answer.json").write_text("{}")
    return tmp_path


@pytest.fixture
def sent(monkeypatch):
    """What it says to the other end: (kind, content)."""
    messages = []
    monkeypatch.setattr(board_program, "send", lambda kind, **content: messages.append((kind, content)))
    return messages


@contextmanager
def locked(home, holder, how=fcntl.LOCK_EX):
    """Yields the lock, held as by another process. holder: the measurement that has it."""
    (home / "measuring.lock").write_text(holder)
    with open(home / "measuring.lock") as lock:
        fcntl.flock(lock, how)
        yield lock


def test_a_measurement_ends_when_its_process_does_and_not_when_it_has_answered(home, sent, monkeypatch):
    with locked(home, "job") as lock:
        monkeypatch.setattr(
            board_program.time, "sleep", lambda seconds: (sent.append(("looked again", {})), lock.close())
        )
        board_program.follow("job", 0)
    assert sent == [("looked again", {}), ("ended", {})]


def test_one_without_an_answer_has_died(home, sent):
    (home / "jobs" / "job" / "answer.json").unlink()
    (home / "jobs" / "job" / "log").write_text("Killed")
    board_program.follow("job", 0)
    assert sent == [("died", {"log": "Killed"})]


def test_a_look_at_a_measurement_does_not_keep_another_process_from_the_lock(home, sent, monkeypatch):
    """The follower of a connection that was cut may look at any time."""
    take = board_program._takes
    with locked(home, "job", fcntl.LOCK_SH) as look:

        def looked(lock, how):
            taken = take(lock, how)
            if how == fcntl.LOCK_SH:
                look.close()
            return taken

        monkeypatch.setattr(board_program, "_takes", looked)
        monkeypatch.setattr(board_program, "_end", lambda job: None)
        (home / "files" / "model").touch()
        board_program.clean("job", ["model"], None)
    assert sent == [("cleaned", {"all": True})] and not (home / "files" / "model").exists()


def test_what_was_left_long_ago_is_removed_and_what_is_new_stays(home, sent):
    for name in ("files/.old.1", "files/.new.2", "files/old", "jobs/old", "jobs/new"):
        (home / name).touch()
        if "old" in name:
            os.utime(home / name, (0, 0))
    board_program.clean("job", [], None)
    left = sorted(path.relative_to(home).as_posix() for path in home.glob("*/*"))
    assert left == ["files/.new.2", "files/old", "jobs/new"], "what is whole stays, however old"


def test_a_file_that_is_whole_before_it_is_looked_at(home, sent, monkeypatch):
    monkeypatch.setattr(board_program.os, "listdir", lambda folder: [".renamed.1"])
    board_program.clean("job", [], None)
    assert sent == [("cleaned", {"all": True})]


def test_nothing_is_removed_while_another_measurement_runs(home, sent):
    (home / "files" / "model").touch()
    with locked(home, "other"):
        board_program.clean("job", ["model"], "environment")
    assert sent == [("cleaned", {"all": False})] and (home / "files" / "model").exists()


def test_all_goes_with_the_environment(home, sent):
    (home / "environments" / "0123").mkdir()
    board_program.clean("job", [], "0123")
    assert sent == [("cleaned", {"all": True})] and not home.exists()


def test_a_measurement_that_runs_is_ended_before_it_is_removed(home, sent, monkeypatch):
    (home / "jobs" / "job" / "process").write_text("12345")
    with locked(home, "job") as lock:
        monkeypatch.setattr(board_program.os, "killpg", lambda group, signal: sent.append((group, signal.name)))
        monkeypatch.setattr(board_program.time, "sleep", lambda seconds: lock.close())
        board_program.stop("job")
    assert sent == [(12345, "SIGKILL"), ("stopped", {})] and not (home / "jobs" / "job").exists()
