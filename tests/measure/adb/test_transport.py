"""Which phone is meant, and what is said where there is none that answers."""

import pytest

from kd2mobile.errors import DeviceError
from kd2mobile.measure.adb import transport
from kd2mobile.measure.adb.transport import find_phone

from .conftest import SERIAL, devices, on_phone


def test_the_only_phone_needs_no_name(adb):
    adb(devices((SERIAL, "device")))
    assert find_phone("").serial == SERIAL


def test_the_requested_phone_among_others(adb):
    adb(devices(("192.168.1.7:5555", "device"), (SERIAL, "unauthorized")))
    assert find_phone("192.168.1.7:5555").serial == "192.168.1.7:5555"


def test_the_only_one_that_is_ready_needs_no_name(adb):
    adb(devices(("emulator-5554", "offline"), (SERIAL, "device")))
    assert find_phone("").serial == SERIAL


def test_the_servers_own_words_are_no_phone(adb):
    started = "* daemon not running; starting now at tcp:5037\n* daemon started successfully\n"
    adb((["devices"], {"out": f"{started}List of devices attached\n{SERIAL}\tdevice\n"}))
    assert find_phone("").serial == SERIAL


@pytest.mark.parametrize(
    ("serial", "states", "message"),
    [
        ("", [], "--device adb: must find a phone, got none attached. Connect one by USB and switch on USB debugging"),
        (
            "",
            [("A1", "device"), ("B2", "device")],
            "must be one of the attached phones, got adb alone. Give --device adb:A1 or --device adb:B2.",
        ),
        (
            "C3",
            [("A1", "device")],
            "--device adb:C3: must be the serial of an attached phone, got of A1. `adb devices`",
        ),
        ("A1", [("A1", "unauthorized")], "got one that is unauthorized. Unlock it, allow this computer to debug"),
        ("A1", [("A1", "offline")], "--device adb:A1: must be a phone that responds, got one that is offline. Plug it"),
        (
            "A1",
            [("A1", "no permissions (user in plugdev group; are your udev rules wrong?); see [developer.android.com]")],
            "got one that is no permissions. This user may not use that USB device: install Android's udev rules",
        ),
        ("A1", [("A1", "recovery")], "got one that is recovery. Wait until it has started Android."),
    ],
)
def test_a_phone_that_cannot_be_used(adb, serial, states, message):
    adb(devices(*states))
    with pytest.raises(DeviceError) as fault:
        find_phone(serial)
    assert message in str(fault.value)


def test_no_adb(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        DeviceError, match="--device adb: must find the program adb, got none on the PATH. Install Android's"
    ):
        find_phone("")


def test_an_adb_that_does_not_start(adb):
    adb((["devices"], {"err": "adb: failed to start daemon: cannot bind tcp:5037\n", "status": 1}))
    with pytest.raises(DeviceError, match="must support `adb devices`, got adb: failed to start daemon"):
        find_phone("")


def test_an_adb_that_is_no_program(tmp_path, monkeypatch):
    (tmp_path / "adb").write_bytes(b"\x7fELF, truncated")
    (tmp_path / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceError, match="adb: must be a program that runs, got Exec format error"):
        find_phone("")


def test_a_phone_that_does_not_answer_in_time(adb, monkeypatch):
    def hang(words, **how):
        raise transport.subprocess.TimeoutExpired(words, how["timeout"])

    adb(devices((SERIAL, "device")))
    phone = find_phone("")
    monkeypatch.setattr(transport.subprocess, "run", hang)
    with pytest.raises(
        DeviceError, match=r"must answer, got none to `adb -s R5CT1234 shell true` in 120 s\. Check the"
    ):
        phone.shell("true")


@pytest.mark.parametrize(
    "message", ["error: device 'R5CT1234' not found", "error: device offline", "error: closed", "adb: device offline"]
)
def test_a_phone_that_is_unplugged(adb, message):
    adb(devices((SERIAL, "device")), on_phone("shell", "true", err=f"{message}\n", status=1))
    with pytest.raises(
        DeviceError, match="must stay connected, got .*Plug the phone in again and run the same command"
    ):
        find_phone("").shell("true")


def test_a_command_that_fails_on_the_phone(adb):
    adb(
        devices((SERIAL, "device")), on_phone("shell", "mkdir /x", err="mkdir: '/x': Read-only file system\n", status=1)
    )
    with pytest.raises(DeviceError, match="must support `adb shell`, got mkdir: '/x': Read-only file system"):
        find_phone("").shell("mkdir /x")


def test_a_page_of_this_host_is_taken_to_the_phone_and_opened_there(adb):
    url = "http://127.0.0.1:8123/?token=a&b=c"
    adb(
        devices((SERIAL, "device")),
        on_phone("reverse", "tcp:8123", "tcp:8123"),
        on_phone("shell", f"am start -a android.intent.action.VIEW -d '{url}' 2>&1", out="Starting: Intent { }\n"),
        on_phone("reverse", "--remove", "tcp:8123"),
    )
    phone = find_phone("")
    phone.reverse(8123)
    phone.open_url(url)
    phone.forget_reverse(8123)


def test_a_phone_without_a_browser(adb):
    output = (
        "Starting: Intent { act=android.intent.action.VIEW }\nError: Activity not started, unable to resolve Intent\n"
    )
    command = "am start -a android.intent.action.VIEW -d http://127.0.0.1:1/ 2>&1"
    adb(devices((SERIAL, "device")), on_phone("shell", command, out=output))
    with pytest.raises(DeviceError, match="must open a page in a browser, got Error: Activity not started"):
        find_phone("").open_url("http://127.0.0.1:1/")
