"""The requests to a board. Each can be repeated: after a cut connection it is sent again over a new one."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kd2mobile.errors import DataError, DeviceError
from kd2mobile.files import sha256_of
from kd2mobile.measure.ssh.connection import CHUNK, Connection, Cut
from kd2mobile.measure.ssh.messages import About, read_shown
from kd2mobile.progress import bar, retold, say
from kd2mobile.text import count_of

WAITS_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds to wait before each new connection; after the last wait the board is given up. Any message from the board
starts the waits from the first again."""
BUSY_S = 2.0
"""Seconds between two requests to a board on which another measurement runs."""

ENVIRONMENT_BYTES = 300_000_000
"""Bytes of disk that the packages take on the board during installation."""


class Lost(DeviceError):
    """A board that was connected and is lost: no request can reach it."""


class Board:
    """The board at the other end of a connection. Every method raises DeviceError if the board refuses or is lost."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self.address = connection.address
        self._waited = 0

    def about(self) -> About:
        """The description of the board. Raises DeviceError at once if the board cannot be reached."""
        try:
            answer = self._connection.ask("about")
        except Cut as cut:
            raise cut.refused from None
        about = msgspec.convert(answer, About)
        self._connection.python = about.python
        return about

    def bring(self, files: Mapping[str, Path], what: str) -> None:
        """Copies the files that the board does not have yet. files: paths by SHA-256; what: their name on the progress
        bar."""
        gone, changed = self._missing(files), []
        if not gone:
            return
        with bar(f"copying {what}", len(gone), "files") as advance:
            while gone:
                try:
                    for message in self._call("put", _as_sent(files, gone), count=len(gone)):
                        if message["kind"] == "changed":
                            changed += [files[name] for name in gone if name == message["name"]]
                        advance(1)
                except Cut as cut:
                    self._wait(cut)
                if changed:
                    must, again = "must not change while it is copied", "Run the command again."
                    raise DataError(changed[0], must, "another content", again)
                gone = self._missing(files)

    def _missing(self, files: Mapping[str, Path]) -> list[str]:
        gone = set(self._ask("missing", names=list(files))["names"])
        return [name for name in files if name in gone]

    def install(self, environment: str, packages: list[str], wheels: dict[str, str] | None = None) -> str | None:
        """Creates the environment if it does not exist. Returns the reason if pip failed, else None. wheels: SHA-256 by
        name, of copied wheels."""
        arguments = {"environment": environment, "requirements": packages, "wheels": wheels, "room": ENVIRONMENT_BYTES}
        return self._ask("install", **arguments).get("why")

    def start(self, job: str, **arguments: Any) -> str:
        """Starts the measurement. Returns `started`, `busy` if another one runs, or `incomplete` if a file is
        missing."""
        return self._ask("start", job=job, **arguments)["kind"]

    def follow(self, job: str) -> str | None:
        """Shows the progress of the measurement until it ends. Returns the log if its process died, else None."""
        offset = 0
        with retold() as show:
            while True:
                try:
                    for message in self._call("follow", job=job, offset=offset):
                        if message["kind"] == "shown":
                            show(read_shown(message["line"], self.address))
                        offset = message.get("offset", offset)
                    return message.get("log")
                except Cut as cut:
                    self._wait(cut)

    def fetch(self, job: str, file: Path, most: int) -> None:
        """Copies the measurement's file of that name, of at most `most` bytes, from the board."""
        while True:
            try:
                with open(file, "wb") as stored:
                    there = self._connection.fetch(job, file.name, stored, most)
                self._waited = 0
                break
            except Cut as cut:
                self._wait(cut)
        if sha256_of(file) != there:
            must, again = "must send complete results", "Run the command again."
            raise DeviceError(self.address, must, f"a damaged {file.name}", again)

    def stop(self, job: str) -> None:
        """Stops the measurement if the board can be reached."""
        try:
            list(self._connection.call("stop", job=job))
        except (Cut, DeviceError):
            say(f"{self.address}: cannot be reached to stop the measurement; it will end there by itself")

    def clean(self, job: str, files: list[str], environment: str | None) -> None:
        """Removes the measurement and the files copied for it, if the board can be reached. environment: the one to
        remove as well, or None."""
        try:
            if not self._ask("clean", job=job, files=files, environment=environment)["all"]:
                say(
                    f"{self.address}: another measurement is running there, so the copied files stay in "
                    "~/.cache/kd2mobile"
                )
        except DeviceError as fault:
            say(f"{fault.where}: the copied files stay there, in ~/.cache/kd2mobile ({fault.got})")

    def _call(self, command: str, payload: Iterable[bytes] = (), **arguments: Any) -> Iterator[dict]:
        for message in self._connection.call(command, payload=payload, **arguments):
            self._waited = 0
            yield message

    def _ask(self, command: str, **arguments: Any) -> dict:
        """The one message that the command answers with."""
        while True:
            try:
                return self._connection.only(command, self._call(command, **arguments))
            except Cut as cut:
                self._wait(cut)

    def _wait(self, cut: Cut) -> None:
        """Before a new connection. Raises DeviceError after the last wait, none of which brought a message."""
        if self._waited == len(WAITS_S):
            must = f"must stay connected, and did not come back in {count_of(self._waited, 'attempt')}"
            goes_on = "The copied files are kept: run the same command to resume."
            raise Lost(self.address, must, cut.refused.got, goes_on)
        say(f"{self.address}: the connection ended ({cut.refused.got}); trying again")
        time.sleep(WAITS_S[self._waited])
        self._waited += 1


def _as_sent(files: Mapping[str, Path], names: Sequence[str]) -> Iterator[bytes]:
    for name in names:
        with open(files[name], "rb") as stored:
            left = os.fstat(stored.fileno()).st_size
            yield json.dumps({"name": name, "size": left}).encode("ascii") + b"\n"
            while chunk := stored.read(min(CHUNK, left)):
                left -= len(chunk)
                yield chunk
            if left:
                raise OSError(f"{files[name]} is being written")
