"""Files measured behind a real sshd: the answers are those of this host, and nothing that was copied stays."""

import fcntl
import json
import os
import threading
import time

import numpy as np
import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.errors import DataError, DeviceError, ImageError
from kd2mobile.measure.files import FileToMeasure
from kd2mobile.measure.measured import measure_files
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.ssh import board as board_module
from kd2mobile.measure.ssh import connection, measure
from kd2mobile.measure.ssh.connection import OPTIONS, Connection
from tests.tiny_models import is_explained

from ..conftest import image

UNTIMED = Protocol(runs=0)
ATTEMPTS = 20
"""Some of them may still ask a connection that is about to notice that it was cut."""
SEEN = [(0, 0, 255), (0, 255, 0), (40, 90, 10), (255, 0, 0), (0, 250, 0)]
LABELS = np.array([0, 1, 1, 2, 2])


@pytest.fixture
def images(tmp_path):
    return [image(tmp_path / "seen" / f"{index}.png", colour) for index, colour in enumerate([*SEEN, SEEN[0]])]


@pytest.fixture
def at_once(monkeypatch):
    """No waiting for a connection or for another measurement. What is waited for instead: at_once.append(function)."""
    instead = []
    monkeypatch.setattr(board_module, "WAITS_S", (0.0,) * ATTEMPTS)
    monkeypatch.setattr(time, "sleep", lambda seconds: instead.pop(0)() if instead else None)
    return instead


@pytest.fixture
def held(monkeypatch):
    """An event: until it is set, no more than two files are sent."""
    event, sent = threading.Event(), board_module._as_sent

    def some(files, names):
        for number, name in enumerate(names):
            if number == 2:
                event.wait()
            yield from sent(files, [name])

    monkeypatch.setattr(board_module, "_as_sent", some)
    return event


@pytest.fixture
def on_message(monkeypatch):
    """on_message("put", 1, function): it is called at the first message that a call of the verb answers with."""
    calls, acts, answers = [], {}, Connection._answers

    def watched(self, command, arguments, payload, to):
        calls.append((command, arguments))
        for number, message in enumerate(answers(self, command, arguments, payload, to), 1):
            if act := acts.pop((command, number), None):
                act()
            yield message

    def on(command, number, act):
        acts[command, number] = act

    monkeypatch.setattr(Connection, "_answers", watched)
    on.calls = lambda command: [arguments for one, arguments in calls if one == command]
    return on


@pytest.fixture
def held_there(board, monkeypatch):
    """The board, where a measurement stands still at its start until `let_go`; who follows it says so all the time."""
    monkeypatch.setattr(connection, "SOURCE", connection.SOURCE.replace(b"BEAT_S = 5.0", b"BEAT_S = 0.0"))
    board.hold()
    return board


def test_a_file_is_measured_on_the_board(board, own, photos, tmp_path, capsys):
    out = tmp_path / "out.json"
    command = ["benchmark", "--model", str(own("uint8")), "--data", str(photos), f"--json={out}", "--threads", "1,2"]
    there = ["--device", board.device, "--ssh-config", str(board.config)]
    assert main_status([*command, *there]) == 0, capsys.readouterr().err
    first, second = json.loads(out.read_text())
    assert main_status(command) == 0
    host, _ = json.loads(out.read_text())
    assert first["device"] == host["device"].replace("host:", "ssh:")
    for field in ("sha256", "size_bytes", "runtime", "decoder", "rule", "xnnpack"):
        assert first[field] == second[field] == host[field], field
    for field in ("n", "top1", "top5", "logloss", "ece"):
        assert first[field] == host[field] and not second[field], field
    assert is_explained(first) and is_explained(second)
    assert [first["threads"], second["threads"]] == [1, 2] and first["latency_ms"]["n"] >= 100
    assert first["conditions"]["before"]["load"] is not None and first["affinity"] and first["peak_rss_mib"] > 10
    assert board.kept == []


