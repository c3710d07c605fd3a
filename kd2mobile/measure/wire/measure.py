"""What is behind the wire: this machine."""

from collections.abc import Sequence
from pathlib import Path

from kd2mobile.errors import DeviceError
from kd2mobile.measure.files import FromDevice, Opened
from kd2mobile.measure.host import measure as host
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.wire.device import Options


def check(address: str, options: Options, protocol: Protocol) -> None:
    """Raises DeviceError without a port."""
    if not address:
        raise DeviceError("--device wire", "must name a port", "none", "For example `--device wire:ttyUSB0`.")


def measure(
    address: str,
    options: Options,
    opened: Sequence[Opened],
    pictures: Sequence[Path],
    protocol: Protocol,
    *,
    set_aside_unreadable: bool = False,
) -> FromDevice:
    """As this machine does, in the name of the wire."""
    check(address, options, protocol)
    given = host.measure("", None, opened, pictures, protocol, set_aside_unreadable=set_aside_unreadable)
    return given._replace(words=f"wire: {address} at {options.baud:,} baud")
