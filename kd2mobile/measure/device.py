"""A device is a package of measure/ with two modules, `device.py` and `measure.py`.

device.py declares it and imports nothing heavy:

    class Options(NoOptions):                     # the flags that are this device's alone
        port: Annotated[int, says("Port of the server.", ge=0, le=65535)] = 0

    DEVICE = Device(name="word", form="word:ADDRESS", options=Options)

measure.py does the work in two functions, which have the same signatures on every device:

    check(address, options, protocol)             # before anything is made for it
    measure(address, options, opened, images, protocol, *, skip_unreadable=False) -> FromDevice
"""

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from kd2mobile.errors import DeviceError, UnknownNameError

if TYPE_CHECKING:
    from kd2mobile.measure.files import FromDevice, Opened
    from kd2mobile.measure.protocol import Protocol

SEE = "kd2mobile benchmark --help"


def says(text: str, metavar: str | None = None, **bounds: Any) -> Meta:
    """The description of an option. text: its help; metavar: the name of its value, by default `N` of an int and `FILE`
    of a path; bounds: `ge` and `le` of an int."""
    return Meta(description=text, title=metavar, **bounds)


class NoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a device, one field per flag: the field `port` is the flag --port, and a bool that is True by
    default is --no-NAME. A field is a bool, an int, a Path, a Literal or a pair of paths, and may be None; its
    description is the help."""


class Option(NamedTuple):
    """One field of a device's options. kind: its type without None; metavar: the name of the flag's value in help, None
    of a bool; least, most: bounds of an int."""

    name: str
    kind: Any
    default: Any
    help: str
    metavar: str | None
    least: int | None
    most: int | None

    @property
    def flag(self) -> str:
        """`--port`, or `--no-open` for what is on by default."""
        return f"--{'no-' if self.default is True else ''}{self.name.replace('_', '-')}"

    @property
    def choices(self) -> list[str]:
        """The words that a Literal allows; empty for any other kind."""
        return list(get_args(self.kind)) if get_origin(self.kind) is Literal else []

    def text(self, value: Any) -> list[str]:
        """A value as the texts that `value` reads: two for a pair, absolute for a path."""
        parts = value if isinstance(value, tuple) else (value,)
        parts = [part.expanduser().absolute() if isinstance(part, Path) else part for part in parts]
        return [str(part).lower() if isinstance(part, bool) else str(part) for part in parts]

    def value(self, texts: Sequence[str]) -> Any:
        """The value of the texts. Raises UnknownNameError if it is none of the choices, DeviceError for any other
        fault."""
        if self.choices:
            if texts[-1] not in self.choices:
                raise UnknownNameError(self.flag, texts[-1], self.choices, see=SEE)
            return texts[-1]
        count = len(get_args(self.kind)) or 1
        if len(texts) != count or not all(texts):
            must = f"must have {'one value' if count == 1 else f'two values, {self.metavar}'}"
            raise DeviceError(self.flag, must, ", ".join(texts) or "none", f"See `{SEE}`.")
        if self.kind is bool:
            if texts[0] not in ("true", "false"):
                raise DeviceError(self.flag, "must be true or false", repr(texts[0]), f"See `{SEE}`.")
            return texts[0] == "true"
        if self.kind is int:
            least, most = self.least or 0, self.most or 2**31
            if not re.fullmatch(r"[0-9]{1,9}", texts[0]) or not least <= int(texts[0]) <= most:
                must = f"must be a whole number from {least:,} to {most:,}"
                raise DeviceError(self.flag, must, repr(texts[0]), f"See `{SEE}`.")
            return int(texts[0])
        paths = tuple(Path(text).expanduser() for text in texts)
        return paths if count > 1 else paths[0]


class Program(NamedTuple):
    """A program that a device needs on this host, for `kd2mobile doctor`. purpose: the command that needs it; install:
    the sentence that says how to install it."""

    name: str
    purpose: str
    install: str


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """Where files are measured.

    name: that of its package, and the word after --device. form: the complete value of --device: the word alone, or
    `word:ADDRESS`. options: the type of its flags. programs: what it needs on this host.
    """

    name: str
    form: str
    options: type[NoOptions] = NoOptions
    programs: tuple[Program, ...] = ()

    @property
    def takes_address(self) -> bool:
        """Whether an address may follow the word."""
        return ":" in self.form

    def check(self, address: str, options: NoOptions, protocol: "Protocol") -> None:
        """Checks what this host can check alone: the form of the address, that the device supports the protocol, and
        that nothing is missing on this host. Raises RecipeError, DeviceError, UnknownNameError or InstallationError."""
        self._work().check(address, options, protocol)

    def measure(
        self,
        address: str,
        options: NoOptions,
        opened: Sequence["Opened"],
        images: Sequence[Path],
        protocol: "Protocol",
        *,
        skip_unreadable: bool = False,
    ) -> "FromDevice":
        """Times each file on the device in every setting of the protocol, and evaluates it on each image.

        Raises what `check` raises; ModelFileError; DeviceError if the device is lost; DataError if no image is
        readable; ImageError for the first unreadable image unless skip_unreadable.
        """
        return self._work().measure(address, options, opened, images, protocol, skip_unreadable=skip_unreadable)

    def listed_options(self) -> list[Option]:
        """Its options in the order of their fields."""
        hints = get_type_hints(self.options, include_extras=True)
        return [_option(field, hints[field.name]) for field in msgspec.structs.fields(self.options)]

    def _work(self) -> Any:
        return import_module(f"kd2mobile.measure.{self.name}.measure")


def _option(field: msgspec.structs.FieldInfo, hint: Any) -> Option:
    kind, meta = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, Meta(description=""))
    if NoneType in get_args(kind):
        (kind,) = (one for one in get_args(kind) if one is not NoneType)
    metavar = meta.title or {bool: None, int: "N", Path: "FILE"}.get(kind, field.name.upper())
    return Option(field.name, kind, field.default, meta.description, metavar, meta.ge, meta.le)
