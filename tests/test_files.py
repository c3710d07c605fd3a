"""What comes from outside is read or refused in one line, and what is written is whole or not there."""

import errno
import json
import os
import re
import stat
import subprocess
import sys
import threading
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from kd2mobile import files
from kd2mobile.errors import ArtifactError, Kd2MobileError, ModelFileError, RecordError
from kd2mobile.files import (
    convert_json,
    copy_file,
    decode_json,
    disk_errors,
    inside,
    locked,
    os_error,
    read_json,
    remove_temporaries,
    replaced,
    write_bytes,
    write_json,
    write_npy,
    write_text,
)

AGAIN = "Copy it again."


class Inner(msgspec.Struct):
    top1: float
    sizes: dict[str, list[Annotated[int, msgspec.Meta(ge=0, le=100)]]] = {}


class Outer(msgspec.Struct):
    stage: Literal["student", "teacher"]
    results: Inner
    names: Annotated[list[str], msgspec.Meta(max_length=2)] = []
    any: Any = None


def said(data, type=Outer):
    with pytest.raises(RecordError) as raised:
        decode_json(data, type, "record.json", AGAIN)
    return str(raised.value).removesuffix(f" {AGAIN}")


WHOLE = {"stage": "student", "results": {"top1": 0.5, "sizes": {"a": [1], "b": [2, 3]}}}


@pytest.mark.parametrize(
    "data, message",
    [
        (WHOLE | {"results": {"top1": "x"}}, 'record.json: results.top1: must be a number, got "x".'),
        (WHOLE | {"results": {}}, "record.json: results.top1: must be there."),
        (WHOLE | {"results": []}, "record.json: results: must be an object, got a list of 0."),
        (WHOLE | {"results": {"top1": {"a": 1}}}, "record.json: results.top1: must be a number, got an object."),
        (
            WHOLE | {"results": {"top1": 1, "sizes": {"a": [1], "b.c": [2], "d": [3, 101], "e": [4]}}},
            "record.json: results.sizes.d[1]: must be a whole number, at most 100, got 101.",
        ),
        (
            WHOLE | {"results": {"top1": 1, "sizes": {"a": [1], "b": ["x" * 100]}}},
            f'record.json: results.sizes.b[0]: must be a whole number, got "{"x" * 59}....',
        ),
        (WHOLE | {"stage": "split"}, 'record.json: stage: must be one of the values that are known, got "split".'),
        (WHOLE | {"stage": None}, "record.json: stage: must be text, got null."),
        (
            WHOLE | {"names": ["a", "b", "c"]},
            "record.json: names: must be a list of length at most 2, got a list of 3.",
        ),
        ([], "record.json: must be an object, got a list of 0."),
    ],
)
def test_json_of_another_shape_is_told_by_the_path_of_its_field_and_in_plain_words(data, message):
    assert said(json.dumps(data).encode()) == message
    with pytest.raises(RecordError) as raised:
        convert_json(data, Outer, "record.json", AGAIN)
    assert str(raised.value) == f"{message} {AGAIN}"


@pytest.mark.parametrize(
    "data, got",
    [
        (b"", "an empty file"),
        ("", "nothing"),
        (b'{"stage": "student"', "one that ends too early"),
        (b'{"stage": "stud\xff"}', "bytes that are not UTF-8"),
        (b"\xff", "bytes that are not UTF-8"),
        (b"[NaN]", "something else from byte 1 on"),
        (b"[-Infinity]", "something else from byte 2 on"),
        (b"hello", "something else from byte 0 on"),
    ],
)
def test_what_is_no_json_is_told_so(data, got):
    assert said(data, Any if isinstance(data, str) or data[:1] != b"{" else Outer) == (
        f"record.json: must be JSON in UTF-8, with finite numbers, got {got}."
    )


