"""The messages of the board, one per line, from `board_program.py`. These types alone validate them."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from kd2mobile.errors import DeviceError
from kd2mobile.files import decode_json
from kd2mobile.progress import Progress
from kd2mobile.text import one_line

Number = Annotated[int, Meta(ge=0, lt=2**53)]
Part = Annotated[int, Meta(ge=0, lt=10_000)]
LONGEST_LINE = 64 * 2**20
"""Bytes: the names of a million files."""
NEXT = "Run the command again. Check what its login shell prints, and whether another program has that name."


class _Answer(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower):
    pass


class About(_Answer, frozen=True):
    """The description of a board. python: the one to use; version: its own; machine: as uname says it, bits: of
    Python; glibc: None where there is none; has_venv: whether it can make an environment; free_bytes: in its home."""

    python: str
    version: tuple[Part, Part, Part]
    system: str
    machine: str
    bits: Annotated[int, Meta(ge=8, le=1024)]
    glibc: str | None
    musl: bool
    has_venv: bool
    free_bytes: Number


class Missing(_Answer, frozen=True):
    names: list[str]


class Stored(_Answer, frozen=True):
    name: str


class Changed(_Answer, frozen=True):
    name: str


class Installed(_Answer, frozen=True):
    pass


class NotInstalled(_Answer, frozen=True, tag="not_installed"):
    why: str


class Started(_Answer, frozen=True):
    pass


class Busy(_Answer, frozen=True):
    pass


class Incomplete(_Answer, frozen=True):
    pass


class Shown(_Answer, frozen=True):
    line: str
    offset: Number


class Beat(_Answer, frozen=True):
    pass


class Ended(_Answer, frozen=True):
    pass


class Died(_Answer, frozen=True):
    log: str


class File(_Answer, frozen=True):
    size: Number
    sha256: str


class Stopped(_Answer, frozen=True):
    pass


class Cleaned(_Answer, frozen=True):
    all: bool


class Refused(_Answer, frozen=True):
    why: str
    disk: bool


class End(_Answer, frozen=True):
    pass


ANSWERS: dict[str, tuple[type[_Answer], ...]] = {
    "about": (About,),
    "missing": (Missing,),
    "put": (Stored, Changed),
    "install": (Installed, NotInstalled),
    "start": (Started, Busy, Incomplete),
    "follow": (Shown, Beat, Ended, Died),
    "fetch": (File,),
    "stop": (Stopped,),
    "clean": (Cleaned,),
}
"""The messages that each command may answer with, besides Refused and End."""
_Any = (
    About | Missing | Stored | Changed | Installed | NotInstalled | Started | Busy | Incomplete | Shown | Beat | Ended
    | Died | File | Stopped | Cleaned | Refused | End
)  # fmt: skip


def read_message(line: bytes, command: str, address: object) -> dict[str, Any]:
    """The message in a whole line, as a dict of the fields of its type. Raises DeviceError for any other."""
    message = decode_json(line, _Any, address, NEXT, error=DeviceError)
    if not isinstance(message, (*ANSWERS[command], Refused, End)):
        got = f"`{msgspec.to_builtins(message)['kind']}`"
        raise DeviceError(address, f"must respond to `{command}` as kd2mobile's program does", got, NEXT)
    return msgspec.to_builtins(message)


def read_shown(line: str, address: object) -> Progress:
    """What the measurement shows, as `progress.retold` takes it. Raises DeviceError for anything else."""
    shown = decode_json(line, Progress, address, NEXT, error=DeviceError)
    texts = {name: one_line(value) for name, value in msgspec.structs.asdict(shown).items() if isinstance(value, str)}
    return msgspec.structs.replace(shown, **texts)
