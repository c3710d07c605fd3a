"""Calls of `board_program.py` on the board by the system's OpenSSH client; one connection carries all of them."""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from kd2mobile.backend.with_parent import with_parent
from kd2mobile.errors import DeviceError
from kd2mobile.measure.ssh.address import Address
from kd2mobile.measure.ssh.messages import LONGEST_LINE, NEXT, read_message
from kd2mobile.measure.ssh.refusals import refusal

OPTIONS = {
    "BatchMode": "yes",  # nothing prompts
    "StrictHostKeyChecking": "yes",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "3",
    "LogLevel": "ERROR",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "PermitLocalCommand": "no",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
}
FAILED = 255
"""ssh's own status; any other one is the command's."""
NOT_FOUND = 127
MARK = b"kd2mobile-answers"
"""The line before the answers; whatever a login shell prints comes before it."""
BOOTSTRAP = (
    'import sys; print("\\n{mark}", flush=True); exec(compile(sys.stdin.buffer.read({size}), "{command}", "exec"))'
)
SOURCE = Path(__file__).with_name("board_program.py").read_bytes()
CHUNK = 1 << 20


class Cut(Exception):
    """The connection ended before the answer was complete. refused: the error that explains it."""

    def __init__(self, refused: DeviceError):
        super().__init__(str(refused))
        self.refused = refused


def check_client(address: Address, config: Path | None) -> None:
    """Raises DeviceError if this host has no ssh, or if the configuration file does not exist."""
    if not shutil.which("ssh"):
        install = "Install it: openssh-client on Debian, an optional feature of Windows."
        raise DeviceError(address, "must find the OpenSSH client", "no ssh on the PATH", install)
    if config and not config.is_file():
        raise DeviceError("--ssh-config", "must be a file", config, "Check the path.")


