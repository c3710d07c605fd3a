"""What a board may tell, and that anything else is one line: no board is asked here."""

import json
import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kd2mobile.errors import DeviceError, Kd2MobileError
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.ssh import measure
from kd2mobile.measure.ssh.connection import Connection
from kd2mobile.measure.ssh.measure_on_board import FileThere, Request
from kd2mobile.measure.ssh.messages import ANSWERS, read_message, read_shown
from kd2mobile.progress import Say

ABOUT = {
    "kind": "about",
    "python": "/usr/bin/python3",
    "version": [3, 11, 2],
    "system": "Linux",
    "machine": "aarch64",
    "bits": 64,
    "glibc": "2.36",
    "musl": False,
    "has_venv": True,
    "free_bytes": 10**10,
}
REQUEST = Request([FileThere("ab" * 32, "crop", None, None)], ["1", "2", "3"], Protocol(), False)
ANSWER = {"words": "host: a board", "profiles": [[{"runtime": "LiteRT", "init_ms": 1.0}]], "evaluated": [0, 2]}
ANSWER |= {"skipped": [[1, "no image"]]}


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        ("about", "no json", "pi@board: must be JSON in UTF-8"),
        ("about", "[]", "must be an object, got a list of 0"),
        ("about", "{}", "pi@board: kind: must be there"),
        ("about", '{"kind": "beat"}', "must respond to `about` as kd2mobile's program does, got `beat`"),
        ("about", json.dumps(ABOUT | {"free_bytes": -1}), "free_bytes: must be a whole number, at least 0, got -1"),
        ("about", json.dumps(ABOUT | {"version": [3, 11]}), "version: must be a list of length 3, got a list of 2"),
        ("missing", '{"kind": "missing", "names": "all"}', 'names: must be a list, got "all"'),
        ("clean", '{"kind": "cleaned"}', "pi@board: all: must be there"),
        (
            "follow",
            '{"kind": "shown", "line": "", "offset": 1e999}',
            "with finite numbers, got a number that is too large",
        ),
        ("fetch", '{"kind": "file", "size": 9007199254740993, "sha256": ""}', "size: must be a whole number, at most"),
        ("start", "[" * 100_000, "must be nested at most 64 levels deep, got more"),
        ("put", '{"kind": "nonsense"}', "must be one of the values that are known"),
    ],
)
def test_an_answer_that_is_none_is_one_line(command, line, message):
    with pytest.raises(DeviceError) as refused:
        read_message(line.encode(), command, "pi@board")
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_message_is_its_fields():
    assert read_message(json.dumps(ABOUT).encode(), "about", "b") == ABOUT | {"version": (3, 11, 2)}
    assert set(ANSWERS) == {"about", "missing", "put", "install", "start", "follow", "fetch", "stop", "clean"}


def test_what_is_shown_moves_no_cursor():
    assert read_shown('{"kind": "say", "line": "\\u001b[2J"}', "b") == Say("\\x1b[2J")
    with pytest.raises(DeviceError, match="total: must be a whole number, at least 0"):
        read_shown('{"kind": "stage", "label": "x", "total": -5, "unit": "files"}', "pi@board")


def fetched(tmp_path, content):
    """What `_fetched` and `_outputs` make of a file that the board sends."""
    board = SimpleNamespace(address="pi@board", fetch=lambda job, file, most: file.write_bytes(content))
    return board, "job", tmp_path


def changed(**fields):
    return json.dumps(ANSWER | fields).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON in UTF-8, with finite numbers, got an empty file"),
        (b'"x"', 'must be an object, got "x"'),
        (changed(profiles=[]), "must answer 1 times for each of 1 file, got []"),
        (changed(profiles=[[{"init_ms": -3}]]), "profiles[0][0].init_ms: must be a number, at least 0"),
        (changed(profiles=[[{"latency_ms": {"p50": "fast"}}]]), 'latency_ms.p50: must be a number or null, got "fast"'),
        (changed(evaluated=[0, 7]), "must evaluate each image once, or give the reason why not"),
        (changed(evaluated=[2, 0]), "must evaluate each image once, or give the reason why not"),
        (changed(evaluated=[0, 1, 2]), "must evaluate each image once, or give the reason why not"),
        (changed(evaluated=[], skipped=[[0, ""], [1, ""], [2, ""]]), "must evaluate each image once"),
        (changed(evaluated=[0, -2]), "evaluated[1]: must be a whole number, at least 0, got -2"),
        (changed(refusal={"error": "DataError"}), "refusal.where: must be there"),
    ],
)
def test_a_boards_answer_is_one_to_the_request(tmp_path, content, message):
    with pytest.raises(DeviceError) as refused:
        measure._fetched(*fetched(tmp_path, content), REQUEST)
    assert str(refused.value).startswith("pi@board") and message in str(refused.value)


def test_a_right_answer_and_a_refusal_of_an_unknown_class(tmp_path):
    answer = measure._fetched(*fetched(tmp_path, changed()), REQUEST)
    assert answer.evaluated == [0, 2] and answer.profiles[0][0].init_ms == 1.0
    parts = {"where": "x", "must": "must be", "got": None, "next_step": "Do."}
    for name in ("Path", "print", "Nonsense", "DataError"):
        answer = measure._fetched(*fetched(tmp_path, changed(refusal=parts | {"error": name})), REQUEST)
        assert isinstance(measure._as_raised(answer.refusal, {}), Kd2MobileError)


def test_any_change_of_an_answer_is_an_answer_or_one_line(tmp_path):
    draw, whole, taken = random.Random(13), changed(), 0
    for _ in range(1500):
        bad = bytearray(whole)
        for _ in range(draw.choice((1, 1, 4))):
            index = draw.randrange(len(bad))
            bad[index : index + draw.randrange(3)] = draw.choice(
                (b"", b"9", b'"', b"[", b"}", b"\xff", b"1e9", b"null", b"-")
            )
        try:
            measure._fetched(*fetched(tmp_path, bytes(bad)), REQUEST)
            taken += 1
        except DeviceError as fault:
            assert "\n" not in str(fault)
    assert 0 < taken < 1500


def header(shape, kind="<f4"):
    return (
        b"\x93NUMPY\x01\x00v\x00"
        + f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode()
        + b"\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        header((10**12, 10**6)),
        header((2, 3)),
        header((2, 3), "|O"),
        header((2, 3), "<i4") + bytes(24),
    ],
)
def test_outputs_of_absurd_shapes_are_refused_before_they_take_memory(tmp_path, content):
    with pytest.raises(DeviceError, match="pi@board: must return outputs for every image, got"):
        measure._outputs(*fetched(tmp_path, content), 0, (2, 3))


def test_outputs_are_float32(tmp_path):
    outputs = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", outputs)
    content = (tmp_path / "x.npy").read_bytes()
    assert (measure._outputs(*fetched(tmp_path, content), 0, (2, 3)) == outputs).all()


def test_a_command_with_one_answer_has_exactly_one():
    connection = Connection.__new__(Connection)
    connection.address = "pi@board"
    for messages in ([], [{}, {}]):
        with pytest.raises(DeviceError, match=f"must answer `about` with one message, got {len(messages)}"):
            connection.only("about", messages)


def test_every_message_of_the_program_on_the_board_has_a_type():
    """Each `send("kind", ...)` of board_program.py is a type here."""
    source = (Path(measure.__file__).parent / "board_program.py").read_text("utf-8")
    kinds = set(re.findall(r'\bsend\(\s*"(\w+)"', source))
    known = {kind.__struct_config__.tag for types in ANSWERS.values() for kind in types} | {"refused", "end"}
    assert "about" in kinds and kinds <= known