@pytest.mark.parametrize("levels", [65, 900, 5_000, 200_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_json_nested_too_deep_is_refused(levels, pair):
    deep = (pair[:-1] * levels + "0" + pair[-1] * levels).encode()
    assert said(deep, Any) == "record.json: must be nested at most 64 levels deep, got more."
    assert "must be nested at most 64 levels deep" in said(
        b'{"stage": "student", "results": {"top1": 1}, "any":%b}' % deep
    )


def test_nesting_within_the_bound_is_read_whatever_its_texts_hold():
    text = '[{"a": "[[{{\\"[[\\\\"}, ' * 31 + "0" + "]" * 31
    assert decode_json(text, Any, "x", AGAIN) == json.loads(text)
    assert len(decode_json("[" + "[[0]]," * 1000 + "0]", Any, "x", AGAIN)) == 1001


@pytest.mark.parametrize("number", ["1e999", "-1e999", "1" * 5000])
def test_a_number_that_no_computer_holds_is_refused(number):
    assert "record.json" in said(f'{{"stage": "student", "results": {{"top1": {number}}}}}'.encode())
    assert "record.json" in said(number, Any)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda one: st.lists(one) | st.dictionaries(st.sampled_from(["stage", "results", "top1", "sizes", "a"]), one),
)


@settings(max_examples=300)
@given(JSON | st.fixed_dictionaries({"stage": JSON, "results": JSON}), st.data())
def test_whatever_comes_is_a_value_or_one_line(value, data):
    text = json.dumps(value).encode()
    cut = data.draw(st.integers(0, len(text)))
    for sent in (text, text[:cut], text[:cut] + b"\xfe" + text[cut:]):
        try:
            assert isinstance(decode_json(sent, Outer, "record.json", AGAIN), Outer)
        except Kd2MobileError as error:
            assert str(error).startswith("record.json: ") and "$" not in error.must and "`" not in error.must


def test_a_file_is_looked_at_before_it_is_read(tmp_path):
    file = tmp_path / "record.json"
    with open(file, "wb") as made:
        made.truncate(10_000_000_000)  # takes no room
    for path, got in [
        (file, "must be at most 256,000,000 bytes, got 10,000,000,000 bytes"),
        (tmp_path, "must be a file, got a folder"),
        (tmp_path / "none", "must be a readable file, got no such file or directory"),
        (tmp_path / "a\0b", "must be a path, got a NUL character in it"),
        (tmp_path / ("x" * 300), "must be a readable file, got file name too long"),
    ]:
        with pytest.raises(ModelFileError) as raised:
            read_json(path, Outer, AGAIN, error=ModelFileError)
        assert got in str(raised.value)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordError, match="must be a file, got a pipe"):
        read_json(tmp_path / "pipe", Outer, AGAIN)
    write_json(file, WHOLE)
    assert read_json(file, Outer, AGAIN).results.sizes == {"a": [1], "b": [2, 3]}


@pytest.mark.parametrize("name", ["a", "a/b.tflite", "ä b/c", "...", "a..b", "-x"])
def test_a_plain_name_stays_inside_its_folder(tmp_path, name):
    assert inside(tmp_path, name, "record.json, files") == tmp_path / name


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/../../b", "/etc/passwd", "a//b", "a/", "./a", "a\0b", "a/./b", "x" * 256, "\ud800"],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(ArtifactError, match="must be the name of a file inside its folder, got"):
        inside(tmp_path, name, "record.json, files")


def test_a_link_on_the_way_is_refused_and_the_folder_itself_may_be_one(tmp_path):
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "folder" / "file").symlink_to("/etc/passwd")
    assert inside(tmp_path / "link", "sub/a", "x") == tmp_path / "link" / "sub" / "a"
    for name in ("link/sub/a", "folder/file"):
        with pytest.raises(ArtifactError, match="must be a file inside its folder, not a link, got the link"):
            inside(tmp_path, name, "x")
        assert inside(tmp_path, name, "x", links=True) == tmp_path / name


def left_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_in_one_step_with_the_bits_of_a_new_file(tmp_path):
    file = tmp_path / f"{'ä' * 120}.json"
    file.write_text("old")
    (tmp_path / "plain").touch()
    with open(file) as opened:
        assert write_json(file, {"a": "ä"})
        assert file.read_text("utf-8") == '{\n "a": "ä"\n}\n' and opened.read() == "old"
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert left_in(tmp_path) == ["plain", file.name]


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    file = tmp_path / "a.keras"
    write_text(file, "old")
    for fault in (KeyboardInterrupt, ValueError, OSError):
        with pytest.raises(fault), replaced(file) as temporary:
            assert temporary.parent == tmp_path and temporary.suffix == ".keras"
            temporary.write_bytes(b"half")
            raise fault
    with pytest.raises(ValueError):
        write_json(file, float("nan"))
    assert file.read_text() == "old" and left_in(tmp_path) == ["a.keras"]


def test_what_a_kill_left_is_known_by_its_name(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("a.npy", "sub/b", "x.tar.gz"):
        with replaced(tmp_path / name) as temporary:
            left = temporary.with_name(temporary.name)
            os.link(temporary, tmp_path / "kept")
        (tmp_path / "kept").rename(left)
    for name in (".a.tmp", "a.0123abcd.tmp", ".lock"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path)
    assert left_in(tmp_path) == [".a.tmp", ".lock", "a.0123abcd.tmp", "a.npy", "sub", "x.tar.gz"]
    assert left_in(tmp_path / "sub") == ["b"]


def test_equal_bytes_are_not_written_again(tmp_path):
    file, other = tmp_path / "a", tmp_path / "b"
    assert write_bytes(file, b"1") and not write_bytes(file, b"1", unless_same=True)
    assert write_bytes(file, b"2", unless_same=True)
    assert copy_file(file, other) and not copy_file(file, other)
    write_bytes(file, b"3")
    kept = other.stat().st_ino
    assert copy_file(file, other) and other.read_bytes() == b"3" and other.stat().st_ino != kept


def test_a_link_is_replaced_and_not_followed_and_no_folder_or_device_is(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "link").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ArtifactError, match="must be a file, or nothing yet, got a (folder|device or a pipe)"):
            write_text(path, "x")


