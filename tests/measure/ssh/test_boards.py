"""Boards that cannot measure, each behind a real sshd: one clear error, and whatever was there before stays whole."""

import getpass
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from kd2mobile.cli.commands import main_status
from kd2mobile.errors import DeviceError
from kd2mobile.measure.files import FileToMeasure
from kd2mobile.measure.ssh import board as board_module
from kd2mobile.measure.ssh import connection as connection_module
from kd2mobile.measure.ssh import measure
from kd2mobile.measure.ssh.address import parsed

from ..conftest import image
from .conftest import ABOUT, PYTHON, keygen, pretending


@pytest.fixture
def refused(models, tmp_path):
    """The error of a measurement there."""

    def refusal(board, config=None, **how):
        board = board._replace(config=config or board.config)
        images = [image(tmp_path / "red.png", (255, 0, 0))]
        with pytest.raises(DeviceError) as refused:
            board.measured([FileToMeasure(path=models / "uint8.tflite")], images, np.array([2]), **how)
        return str(refused.value)

    return refusal


@pytest.fixture
def config_of(bare, tmp_path):
    """The board's configuration with lines before it."""

    def write(*lines):
        config = tmp_path / "config"
        config.write_text("".join(f"{line}\n" for line in lines) + bare.config.read_text())
        return config

    return write


def test_nobody_listens(bare, refused):
    away = bare._replace(address="pi@127.0.0.1:1")
    assert refused(away) == (
        "ssh:pi@127.0.0.1:1: must answer ssh, got ssh: connect to host 127.0.0.1 port 1: Connection refused. "
        "Start the ssh server there, or give its port: ssh:USER@HOST:PORT."
    )


def test_a_key_that_it_does_not_know(bare, refused, tmp_path):
    config = tmp_path / "config"
    config.write_text(bare.config.read_text().replace(str(bare.key), str(keygen(tmp_path / "other"))))
    error = refused(bare, config)
    assert error.startswith(f"{bare.device}: must accept a login by key, without a password, got ")
    assert "Permission denied (publickey)" in error
    assert f"`ssh -F {config} -p {parsed(bare.address).port} " in error and "ssh-copy-id" in error


def test_no_key_at_all(bare, refused, config_of, tmp_path):
    config = config_of(f"IdentityFile {tmp_path / 'missing'}")
    config.write_text(config.read_text().replace(f"IdentityFile {bare.key}\n", ""))
    assert "must accept a login by key" in refused(bare, config)


def test_a_host_key_that_is_unknown(bare, refused, config_of, tmp_path):
    config = config_of(f"UserKnownHostsFile {tmp_path / 'none'}", "StrictHostKeyChecking no")
    error = refused(bare, config)
    assert error == (
        f"{bare.device}: must have a known host key, got an unknown key. "
        f"Run `{parsed(bare.address).by_hand(config)}` once and compare the fingerprint that it shows; it is kept then."
    )
    assert not (tmp_path / "none").exists(), "whatever the configuration says, no key is taken unseen"


def test_a_host_key_that_is_another_one(bare, server, refused, config_of, tmp_path):
    other = keygen(tmp_path / "another").with_suffix(".pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server.port} {other}")
    error = refused(bare, config_of(f"UserKnownHostsFile {tmp_path / 'known'}", "StrictHostKeyChecking no"))
    assert error.startswith(f"{bare.device}: must have its known host key, got another key. Either the board")
    assert f"`ssh-keygen -f {tmp_path / 'known'} -R '[127.0.0.1]:{server.port}'`" in error


def test_a_configuration_that_cannot_be_read(bare, refused, config_of, tmp_path):
    assert "Bad configuration option: nonsense. Check the ssh configuration." in refused(bare, config_of("Nonsense 1"))
    error = refused(bare, tmp_path / "missing")
    assert error == f"--ssh-config: must be a file, got {tmp_path / 'missing'}. Check the path."


def test_no_ssh_here(bare, refused, monkeypatch):
    monkeypatch.setattr(connection_module.shutil, "which", lambda name: None)
    assert "must find the OpenSSH client, got no ssh on the PATH. Install it" in refused(bare)


