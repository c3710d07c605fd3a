"""The address after `ssh:`: USER@HOST[:PORT]."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from kd2mobile.errors import DeviceError

_ADDRESS = re.compile(
    r"((?P<user>[\w][\w.+-]*\$?)@)?(\[(?P<ipv6>[0-9a-fA-F:.]+(%[\w.-]+)?)\]|(?P<host>[\w][\w.-]*))(:(?P<port>\d{1,5}))?",
    re.ASCII,
)


_FORM = "For example ssh:pi@raspberrypi.local, or ssh:pi@192.168.1.20:2222."


class Address(NamedTuple):
    """The address of a board. user, port: None leaves them to the ssh configuration; host may be an alias there."""

    user: str | None
    host: str
    port: int | None

    @property
    def login(self) -> str:
        """USER@HOST as ssh takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host

    def words(self, config: Path | None = None) -> list[str]:
        """The arguments of ssh for a login. config: for `ssh -F`."""
        options = [*(["-F", str(config)] if config else []), *(["-p", str(self.port)] if self.port else [])]
        return [*options, self.login]

    def by_hand(self, config: Path | None = None) -> str:
        """The command for a login by hand. config: for `ssh -F`."""
        return shlex.join(["ssh", *self.words(config)])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return "ssh:" + (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


def parsed(address: str) -> Address:
    """`pi@board`, `pi@board:2222`, `pi@[fe80::1%eth0]:22` or an alias. Raises DeviceError.

    >>> parsed("pi@board:2222")
    Address(user='pi', host='board', port=2222)
    """
    match = _ADDRESS.fullmatch(address)
    port = int(match["port"]) if match and match["port"] else None
    if not match or (port is not None and not 0 < port < 65536):
        raise DeviceError("--device", "must be of the form ssh:USER@HOST[:PORT]", repr(f"ssh:{address}"), _FORM)
    return Address(match["user"], match["ipv6"] or match["host"], port)