def test_one_at_a_time_holds_what_is_locked(tmp_path):
    file = tmp_path / "counted"
    file.write_text("0")

    def count():
        for _ in range(20):
            with locked(file):
                write_text(file, str(int(file.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() == "80"


def test_a_lock_that_is_a_link_does_not_empty_what_it_links_to(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".run.json.lock").symlink_to("mine")
    said = r"\.run\.json\.lock: must be a lock of kd2mobile, got a link\. Remove"
    with pytest.raises(ArtifactError, match=said), locked(tmp_path / "run.json"):
        pass
    assert (tmp_path / "mine").read_text() == "mine"


TOLD = """ELOOP ENAMETOOLONG EFBIG EPERM EIO EMFILE ENFILE ESTALE ENOSPC EDQUOT EROFS ENOTDIR EEXIST EACCES EISDIR
ENOTEMPTY ENOMEM EBUSY ETXTBSY ENXIO ENODEV ENOLCK"""


@pytest.mark.parametrize("name", TOLD.split())
def test_what_the_system_says_is_one_line(tmp_path, name):
    number = getattr(errno, name)
    with pytest.raises(ArtifactError) as raised, disk_errors(tmp_path):
        raise OSError(number, "whatever", str(tmp_path / "x"))
    said = os.strerror(number).lower()
    assert str(raised.value).startswith(f"{tmp_path}") and f", got {said}" in str(raised.value)
    assert str(os_error(OSError(number, "whatever"), "there")).startswith("there: must ")


def test_a_missing_file_of_ours_stays_a_bug_where_we_write(tmp_path):
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "none").read_text()
    assert "must be there, got no such file or directory" in str(os_error(OSError(errno.ENOENT, "", "/x")))
    assert str(os_error(OSError(errno.EPROTO, "", b"/x"))).startswith("/x: must be usable, got protocol error")


def test_a_disk_without_inodes_is_told_apart_from_a_full_one(tmp_path, monkeypatch):
    class About:
        f_favail, f_files, f_bavail = 0, 1000, 5

    fault = OSError(errno.ENOSPC, "")
    assert "must have room to write, got no space left on device, " in str(os_error(fault, tmp_path))
    monkeypatch.setattr(files.os, "statvfs", lambda path: About)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 52_000_000}))
    assert f"{tmp_path / 'x'}: must have room for another file, got no free inodes, 52 MB free. Remove files" in str(
        os_error(fault, tmp_path / "x")
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_what_a_killed_process_left_goes_with_the_next_write_and_what_another_one_writes_stays(tmp_path):
    left, others = tmp_path / ".a.json.00c0ffee.tmp.json", tmp_path / ".b.json.00c0ffee.tmp.json"
    for path in (left, others, tmp_path / ".a.json.mine.tmp.json"):
        path.write_text("half")
    with replaced(tmp_path / "a.json") as first:
        assert not left.exists() and others.exists(), "only its own"
        write_json(tmp_path / "a.json", 1)
        assert first.exists(), "this process holds it"
        first.write_text("2")
    assert (tmp_path / "a.json").read_text() == "2"
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", others.name, ".a.json.mine.tmp.json"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
def test_an_array_that_does_not_fit_has_the_number_of_the_systems_error(tmp_path):
    for array in (np.arange(6.0).reshape(2, 3), np.zeros((0, 3)), np.asfortranarray(np.eye(3)), np.array("a")):
        write_npy(tmp_path / "ours.npy", array)
        np.save(tmp_path / "numpys.npy", array)
        assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "numpys.npy").read_bytes()
    told = """
import resource, signal, sys
import numpy as np
from kd2mobile.files import write_npy
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in (write_npy, lambda path, array: np.savez(path, array)):
    try:
        write(sys.argv[1], np.zeros(100_000))
    except OSError as fault:
        print(fault.errno)
"""
    child = subprocess.run([sys.executable, "-c", told, str(tmp_path / "x.npz")], capture_output=True, text=True)
    assert (child.stdout, child.stderr) == (f"{errno.EFBIG}\n" * 2, "")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Annotated[float, Meta(gt=0)], -1.0),
        (Annotated[float, Meta(gt=0)] | None, "x"),
        (Annotated[int, Meta(ge=1, le=5)], 9),
        (Annotated[int, Meta(multiple_of=2)], 3),
        (int | str | list[int], {}),
        (bool, 1),
        (Literal["a", "b"], "c"),
        (Literal["a", "b"] | None, 1),
        (tuple[int, int], [1]),
        (Annotated[list[int], Meta(min_length=1)], []),
        (Annotated[str, Meta(pattern="^a$")], "b"),
        (dict[str, Annotated[float, Meta(lt=0.5)]], {"k": 1}),
    ],
)
def test_a_value_of_another_shape_is_refused_in_our_own_words(kind, value):
    with pytest.raises(RecordError) as caught:
        convert_json({"x": value}, msgspec.defstruct("Held", [("x", kind)]), "f.json", "Copy it again.")
    said = str(caught.value)
    assert said.startswith("f.json: x") and caught.value.must.startswith("must be ")
    words = caught.value.must.replace("or null", "")
    assert not re.search(r"[`<>=$]|\b(float|int|str|array|object|null|Expected)\b|\.0\b", words)