def test_the_answers_are_those_of_this_host(board, models, images):
    images.insert(1, images[0].with_name("broken.png"))
    images[1].write_bytes(b"no image")
    labels = np.array([0, 0, *LABELS[1:], 0])
    files = [
        FileToMeasure(path=models / "full_uint8.tflite", role="baseline", model="other", resize="stretch"),
        FileToMeasure(path=models / "float.tflite", role="external", mean=127.5, std=[127.5, 127.5, 127.5]),
    ]
    how = {"protocol": UNTIMED, "teacher_top1": labels, "skip_unreadable": True}
    there, here = board.measured(files, images, labels, **how), measure_files(files, images, labels, **how)
    for one, other in zip(there, here, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
        assert one.evaluated.tolist() == other.evaluated.tolist() == [0, 2, 3, 4, 5, 6]
        assert one.skipped == other.skipped and one.skipped[0][0] == images[1]
        assert one.notes == other.notes and one.record.model == other.record.model
        assert one.record.device.startswith("ssh: ") and one.record.unknown["latency_ms"] == "not requested"
    assert board.kept == []


def test_an_unreadable_image_is_reported_by_its_local_path(board, own, images):
    images[2].write_bytes(b"no image")
    with pytest.raises(ImageError) as there:
        board.measured([FileToMeasure(path=own("uint8"))], images, np.zeros(6, int), protocol=UNTIMED)
    with pytest.raises(ImageError) as here:
        measure_files([FileToMeasure(path=own("uint8"))], images, np.zeros(6, int), protocol=UNTIMED)
    assert str(there.value) == str(here.value) and board.kept == []


def test_an_image_that_no_longer_exists(board, own, images):
    images[2].unlink()
    measured_files = [FileToMeasure(path=own("uint8"))], images, np.zeros(6, int)
    with pytest.raises(ImageError, match=r"2\.png: must be there, got no such file or directory"):
        board.measured(*measured_files, protocol=UNTIMED)
    images[1].write_bytes(b"no image")
    (measured,) = board.measured(*measured_files, protocol=UNTIMED, skip_unreadable=True)
    assert measured.evaluated.tolist() == [0, 3, 4, 5] and [path for path, _ in measured.skipped] == images[1:3]
    for path in images:
        path.unlink(missing_ok=True)
    with pytest.raises(DataError, match=r"0\.png: must hold at least one readable image, got 6 unreadable"):
        board.measured(*measured_files, protocol=UNTIMED, skip_unreadable=True)


def test_cores_are_those_of_the_board(board, own, images):
    with pytest.raises(DeviceError, match=r"benchmark.cores: must be among the cores .*, got 4096\. Leave --cores"):
        board.measured([FileToMeasure(path=own("uint8"))], images, np.zeros(6, int), protocol=Protocol(cores=(4096,)))


def test_a_truncated_file_is_refused_before_the_board_is_contacted(own, photos, tmp_path, capsys):
    path = own("uint8")
    path.write_bytes(path.read_bytes()[:200])
    command = ["benchmark", "--model", str(path), "--data", str(photos), "--device", "ssh:nobody@host.invalid"]
    assert main_status(command) == 2
    assert "must be a complete TensorFlow Lite model" in capsys.readouterr().err


def test_a_cut_connection_while_files_are_copied(board, server, own, images, at_once, on_message, held, capsys):
    on_message("put", 2, lambda: (server.cut(), held.set()))
    (measured,) = board.measured([FileToMeasure(path=own("uint8"))], images, np.zeros(6, int), protocol=UNTIMED)
    first, later = [arguments["count"] for arguments in on_message.calls("put")]
    assert (first, later) == (7, 5), "core, file, five different images; what had arrived not again"
    assert len(measured.evaluated) == 6 and "the connection ended (" in capsys.readouterr().err
    assert board.kept == []


def test_a_connection_that_stays_cut(board, server, own, images, at_once, on_message, held, monkeypatch):
    def away():
        monkeypatch.setitem(OPTIONS, "Port", "1")
        server.cut()
        held.set()

    on_message("put", 2, away)
    file = [FileToMeasure(path=own("uint8"))]
    with pytest.raises(DeviceError) as lost:
        board.measured(file, images, np.zeros(6, int), protocol=UNTIMED)
    assert str(lost.value) == (
        f"{board.device}: must stay connected, and did not come back in {ATTEMPTS} attempts, got ssh: connect to host "
        "127.0.0.1 port 1: Connection refused. The copied files are kept: run the same command to resume."
    )
    assert len([name for name in board.kept if "/." not in name]) == 2
    OPTIONS.pop("Port")
    board.measured(file, images, np.zeros(6, int), protocol=UNTIMED)
    assert on_message.calls("put")[-1]["count"] == 5


def test_a_board_that_goes_before_it_is_cleaned(board, server, own, images, at_once, monkeypatch, capsys):
    ask, file = board_module.Board._ask, [FileToMeasure(path=own("uint8"))]

    def away(self, command, **arguments):
        if command == "clean":
            monkeypatch.setitem(OPTIONS, "Port", "1")
            server.cut()
        return ask(self, command, **arguments)

    with monkeypatch.context() as only_here:
        only_here.setattr(board_module.Board, "_ask", away)
        (measured,) = board.measured(file, images, np.zeros(6, int), protocol=UNTIMED)
    assert len(measured.evaluated) == 6, "what it answered is not lost"
    assert "the copied files stay there, in ~/.cache/kd2mobile (ssh: connect to host" in capsys.readouterr().err
    OPTIONS.pop("Port")
    (job,) = (board.home / ".cache" / "kd2mobile" / "jobs").iterdir()
    os.utime(job, (0, 0))
    board.measured(file, images, np.zeros(6, int), protocol=UNTIMED)
    assert board.kept == [], "what was left long ago is removed too"


def test_a_cut_connection_while_it_measures(held_there, server, own, images, at_once, on_message, capsys):
    def cut():
        on_message("follow", 1, held_there.let_go)
        server.cut()

    on_message("follow", 1, cut)
    on_message("clean", 1, server.cut)
    file, labels = [FileToMeasure(path=own("uint8"))], np.zeros(6, int)
    (measured,) = held_there.measured(file, images, labels, protocol=UNTIMED)
    assert len(on_message.calls("start")) == 1 and len(on_message.calls("follow")) >= 2, "it went on"
    assert len(measured.evaluated) == 6
    assert "the connection ended (" in capsys.readouterr().err


def test_a_measurement_that_is_ended_there_is_begun_again(held_there, own, images, on_message, capsys):
    on_message("follow", 1, held_there.end_measurement)
    file, labels = [FileToMeasure(path=own("uint8"))], np.zeros(6, int)
    (measured,) = held_there.measured(file, images, labels, protocol=UNTIMED)
    assert len(on_message.calls("start")) == 2 and len(measured.evaluated) == 6
    assert "the measurement was stopped there; starting it again" in capsys.readouterr().err


def test_a_measurement_that_always_ends_is_given_up(held_there, own, images, on_message, monkeypatch):
    monkeypatch.setattr(measure, "MOST_DEATHS", 0)
    on_message("follow", 1, held_there.end_measurement)
    with pytest.raises(DeviceError, match="must let a measurement run to its end, got no message. It may have run out"):
        held_there.measured([FileToMeasure(path=own("uint8"))], images, np.zeros(6, int), protocol=UNTIMED)
    assert held_there.kept == []


def test_ctrl_c_ends_the_measurement_there(held_there, own, images, on_message, capsys):
    def interrupt():
        raise KeyboardInterrupt

    board, file, labels = held_there, [FileToMeasure(path=own("uint8"))], np.zeros(6, int)
    on_message("follow", 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        board.measured(file, images, labels, protocol=UNTIMED)
    assert ": the copied files stay there for the next measurement, in ~/.cache/kd2mobile\n" in capsys.readouterr().err
    with open(board.lock) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert len(board.kept) == 7 and all(name.startswith("files/") for name in board.kept)
    on_message("follow", 1, board.let_go)
    board.measured(file, images, labels, protocol=UNTIMED)
    assert board.kept == [] and len(on_message.calls("put")) == 1, "what was copied had stayed"


def test_what_another_measurement_may_need_stays(board, own, images, on_message, capsys):
    """It began as soon as this one had ended."""
    with open(board.home / "lock of the other", "w") as lock:

        def begins():
            os.rename(lock.name, board.lock)
            fcntl.flock(lock, fcntl.LOCK_EX)

        on_message("fetch", 1, begins)
        board.measured([FileToMeasure(path=own("uint8"))], images, np.zeros(6, int), protocol=UNTIMED)
    assert (
        "another measurement is running there, so the copied files stay in ~/.cache/kd2mobile"
        in capsys.readouterr().err
    )
    assert len(board.kept) == 7 and all(name.startswith("files/") for name in board.kept)


def test_it_waits_for_another_measurement(board, own, images, at_once, on_message, capsys):
    board.lock.touch()
    with open(board.lock) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        at_once += [lambda: None, lock.close]
        board.measured([FileToMeasure(path=own("uint8"))], images, np.zeros(6, int), protocol=UNTIMED)
    assert len(on_message.calls("start")) == 3
    assert capsys.readouterr().err.count("another measurement is running there; waiting for its end") == 1


def test_copied_files_stay_on_request(board, own, images, on_message):
    file, labels = [FileToMeasure(path=own("uint8"))], np.zeros(6, int)
    board.measured(file, images, labels, protocol=UNTIMED, keep="all")
    assert len(board.kept) == 7 and all(name.startswith("files/") for name in board.kept)
    board.measured(file, images, labels, protocol=UNTIMED)
    assert board.kept == [] and len(on_message.calls("put")) == 1


def test_a_file_that_changes_while_it_is_copied(board, own, images, monkeypatch):
    sent = board_module._as_sent

    def writing(files, names):
        images[3].write_bytes(b"another")
        return sent(files, names)

    monkeypatch.setattr(board_module, "_as_sent", writing)
    with pytest.raises(DataError, match=r"3\.png: must not change while it is copied, got another content\. Run"):
        board.measured([FileToMeasure(path=own("uint8"))], images, np.zeros(6, int), protocol=UNTIMED)
    assert board.kept == []