def test_no_python_there(new_board, refused, tmp_path):
    error = refused(new_board(PATH=tmp_path / "nothing"))
    assert "must have python3 on its PATH, got " in error and "not found. Install Python 3.11 or newer there" in error


def test_a_python_that_is_too_old(new_board, refused):
    error = refused(new_board({"python3": pretending("sys.version_info = (3, 9, 2)")}))
    assert "must have Python 3.11 or newer, got 3.9.2. Install a newer one as well" in error


def test_a_newer_python_beside_an_old_one(new_board):
    old, new = pretending("sys.version_info = (3, 9, 2)"), f'exec {PYTHON} "$@"'
    board = new_board({"python3": old, "python3.12": new})
    with board.connected() as there:
        about = there.about()
        assert about.version == sys.version_info[:3] and Path(about.python).name == "python3.12"
        assert there.start("none", environment="none", core="none", files=[], request={}) == "incomplete"


def test_a_python_that_makes_no_environments(new_board, refused):
    line = 'case "$2" in *ensurepip*) exit 1;; esac; ' + pretending("sys.executable = sys.argv[2]")
    error = refused(new_board({"python3": line}))
    assert "must have Python's venv and ensurepip, got a Python without. Install it" in error


def test_a_home_that_cannot_be_written(new_board, refused, tmp_path):
    (tmp_path / "file").touch()
    error = refused(new_board(HOME=tmp_path / "file"))
    assert "must have a writable ~/.cache/kd2mobile, got Not a directory. Check it" in error


def test_a_disk_that_is_full(new_board, refused, monkeypatch):
    """A limit on the size of a file stands for it."""
    monkeypatch.setattr(measure, "_install", lambda *_: ("none", {}))
    line = "ulimit -f 0; " + pretending("sys.executable = sys.argv[2]")
    board = new_board({"python3": line})
    assert "must have free space on its disk, got File too large. Free some space there" in refused(board)
    assert board.kept == []


def test_a_disk_with_too_little_room(bare, refused, monkeypatch):
    monkeypatch.setattr(board_module, "ENVIRONMENT_BYTES", 10**18)
    error = refused(bare)
    assert re.search(
        r"must have free space on its disk, got \d+ MB free, where packages take 1000000000000 MB\. Free", error
    )
    monkeypatch.setattr(board_module.Board, "about", lambda self: replace(ABOUT, free_bytes=10))
    assert re.search(
        r"must have [\d.]+ [KM]B free in its home folder for the files and images, got 10 bytes\. Free", refused(bare)
    )


def test_a_login_shell_that_talks(new_board):
    board = new_board({"python3": f'echo Welcome; echo to the board >&2; exec {PYTHON} "$@"'})
    with board.connected() as there:
        assert there.about().system == "Linux"


def test_an_alias_of_the_configuration(bare, server, config_of):
    config = config_of("Host pi", "HostName 127.0.0.1", f"Port {server.port}", f"User {getpass.getuser()}", "Host *")
    with bare._replace(address="pi", config=config).connected() as there:
        assert there.about().system == "Linux"


def test_an_address_that_is_none(bare, refused):
    for address in ("", "pi@", "-oProxyCommand=x", "pi@board:99999", "pi@bo ard", "pi@[::1", "pi@board/x"):
        error = refused(bare._replace(address=address))
        assert f"must be of the form ssh:USER@HOST[:PORT], got {f'ssh:{address}'!r}. For example" in error


def test_the_records_before_stay_whole(models, photos, tmp_path, capsys):
    out, labels = tmp_path / "out.json", tmp_path / "labels.txt"
    out.write_text('[{"top1": 0.5}]')
    labels.write_text("blue\ngreen\nred\n")
    command = ["benchmark", "--model", str(models / "uint8.tflite"), "--data", str(photos), "--labels", str(labels)]
    assert main_status([*command, f"--json={out}", "--device", "ssh:pi@127.0.0.1:1"]) == 2
    assert capsys.readouterr().err.startswith("ssh:pi@127.0.0.1:1: must answer ssh")
    assert out.read_text() == '[{"top1": 0.5}]'
    assert main_status([*command, "--keep", "all"]) == 2
    assert "--keep must be given with --device ssh:USER@HOST[:PORT], got no --device." in capsys.readouterr().err
