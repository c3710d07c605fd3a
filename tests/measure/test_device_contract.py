"""What every registered device keeps: its declaration is light, its flags are its own, its two functions are alike."""

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from kd2mobile.cli.commands import main, main_status
from kd2mobile.errors import Kd2MobileError
from kd2mobile.measure.device import NoOptions
from kd2mobile.measure.devices import DEVICES, PACKAGES, requested, with_options
from kd2mobile.measure.protocol import Protocol

HOME = Path(import_module("kd2mobile.measure").__file__).parent
FLAGS = [(device, option) for device in DEVICES.values() for option in device.listed_options()]
SAMPLES = {bool: True, int: 7, Path: Path("/some where/a&b.pem")}
"""A value of each kind."""


def sample(option):
    if option.choices:
        return option.choices[-1]
    return (
        (SAMPLES[Path], Path("/other=c"))
        if isinstance(option.default, tuple) or "," in str(option.kind)
        else (not option.default if option.kind is bool else SAMPLES[option.kind])
    )


def test_every_package_with_a_declaration_is_registered():
    assert {file.parent.name for file in HOME.glob("*/device.py")} == set(PACKAGES) == set(DEVICES)


def test_declaring_loads_neither_numpy_nor_click():
    program = "import sys, kd2mobile.measure.devices as d; print(*sorted({n.split('.')[0] for n in sys.modules}"
    program += " & {'numpy', 'PIL', 'click', 'ssl', 'segno', 'ai_edge_litert'}), [*d.DEVICES])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([*DEVICES])


@pytest.mark.parametrize("name", PACKAGES)
def test_its_two_functions_have_one_signature(name):
    device, work = DEVICES[name], import_module(f"kd2mobile.measure.{name}.measure")
    assert device.name == name == device.form.partition(":")[0] and issubclass(device.options, NoOptions)
    assert list(inspect.signature(work.check).parameters) == ["address", "options", "protocol"]
    takes = inspect.signature(work.measure).parameters
    positional = [one.name for one in takes.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert positional == ["address", "options", "opened", "images", "protocol"]
    assert takes["skip_unreadable"].default is False
    assert all(one.default is not one.empty for one in takes.values() if one.kind is one.KEYWORD_ONLY)


def test_no_flag_belongs_to_two_devices_or_to_the_command():
    flags = [option.flag for _, option in FLAGS]
    listed = [name for parameter in main.commands["benchmark"].params for name in parameter.opts]
    assert len(set(flags)) == len(flags) and all(listed.count(flag) == 1 for flag in flags)


@pytest.mark.parametrize(("device", "option"), FLAGS, ids=[option.flag for _, option in FLAGS])
def test_an_option_goes_into_the_text_and_comes_back(device, option, capsys):
    value = sample(option)
    text = with_options(f"{device.name}:x" if device.takes_address else device.name, {option.name: value})
    read = requested(text)
    assert read.device is device and getattr(read.options, option.name) == value
    assert read.options == device.options(**{option.name: value})
    assert option.help.endswith((".", "]"))
    assert main_status(["benchmark", "--help"]) == 0 and f"  {option.flag} " in capsys.readouterr().out


@pytest.mark.parametrize(("device", "option"), FLAGS, ids=[option.flag for _, option in FLAGS])
@pytest.mark.parametrize("elsewhere", [[], ["--device", "host"]], ids=["none", "host"])
def test_a_flag_of_another_device_is_refused(device, option, elsewhere, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    value = option.text(sample(option)) if option.kind is not bool else []
    assert main_status(["benchmark", *elsewhere, option.flag, *value]) == 2
    message = f"{option.flag} must be given with --device {device.form}, got {' '.join(elsewhere) or 'no --device'}."
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("address", ["", ":", ":@", "?x", "?=", ":a b", ":\0", "?port=1&port=2"])
def test_any_address_is_accepted_or_refused_in_one_line(name, address, monkeypatch):
    monkeypatch.setenv("PATH", "")
    try:
        device, address_part, options = requested(name + address)
        device.check(address_part, options, Protocol())
    except Kd2MobileError as fault:
        assert "\n" not in str(fault) and fault.next_step
