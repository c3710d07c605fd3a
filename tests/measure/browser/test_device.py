"""Where the page is served: flags, the options that they become, and what the terminal shows."""

import socket

import pytest

from kd2mobile.cli.commands import main_status
from kd2mobile.errors import DeviceError, UnknownNameError
from kd2mobile.measure.browser import measure
from kd2mobile.measure.browser.device import Options
from kd2mobile.measure.devices import requested, with_options

from .conftest import needs_litert_js

URL = "http://192.0.2.7:8000/0123456789abcdefABCDEF/"


def test_flags_become_options_that_are_read_back(tmp_path):
    pair = tmp_path / "a cert & more.pem", tmp_path / "key=1.pem"
    text = with_options("browser", {"lan": True, "port": 8443, "tls": pair, "open": False})
    assert requested(text).options == Options(lan=True, port=8443, tls=pair, open=False)
    assert requested("browser").options == Options()


@pytest.mark.parametrize(
    ("query", "error", "why"),
    [
        ("port=x", DeviceError, "--port: must be a whole number from 0 to 65,535, got 'x'."),
        ("port=70000", DeviceError, "--port: must be a whole number from 0 to 65,535, got '70000'."),
        ("lan=perhaps", DeviceError, "--lan: must be true or false, got 'perhaps'."),
        ("tls=a.pem", DeviceError, "--tls: must have two values, CERT KEY, got a.pem."),
        ("wlan=true", UnknownNameError, "one of lan, port, tls, open, got 'wlan'. Did you mean 'lan'?"),
        ("chrome", UnknownNameError, "got 'chrome'"),
    ],
)
def test_options_that_say_something_else_are_errors(query, error, why):
    with pytest.raises(error) as refused:
        requested(f"browser?{query}")
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--lan"], "--lan must be given with --device browser, got no --device."),
        (
            ["--device", "host", "--port", "0", "--no-open"],
            "--port and --no-open must be given with --device browser, got --device host.",
        ),
        (["--device", "browser", "--tls", "cert.pem"], "--tls: must be given with 2 values, got fewer."),
        (["--device", "browser", "--port", "65536"], "--port: must be a whole number from 0 to 65,535, got 65536."),
    ],
)
def test_flags_of_the_browser_alone_are_refused_elsewhere(flags, message, capsys):
    assert main_status(["benchmark", *flags]) == 2
    assert message in capsys.readouterr().err


@needs_litert_js
def test_a_port_in_use_ends_the_command_with_2(models, photos, capsys):
    command = ["benchmark", "--device", "browser", "--no-open", "--model", str(models / "uint8.tflite")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main_status([*command, "--data", str(photos), "--port", str(port)]) == 2
    assert f"--port {port}: must be a free port, got Address already in use. Give another" in capsys.readouterr().err


def test_on_the_network_the_terminal_shows_a_code_and_what_a_plain_address_lacks(capsys, monkeypatch):
    pytest.importorskip("segno")
    monkeypatch.setattr(measure.webbrowser, "open", lambda url: pytest.fail("it is for another device"))
    measure.show_url(URL, Options(lan=True))
    stderr = capsys.readouterr().err
    assert f"Open {URL}\n" in stderr and "--tls CERT KEY" in stderr
    code = [line for line in stderr.splitlines() if set(line) & set("\u2580\u2584\u2588")]
    assert 15 <= len(code) <= 25, "a QR code of 33 to 45 modules, two a line"
    measure.show_url(URL, Options(lan=True, tls=("c", "k")))
    assert "--tls" not in capsys.readouterr().err


def test_here_the_browser_is_opened_unless_there_is_no_screen_or_nobody_wants_it(capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(measure.webbrowser, "open", opened.append)
    monkeypatch.setattr(measure.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":0")
    measure.show_url(URL, Options(open=False))
    measure.show_url(URL, Options())
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    measure.show_url(URL, Options())
    assert opened == [URL] and capsys.readouterr().err == f"Open {URL}\n" * 3
