"""What is wrong with a device is said before anything is trained, unpacked or measured for it."""

from pathlib import Path

import pytest

import kd2mobile
from kd2mobile.api import start as starting
from kd2mobile.cli.commands import main_status
from kd2mobile.errors import InstallationError, UnknownNameError
from kd2mobile.measure.browser import litert_js
from kd2mobile.recipe.compose import compose
from kd2mobile.store.run import open_run, start_run

DIGITS = Path(__file__).parents[2] / "models" / "mobilenet025-digits-int8"
WRONG = {
    "foo": "benchmark.device: must be one of host, ssh, adb, browser, got 'foo'.",
    "host:1": "--device host: must have no address, got host:1. Give `--device host`.",
    "ssh:": "--device: must be of the form ssh:USER@HOST[:PORT], got 'ssh:'. For example ssh:pi@raspberrypi.local",
    "ssh:pi@board?kep=all": "--device ssh: must be one of ssh_config, keep, got 'kep'. Did you mean 'keep'?",
    "ssh:pi@board?ssh_config=gone": "--ssh-config: must be a file, got gone. Check the path.",
    "adb:X?y=1": "--device adb: must be one of benchmark_binary, got 'y'.",
    "browser:8000": "--device browser: must have no address, got browser:8000. Give `--device browser`.",
    "browser?wlan=true": "--device browser: must be one of lan, port, tls, open, got 'wlan'. Did you mean 'lan'?",
    "browser?tls=a&tls=b": "--tls: must be a certificate and its key, got a, b: [Errno 2] No such file",
}
LACKING = {
    "ssh:pi@board": "ssh:pi@board: must find the OpenSSH client, got no ssh on the PATH. Install it: openssh-client on",
    "adb:": "--device adb: must find the program adb, got none on the PATH. Install Android's platform-tools and put",
    "adb:R5CT1234": "--device adb: must find the program adb, got none on the PATH.",
    "browser": "--device browser: must find LiteRT.js",
}


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A folder without a run, on a machine without ssh, adb and LiteRT.js."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(litert_js, "installed_version", lambda: None)


@pytest.mark.parametrize("model", [[], ["--model", str(DIGITS)]], ids=["run", "model"])
@pytest.mark.parametrize(("device", "message"), [*LACKING.items(), *WRONG.items()])
def test_the_device_is_checked_before_anything_is_built(device, message, model, bare, tmp_path, monkeypatch, capsys):
    if device not in LACKING:
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
    assert main_status(["benchmark", *model, "--device", device]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith(message)
    assert not list(tmp_path.iterdir()), "neither a run nor an image"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (["--cores", "4096"], "benchmark.cores: must be among the cores that this process may use: "),
        (["--device", "browser", "--xnnpack", "off"], "benchmark.xnnpack: must be on in a browser, got off. LiteRT.js"),
    ],
)
def test_an_unsupported_request_is_refused_before_anything_is_built(how, message, bare, tmp_path, capsys):
    assert main_status(["benchmark", *how]) == 2
    assert capsys.readouterr().err.startswith(message) and not list(tmp_path.iterdir())


def test_a_run_that_benchmark_makes_keeps_nothing_of_the_call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starting, "make_plan", lambda recipe, store: None)
    made, _ = starting.open_or_start(
        None, None, {"benchmark.cores": [0], "export.per_tensor": True, "distill.epochs": 2}
    )
    assert made.recipe.benchmark.cores == (0,) and made.recipe.export.per_tensor and made.recipe.distill.epochs == 2
    again = open_run(made.folder).recipe
    assert again.benchmark.cores == () and not again.export.per_tensor and again.distill.epochs == 2


def test_the_device_in_the_recipe_of_a_run_is_checked_too(bare, tmp_path):
    start_run(compose(settings={"benchmark.device": "fridge:4"}), tmp_path / "run", Path("store"))
    with pytest.raises(UnknownNameError, match="must be one of host, ssh, adb, browser, got 'fridge:4'"):
        kd2mobile.benchmark(tmp_path / "run")
    with pytest.raises(InstallationError, match="must find LiteRT.js"):
        kd2mobile.benchmark(tmp_path / "run", device="browser")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
