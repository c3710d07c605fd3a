"""What goes to a board besides files: wheels for its platform, kd2mobile's own modules, the program that runs there."""

import ast
import hashlib
import os
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path

import pytest
from msgspec.structs import replace

from kd2mobile.errors import DeviceError
from kd2mobile.measure.ssh import board as board_module
from kd2mobile.measure.ssh import connection, measure
from kd2mobile.measure.ssh.address import Address, parsed
from kd2mobile.measure.ssh.packed_modules import PACKAGES, PACKAGES_ARMV7L, pack_core, packages
from kd2mobile.measure.ssh.wheels import fetch_wheels, machine_of, platforms

from .conftest import ABOUT, PYTHON, pretending

ROOT = Path(__file__).parents[3]


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Where this machine's pip finds wheels, and nowhere else: index("tiny_thing-1.0-py3-none-any")."""
    folder = tmp_path / "index"
    folder.mkdir()
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": "/dev/null"}
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)

    def add(name, *needs):
        package, version, tag = name.split("-", 2)
        about = f"{package}-{version}.dist-info"
        needed = "".join(f"Requires-Dist: {one}\n" for one in needs)
        with zipfile.ZipFile(folder / f"{name}.whl", "w") as wheel:
            wheel.writestr(f"{package}.py", "")
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{needed}")
            wheel.writestr(
                f"{about}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
            )
            wheel.writestr(f"{about}/RECORD", "")
        return folder

    return add


@pytest.mark.parametrize(
    ("address", "parts", "by_hand"),
    [
        ("pi@board", ("pi", "board", None), "ssh pi@board"),
        ("pi@192.168.1.20:2222", ("pi", "192.168.1.20", 2222), "ssh -p 2222 pi@192.168.1.20"),
        ("alias", (None, "alias", None), "ssh alias"),
        ("pi@[fe80::1%eth0]:22", ("pi", "fe80::1%eth0", 22), "ssh -p 22 pi@fe80::1%eth0"),
    ],
)
def test_addresses(address, parts, by_hand):
    address_read = parsed(address)
    assert (
        address_read == Address(*parts) and str(address_read) == f"ssh:{address}" and address_read.by_hand() == by_hand
    )


