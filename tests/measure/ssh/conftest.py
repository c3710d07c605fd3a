"""Boards behind a real sshd on 127.0.0.1: one server, for each board a key of its own and a home of its own."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from kd2mobile.errors import DeviceError
from kd2mobile.measure.devices import with_options
from kd2mobile.measure.measured import measure_files
from kd2mobile.measure.ssh import board as board_module
from kd2mobile.measure.ssh import measure
from kd2mobile.measure.ssh.address import parsed
from kd2mobile.measure.ssh.connection import Connection

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
ABOUT = board_module.About(
    python="/usr/bin/python3",
    version=(3, 11, 2),
    system="Linux",
    machine="aarch64",
    bits=64,
    glibc="2.36",
    musl=False,
    has_venv=True,
    free_bytes=10**10,
)
"""A Raspberry Pi."""
PYTHON = sys._base_executable
"""An interpreter that is in no environment."""


class Server:
    """A running sshd. port; known_hosts: with its key; log: what it logged."""

    def __init__(self, folder: Path):
        self.folder, self.known_hosts, self.log = folder, folder / "known_hosts", []
        keygen(folder / "host_key")
        (folder / "authorized_keys").touch()
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", exist_ok=True)
        while not self._listens():
            self._end()
            if not any("Address already in use" in line for line in self.log):
                pytest.skip(f"sshd does not start here: {' '.join(self.log)}")
            self.log.clear()  # another program was faster; another port
        self._log = threading.Thread(target=lambda: self.log.extend(self._process.stderr))
        self._log.start()

    def _listens(self):
        """Starts it on a port that was free a moment before."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        lines = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host_key",
            "AuthorizedKeysFile": self.folder / "authorized_keys",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PermitUserEnvironment": "yes",
        }
        (self.folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {key_of(self.folder / 'host_key')}\n")
        command = [SSHD, "-D", "-e", "-f", self.folder / "sshd_config"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self._process.stderr:
            self.log.append(line.strip())
            if "Server listening" in line:
                return True
        return False

    def cut(self):
        """Ends every connection to it, as a board that loses its network does; the server stays."""
        children = defaultdict(list)
        for process_folder in Path("/proc").glob("[0-9]*"):
            try:
                name, _, rest = (process_folder / "stat").read_text().partition("(")[2].rpartition(")")
            except OSError:
                continue  # it ended meanwhile
            if name.startswith("sshd"):
                children[int(rest.split()[1])].append(int(process_folder.name))
        ended = children[self._process.pid]
        for process in ended:  # those that are appended here, too
            ended += children[process]
        for process in ended:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def stop(self):
        self._process.terminate()
        self._log.join()
        self._end()

    def _end(self):
        self._process.wait()
        self._process.stderr.close()


class Board(NamedTuple):
    """address: behind `ssh:`; config: what `--ssh-config` takes; home: on the board; key: that logs in."""

    address: str
    config: Path
    home: Path
    key: Path

    @property
    def device(self):
        return f"ssh:{self.address}"

    @property
    def lock(self):
        return self.home / ".cache" / "kd2mobile" / "measuring.lock"

    @property
    def kept(self):
        """What lies on the board, but for the environment and the lock."""
        folder = self.home / ".cache" / "kd2mobile"
        files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        return sorted(str(path) for path in files if path.parts[0] != "environments" and path.name != "measuring.lock")

    @property
    def _gate(self):
        return self.home / "gate"

    def hold(self):
        """From now on a measurement there stands still at its start, until `let_go`."""
        os.mkfifo(self._gate)

    def let_go(self):
        """After a measurement was started: it goes on, and no later one is held."""
        with open(self._gate, "w"):  # as soon as it stands there
            self._gate.unlink()

    def end_measurement(self):
        """Ends the one that is held, as a reboot does; no later one is held."""
        self._gate.unlink()
        (process,) = self.home.rglob("process")
        os.killpg(int(process.read_text()), signal.SIGKILL)

    @contextmanager
    def connected(self):
        """A connection to it, asked as measuring does."""
        with Connection(parsed(self.address), self.config) as connection:
            yield board_module.Board(connection)

    def measured(self, files, images, labels, **how):
        """`measure_files` there."""
        keep = {"keep": how.pop("keep")} if "keep" in how else {}
        device = with_options(f"ssh:{self.address}", {"ssh_config": self.config} | keep)
        return measure_files(files, images, labels, device=device, **how)


def keygen(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", path], check=True)
    return path


def key_of(path):
    return path.with_name(f"{path.name}.pub").read_text().strip()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    if not SSHD or not shutil.which("ssh"):
        pytest.skip("no OpenSSH server and client: openssh-server and openssh-client on Debian")
    running = Server(tmp_path_factory.mktemp("sshd"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def new_board(server):
    """new_board({"python3": line}, PATH="..."): one with these shell scripts, of a line each, and variables.

    It has no other programs than its scripts, and by default this machine's Python for one.
    """
    numbers = count()

    def make(scripts=None, **environment):
        folder = server.folder / f"board-{next(numbers)}"
        home, programs = folder / "home", folder / "bin"
        home.mkdir(parents=True)
        programs.mkdir()
        for program, line in ({"python3": f'exec {PYTHON} "$@"'} | (scripts or {})).items():
            (programs / program).write_text(f"#!/bin/sh\n{line}\n")
            (programs / program).chmod(0o755)
        key = keygen(folder / "key")
        variables = {"HOME": home, "PATH": programs, **pips_settings(home), **environment}
        options = "".join(f'environment="{variable}={value}",' for variable, value in variables.items())
        with open(server.folder / "authorized_keys", "a") as keys:
            keys.write(f"{options}restrict {key_of(key)}\n")
        config = folder / "config"
        config.write_text(
            f"IdentityFile {key}\nIdentitiesOnly yes\nIdentityAgent none\n"
            f"UserKnownHostsFile {server.known_hosts}\nGlobalKnownHostsFile /dev/null\n"
        )
        return Board(f"{getpass.getuser()}@127.0.0.1:{server.port}", config, home, key)

    return make


def pretending(statement):
    """The line of a python3 that does this first."""
    return f'exec {PYTHON} -c "import sys; {statement}; exec(sys.argv[1])" "$2" "$0"'


def pips_settings(home):
    """The board's pip finds packages where this machine's does."""
    own = Path.home() / ".config" / "pip"
    if own.is_dir():
        shutil.copytree(own, home / ".config" / "pip")
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_") and '"' not in value}


@pytest.fixture
def bare(new_board):
    """A board that nothing is installed on."""
    return new_board()


@pytest.fixture(scope="session")
def installed(new_board, tmp_path_factory):
    """An environment with the packages that measuring needs, made as on a board; skips where pip cannot install them
    on this machine. Nothing is ever written there."""
    made = new_board()
    with made.connected() as there:
        try:
            name, _ = measure._install(there, there.about(), tmp_path_factory.mktemp("wheels"))
        except DeviceError as why:
            pytest.skip(f"no environment for a board: {why}")
    return made.home / ".cache" / "kd2mobile" / "environments" / name


@pytest.fixture
def board(new_board, installed):
    """A board of this test's own, whose environment is a script that runs that one's Python."""
    made = new_board()
    environment_folder = made.home / ".cache" / "kd2mobile" / "environments" / installed.name
    (environment_folder / "bin").mkdir(parents=True)
    shutil.copy(installed / "installed.json", environment_folder)
    held = f"[ -p {made.home}/gate ] && read _ < {made.home}/gate"
    (environment_folder / "bin" / "python").write_text(f'#!/bin/sh\n{held}\nexec {installed}/bin/python "$@"\n')
    (environment_folder / "bin" / "python").chmod(0o755)
    return made
