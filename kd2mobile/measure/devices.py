"""The devices: `--device WORD[:ADDRESS][?OPTION=VALUE&...]`, and the package of each by its word.

One more device is a package and one line here. What stands in a package says `device.py`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlencode

from kd2mobile.errors import DeviceError, RecipeError, UnknownNameError
from kd2mobile.measure.device import SEE, Device, NoOptions

if TYPE_CHECKING:
    from kd2mobile.measure.protocol import Protocol

PACKAGES = (
    "host",
    "ssh",
    "adb",
    "browser",
)
DEVICES: dict[str, Device] = {name: import_module(f"kd2mobile.measure.{name}.device").DEVICE for name in PACKAGES}


class Requested(NamedTuple):
    """A device with the address and the options that it is used with."""

    device: Device
    address: str
    options: NoOptions


def word_of(text: str) -> str:
    """The word of a device, without its address and its options.

    >>> word_of("ssh:pi@board"), word_of("browser?lan=true")
    ('ssh', 'browser')
    """
    return text.partition("?")[0].partition(":")[0]


def requested(text: str) -> Requested:
    """What `--device` or a recipe's benchmark.device says. Raises UnknownNameError or DeviceError.

    >>> requested("ssh:pi@board?keep=all").address, requested("ssh:pi@board?keep=all").options.keep
    ('pi@board', 'all')
    """
    place, _, query = text.partition("?")
    _, colon, address = place.partition(":")
    if (word := word_of(text)) not in DEVICES:
        raise UnknownNameError("benchmark.device", text, list(DEVICES), see=SEE)
    device = DEVICES[word]
    if colon and not device.takes_address:
        raise DeviceError(f"--device {word}", "must have no address", place, f"Give `--device {word}`.")
    options = {option.name: option for option in device.listed_options()}
    said = parse_qs(query, keep_blank_values=True)
    if unknown := [name for name in said if name not in options]:
        known = list(options)
        if not known:
            raise DeviceError(f"--device {word}", "must be given without options", repr(query), f"See `{SEE}`.")
        raise UnknownNameError(f"--device {word}", unknown[0], known, see=SEE)
    values = {name: options[name].value(texts) for name, texts in said.items()}
    return Requested(device, address, device.options(**values))


def with_options(text: str | None, given: dict[str, Any]) -> str | None:
    """The device with options in its text, as `requested` reads it. text: what `--device` says, None without it;
    given: values by the options' names. Raises RecipeError for an option of another device.

    >>> with_options("browser", {"port": 8443, "open": False})
    'browser?port=8443&open=false'
    """
    if not given:
        return text
    word = word_of(text or "")
    owners = {option.name: (device, option) for device in DEVICES.values() for option in device.listed_options()}
    other = [name for name in given if owners[name][0].name != word]
    if other:
        device = owners[other[0]][0]
        flags = " and ".join(owners[name][1].flag for name in other if owners[name][0] is device)
        got = f"--device {text}" if text else "no --device"
        raise RecipeError(
            "kd2mobile benchmark", f"{flags} must be given with --device {device.form}", got, f"See `{SEE}`."
        )
    query = urlencode({name: owners[name][1].text(value) for name, value in given.items()}, doseq=True, safe="/")
    return f"{text}{'&' if '?' in text else '?'}{query}"


def check_device(text: str, protocol: "Protocol") -> None:
    """Looks whether files can be measured there, before anything is made for it: its word, the form of its address,
    what of the protocol it cannot do, and what it needs on this host. Raises as `requested` and `Device.check`.
    """
    device, address, options = requested(text)
    device.check(address, options, protocol)
