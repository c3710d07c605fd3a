"""Where files are measured, by the word before the colon: `host`, `ssh:pi@board`, ..."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from kd2mobile.errors import UnknownNameError
from kd2mobile.measure.protocol import Protocol

DEVICES = {
    "host": "kd2mobile.measure.host.measure",
    "ssh": "kd2mobile.measure.ssh.measure",
    "adb": "kd2mobile.measure.adb.measure",
    "browser": "kd2mobile.measure.browser.measure",
}
"""The module of each, with its two functions: `measure_on_host`, whose docstring says what it takes and returns, and
`check_host`, which raises what the address and this host alone can tell to be wrong."""


def check_device(device: str, protocol: Protocol) -> None:
    """Looks whether files can be measured there, before anything is made for it: its word, the form of its address,
    what of the protocol it cannot do, and what it needs on this host. Raises UnknownNameError, RecipeError, DeviceError
    or InstallationError.
    """
    check, address = way_of(device, "check")
    check(address, protocol)


def way_of(device: str, what: str) -> tuple[Callable[..., Any], str]:
    """The function that does it there, and the address after the colon. Raises UnknownNameError."""
    word, _, address = device.partition(":")
    if word not in DEVICES:
        raise UnknownNameError("benchmark.device", device, list(DEVICES), see="kd2mobile benchmark --help")
    return getattr(import_module(DEVICES[word]), f"{what}_{word}"), address
