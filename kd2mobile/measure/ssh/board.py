"""What is asked of the board, each step one that can be done again: a cut connection is opened anew and it goes on."""

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
"""Before each new connection; after the last one it is given up. Whatever arrived begins them anew."""
BUSY_S = 2.0
"""Between two looks at a board that another measurement holds."""

ENVIRONMENT_BYTES = 300_000_000
"""What the packages take on the board while they are installed."""


class Lost(DeviceError):
    """A board that was connected and stayed away: nothing more can be asked of it."""


class Board:
    """The board behind a connection. Every method raises DeviceError where it refuses or stays away."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self.address = connection.address
        self._waited = 0

    def about(self) -> About:
        """Raises at once where the board cannot be reached."""
        try:
            told = self._connection.ask("about")
        except Cut as cut:
            raise cut.refused from None
        about = msgspec.convert(told, About)
        self._connection.python = about.python
        return about

    def bring(self, files: Mapping[str, Path], what: str) -> None:
        """Copies the files, by SHA-256, that are not there yet. what: they are, for the bar."""
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
        """Makes the environment if it is not there; why pip could not, or None. wheels: name to SHA-256, brought."""
        given = {"environment": environment, "requirements": packages, "wheels": wheels, "room": ENVIRONMENT_BYTES}
        return self._ask("install", **given).get("why")

    def start(self, job: str, **given: Any) -> str:
        """Starts the measurement; `started`, `busy` with another one, or `incomplete` where something is missing."""
        return self._ask("start", job=job, **given)["kind"]

    def follow(self, job: str) -> str | None:
        """Shows what the measurement says until it has ended; the log of one that died, or None."""
        offset = 0
        with retold() as show:
            while True:
                try:
                    for message in self._call("follow", job=job, offset=offset):
                        if message["kind"] == "said":
                            show(read_shown(message["line"], self.address))
                        offset = message.get("offset", offset)
                    return message.get("log")
                except Cut as cut:
                    self._wait(cut)

    def fetch(self, job: str, file: Path, most: int) -> None:
        """Brings the measurement's file of that name, of `most` bytes at most."""
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
        """Ends the measurement if the board can still be asked to."""
        try:
            list(self._connection.call("stop", job=job))
        except (Cut, DeviceError):
            say(f"{self.address}: cannot be reached to stop the measurement; it will end there by itself")

    def clean(self, job: str, files: list[str], environment: str | None) -> None:
        """Removes the measurement and what was copied for it, if the board can still be asked to. environment: to
        remove as well."""
        try:
            if not self._ask("clean", job=job, files=files, environment=environment)["all"]:
                say(
                    f"{self.address}: another measurement is running there, so the copied files stay in "
                    "~/.cache/kd2mobile"
                )
        except DeviceError as fault:
            say(f"{fault.where}: the copied files stay there, in ~/.cache/kd2mobile ({fault.got})")

    def _call(self, verb: str, payload: Iterable[bytes] = (), **given: Any) -> Iterator[dict]:
        for message in self._connection.call(verb, payload=payload, **given):
            self._waited = 0
            yield message

    def _ask(self, verb: str, **given: Any) -> dict:
        """The one message that the command answers with."""
        while True:
            try:
                return self._connection.only(verb, self._call(verb, **given))
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