def test_the_platforms_of_a_raspberry_pi():
    assert platforms(ABOUT)[:2] == ["manylinux_2_36_aarch64", "manylinux_2_35_aarch64"]
    assert platforms(ABOUT)[-3:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"]
    assert len(platforms(ABOUT)) == 36 - 17 + 1 + 2


def test_the_platforms_of_a_pc():
    tags = platforms(replace(ABOUT, machine="x86_64", glibc="2.28"))
    assert tags[0] == "manylinux_2_28_x86_64"
    assert tags[-3:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    assert {"manylinux2014_x86_64", "manylinux2010_x86_64"} < set(tags)


def test_a_32_bit_python_on_a_64_bit_kernel():
    pi = replace(ABOUT, bits=32, glibc="2.31")
    assert machine_of(pi) == "armv7l" and platforms(pi)[0] == "manylinux_2_31_armv7l"
    assert packages(machine_of(pi)) is PACKAGES_ARMV7L and packages("aarch64") is PACKAGES


def test_a_board_with_musl():
    assert platforms(replace(ABOUT, musl=True, glibc=None)) == [
        "musllinux_1_2_aarch64",
        "musllinux_1_1_aarch64",
        "linux_aarch64",
    ]


def test_the_packages_are_those_of_the_core():
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    known = {needed.partition(";")[0] for needed in core}
    assert {*PACKAGES, *PACKAGES_ARMV7L} <= known


def test_wheels_are_fetched_for_the_board_with_what_they_need(index, tmp_path):
    index("tiny_thing-1.0-cp311-cp311-manylinux_2_28_aarch64", "tiny-other")
    index("tiny_thing-1.1-cp311-cp311-manylinux_2_38_aarch64")
    index("tiny_thing-1.2-cp312-cp312-manylinux_2_28_aarch64")
    index("tiny_other-2.0-py3-none-any")
    (tmp_path / "out").mkdir()
    wheels = fetch_wheels(parsed("pi@board"), ABOUT, ["tiny-thing"], tmp_path / "out")
    assert [wheel.name.partition("-py3")[0] for wheel in wheels] == [
        "tiny_other-2.0",
        "tiny_thing-1.0-cp311-cp311-manylinux_2_28_aarch64.whl",
    ]


def test_a_board_that_has_no_wheel(index, tmp_path):
    index("tiny_thing-1.0-cp312-cp312-manylinux_2_28_aarch64")
    with pytest.raises(DeviceError) as refused:
        fetch_wheels(parsed("pi@board"), ABOUT, ["tiny-thing"], tmp_path)
    assert str(refused.value) == (
        "ssh:pi@board: must have wheels for its Python 3.11 on aarch64 with glibc 2.36, got No matching distribution "
        "found for tiny-thing. Use a Python version that has wheels, or a package index that has them."
    )


def test_no_pip_here(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text(f"#!/bin/sh\necho {tmp_path}/python: No module named pip >&2; exit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(
        DeviceError, match=r"must get its wheels from pip here, got no pip in this environment\. Install"
    ):
        fetch_wheels(parsed("pi@board"), ABOUT, ["tiny-thing"], tmp_path)


def test_a_board_without_a_network_is_brought_the_wheels(new_board, index, tmp_path, monkeypatch, capsys):
    board = new_board(PIP_NO_INDEX="1", PIP_FIND_LINKS="", PIP_CONFIG_FILE="/dev/null")
    index("tiny_thing-1.0-py3-none-any")
    monkeypatch.setattr(measure, "packages", lambda machine: ["tiny-thing"])
    (tmp_path / "out").mkdir()
    with board.connected() as there:
        environment, wheels = measure._install(there, there.about(), tmp_path / "out")
        assert list(wheels.values()) == ["tiny_thing-1.0-py3-none-any.whl"]
        assert [f"files/{sha256}" for sha256 in wheels] == board.kept
        stderr = capsys.readouterr().err
        assert "pip failed there (" in stderr and "No matching distribution found for tiny-thing" in stderr
        folder = board.home / ".cache" / "kd2mobile" / "environments" / environment
        assert list(folder.glob("lib/python*/site-packages/tiny_thing.py"))
        assert measure._install(there, there.about(), tmp_path / "out") == (environment, {}), "used as it is"
        monkeypatch.setattr(measure, "packages", lambda machine: ["no-such-thing"])
        with pytest.raises(DeviceError, match="must have wheels for its Python .*got No matching .* for no-such-thing"):
            measure._install(there, there.about(), tmp_path / "out")
        assert sorted(os.listdir(folder.parent)) == [environment, f"{environment}.lock"], "nothing half-made is left"
        there.clean("none", list(wheels), environment)
    assert not list((board.home / ".cache").iterdir()), "and all of it can be removed"


def test_an_environment_that_was_left_half_made_is_made_again(new_board, server, index, monkeypatch, capsys):
    """The connection is cut while it is made: that ends with it, and the next connection begins again."""
    folder = index("tiny_thing-1.0-py3-none-any")
    first = 'if [ ! -e "$HOME/first" ]; then : > "$HOME/first"; echo > "$HOME/begun"; read _ < "$HOME/gate"; fi'
    held = f'case "$1" in -m) {first}; exec {PYTHON} "$@";; esac'
    python = f"{held}\n{pretending('sys.executable = sys.argv[2]')}"
    board = new_board({"python3": python}, PIP_NO_INDEX="1", PIP_FIND_LINKS=folder, PIP_CONFIG_FILE="/dev/null")
    folder = board.home / ".cache" / "kd2mobile" / "environments" / "one"
    (folder / "left").mkdir(parents=True)
    monkeypatch.setattr(board_module, "WAITS_S", (0.0,) * 20)
    for pipe in ("begun", "gate"):
        os.mkfifo(board.home / pipe)

    def cut():
        (board.home / "begun").read_text()
        server.cut()

    cutting = threading.Thread(target=cut)
    cutting.start()
    with board.connected() as there:
        assert there.install("one", ["tiny-thing"]) is None
        cutting.join()
        assert not (folder / "left").exists() and list(folder.glob("lib/python*/site-packages/tiny_thing.py"))
        assert "the connection ended (" in capsys.readouterr().err


def test_the_core_is_packed_alike_and_without_training(tmp_path):
    for name in ("a", "b"):
        pack_core(tmp_path / name)
    one, other = (hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a", "b"))
    assert one == other
    names = zipfile.ZipFile(tmp_path / "a").namelist()
    assert {"kd2mobile/__init__.py", "kd2mobile/measure/ssh/measure_on_board.py", "kd2mobile/pixels.py"} < set(names)
    rooms = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert rooms == {"backend", "inspection", "measure"}
    assert not {"kd2mobile/inspection/inspect.py", "kd2mobile/measure/measured.py"} & set(names)
    program = "import kd2mobile.measure.ssh.measure_on_board as module; print(module.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env={"PYTHONPATH": tmp_path / "a"}, capture_output=True
    )
    assert done.stdout.decode().startswith(str(tmp_path / "a")), done.stderr


def test_what_runs_there_is_read_by_an_old_python():
    tree = ast.parse(connection.SOURCE.decode("ascii"), feature_version=(3, 6))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported <= sys.stdlib_module_names and not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
