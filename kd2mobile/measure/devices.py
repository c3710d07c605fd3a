"""The devices: `--device WORD[:ADDRESS][?OPTION=VALUE&...]`, and the package of each by its word.

One more device is a package and one line here. `device.py` describes such a package.
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
    """Reads the value of `--device` or of a recipe's benchmark.device. Raises UnknownNameError or DeviceError.

    >>> requested("ssh:pi@board?keep=all").address, requested("ssh:pi@board?keep=all").options.keep
    ('pi@board', 'all')
    """
    target, _, query = text.partition("?")
    _, colon, address = target.partition(":")
    if (word := word_of(text)) not in DEVICES:
        raise UnknownNameError("benchmark.device", text, list(DEVICES), see=SEE)
    device = DEVICES[word]
    if colon and not device.takes_address:
        raise DeviceError(f"--device {word}", "must have no address", target, f"Give `--device {word}`.")
    options = {option.name: option for option in device.listed_options()}
    query_values = parse_qs(query, keep_blank_values=True)
    if unknown := [name for name in query_values if name not in options]:
        known = list(options)
        if not known:
            raise DeviceError(f"--device {word}", "must be given without options", repr(query), f"See `{SEE}`.")
        raise UnknownNameError(f"--device {word}", unknown[0], known, see=SEE)
    values = {name: options[name].value(texts) for name, texts in query_values.items()}
    return Requested(device, address, device.options(**values))


def with_options(text: str | None, option_values: dict[str, Any]) -> str | None:
    """The text of a device with options in it, as `requested` reads it. text: the value of `--device`, None without it;
    option_values: values by the names of the options. Raises RecipeError for an option of another device.

    >>> with_options("browser", {"port": 8443, "open": False})
    'browser?port=8443&open=false'
    """
    if not option_values:
        return text
    word = word_of(text or "")
    owners = {option.name: (device, option) for device in DEVICES.values() for option in device.listed_options()}
    other = [name for name in option_values if owners[name][0].name != word]
    if other:
        device = owners[other[0]][0]
        flags = " and ".join(owners[name][1].flag for name in other if owners[name][0] is device)
        got = f"--device {text}" if text else "no --device"
        raise RecipeError(
            "kd2mobile benchmark", f"{flags} must be given with --device {device.form}", got, f"See `{SEE}`."
        )
    texts = {name: owners[name][1].text(value) for name, value in option_values.items()}
    query = urlencode(texts, doseq=True, safe="/")
    return f"{text}{'&' if '?' in text else '?'}{query}"


def check_device(text: str, protocol: "Protocol") -> None:
    """Checks, before anything is built, that files can be measured on the device: its word, the form of its address,
    the protocol, and what it needs on this host. Raises what `requested` and `Device.check` raise.
    """
    device, address, options = requested(text)
    device.check(address, options, protocol)