class Connection:
    """A connection to the board that is opened by the first call, and again by the next one after it was cut.

    python: what runs there.
    """

    def __init__(self, address: Address, config: Path | None = None):
        """config: for `ssh -F`, instead of the user's own. Raises as `check_client`."""
        check_client(address, config)
        self.address, self.python = address, "python3"
        self._folder = tempfile.TemporaryDirectory(prefix="kd2mobile-")
        self._config = config

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shared:
            subprocess.run(self._ssh("-O", "exit"), stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self._folder.cleanup()

    def call(self, command: str, *, payload: Iterable[bytes] = (), **arguments: Any) -> Iterator[dict]:
        """Runs a command of `board_program.py` and yields the messages of its answer. payload: bytes that it reads.

        Raises Cut if the connection ends before the answer, DeviceError if the board cannot do it.
        """
        return self._answers(command, arguments, payload, None)

    def ask(self, command: str, **arguments: Any) -> dict:
        """The one message that the command answers with. Raises as `call`."""
        return self.only(command, self.call(command, **arguments))

    def fetch(self, job: str, name: str, to: IO[bytes], most: int) -> str:
        """Writes a file of the measurement, of `most` bytes at most; returns the SHA-256 that it has there. Raises as
        `call`."""
        answers = self._answers("fetch", {"job": job, "name": name}, (), (to, most))
        return self.only("fetch", answers)["sha256"]

    def only(self, command: str, messages: Iterable[dict]) -> dict:
        """The only message of an answer. Raises DeviceError for any other number of messages."""
        listed = list(messages)
        if len(listed) != 1:
            raise DeviceError(self.address, f"must answer `{command}` with one message", len(listed), NEXT)
        return listed[0]

    def _answers(
        self, command: str, arguments: dict, payload: Iterable[bytes], to: tuple[IO[bytes], int] | None
    ) -> Iterator[dict]:
        bootstrap = BOOTSTRAP.format(mark=MARK.decode(), size=len(SOURCE), command=command)
        remote_command = f"exec {shlex.quote(self.python)} -c {shlex.quote(bootstrap)}"
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(
                with_parent(self._ssh(remote_command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"LC_ALL": "C"},  # its messages are read
                start_new_session=True,  # Ctrl-C is for this process, which has something to end there first
            )
            request = json.dumps({"command": command, "arguments": arguments}).encode("ascii") + b"\n"
            writer = threading.Thread(
                target=_write, args=(process.stdin, chain([SOURCE, request], payload)), daemon=True
            )
            writer.start()
            try:
                before = _before_mark(process.stdout)
                ended = before is None and (yield from self._messages(process.stdout, command, to))
            except BaseException:
                process.kill()
                raise
            finally:
                process.stdout.close()
                status = process.wait()
                writer.join()
            if not ended:
                log.seek(0)
                raise self._fault(status, log.read().decode("utf-8", "replace"), before)

    def _messages(self, stdout: IO[bytes], command: str, to: tuple[IO[bytes], int] | None) -> Iterator[dict]:
        """Yields the messages and returns whether the last one arrived. to: the target of a file and its largest size
        in bytes."""
        while (line := stdout.readline(LONGEST_LINE)).endswith(b"\n"):  # else it was cut within a line
            message = read_message(line, command, self.address)
            match message["kind"]:
                case "end":
                    return True
                case "refused":
                    raise self._refused(message)
                case "file":
                    stored, most = to
                    if message["size"] > most:
                        got = f"{message['size']:,} bytes"
                        raise DeviceError(self.address, f"must send a file of at most {most:,} bytes", got, NEXT)
                    if not _copy(stdout, stored, message["size"]):
                        return False
            yield message
        return False

    def _ssh(self, *command: str) -> list[str]:
        options = OPTIONS | ({"ControlMaster": "auto", "ControlPersist": "60"} if self._shared else {})
        control = ["-S", f"{self._folder.name}/c"] if self._shared else []
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        user = ["-l", self.address.user] if self.address.user else []
        port = ["-p", str(self.address.port)] if self.address.port else []
        config = ["-F", str(self._config)] if self._config else []
        if command[:1] == ("-O",):
            return ["ssh", *config, *control, *user, *port, *command, self.address.host]
        return ["ssh", *config, *flags, *control, *user, *port, self.address.host, *command]

    @property
    def _shared(self) -> bool:
        """Windows' OpenSSH has no connection that several commands share."""
        return os.name == "posix"

    def _fault(self, status: int, stderr: str, before: bytes | None) -> Exception:
        if status == FAILED or status < 0:
            return Cut(refusal(self.address, stderr, self._config))
        if before is not None:
            words = stderr.strip() or before.decode("utf-8", "replace").strip()
            last = words.splitlines()[-1].strip() if words else f"status {status} and no message"
            if status == NOT_FOUND or "not found" in last:
                install = "Install Python 3.11 or newer there: `sudo apt install python3 python3-venv` on Debian."
                return DeviceError(self.address, "must have python3 on its PATH", last, install)
            must = "must run commands over ssh"
            return DeviceError(
                self.address, must, last, f"Try `{self.address.by_hand(self._config)} python3 --version`."
            )
        if "Traceback" in stderr:
            return RuntimeError(f"{self.address} ended with status {status}:\n{stderr[stderr.rfind('Traceback') :]}")
        return Cut(refusal(self.address, stderr or f"the command there ended with status {status}", self._config))

    def _refused(self, message: dict) -> DeviceError:
        if message["disk"]:
            free = "Free some space there; kd2mobile's own files are in ~/.cache/kd2mobile."
            return DeviceError(self.address, "must have free space on its disk", message["why"], free)
        must = "must have a writable ~/.cache/kd2mobile"
        return DeviceError(self.address, must, message["why"], "Check it there.")


def _write(stdin: IO[bytes], chunks: Iterable[bytes]) -> None:
    try:
        with stdin:
            for chunk in chunks:
                stdin.write(chunk)
                stdin.flush()
    except OSError:
        pass  # it ended before it had read all: its status says why


def _before_mark(stdout: IO[bytes]) -> bytes | None:
    """Reads up to the mark; what came instead if there is none, else None."""
    passed = b""
    for line in stdout:
        if line.rstrip(b"\n") == MARK:
            return None
        passed = (passed + line)[-2000:]
    return passed


def _copy(stdout: IO[bytes], to: IO[bytes], size: int) -> bool:
    while size:
        chunk = stdout.read(min(CHUNK, size))
        if not chunk:
            return False
        to.write(chunk)
        size -= len(chunk)
    return True
