"""benchmarks/arm.py as far as it goes without qemu: what it compares, records and refuses. The rest is a benchmark."""

import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from kd2mobile.errors import ModelFileError

MODEL = Path(__file__).parents[2] / "models" / "mobilenet025-digits-int8" / "model.tflite"


@pytest.fixture(scope="module")
def arm(benchmark_script):
    return benchmark_script("arm")


@pytest.fixture(scope="module")
def aarch64(benchmark_script):
    return benchmark_script("aarch64")


class Here:
    """This Python in the place of Arm's."""

    def command(self, cpu, *words):
        return [sys.executable, *words]

    def features(self, cpu):
        return []

    def versions(self):
        return {"qemu": "none"}


def test_a_python_that_is_no_other_agrees_on_every_image(arm, digit_folder):
    request = arm["thinned"](arm["of_folder"]([MODEL], digit_folder), 6)
    assert request.data == "two" and list(request.labels) == [0, 0, 0, 1, 1, 1]
    record = arm["compared"](Here(), request)
    assert (record["model"], record["input_px"], record["n"]) == ("mobilenet025", 32, 6)
    assert [row["cpu"] for row in record["answers"]] == list(record["cpus"]) == list(arm["CPUS"])
    for row in record["answers"]:
        assert row["precision"] == "int8" and row["xnnpack"] is True
        assert row["agreement"] == 1.0 and row["largest_difference"] == 0.0
        assert row["top1"] == row["here_top1"] > 0.5


def test_agreement_is_of_the_likeliest_class(arm):
    here = np.array([[0.5, 0.5, 0.0], [0.2, 0.7, 0.1], [0.0, 0.1, 0.9], [0.6, 0.3, 0.1]], np.float32)
    there = {"top1": [0, 1, 2, 1], "probabilities": [[0.5, 0.5, 0], [0.2, 0.6, 0.2], [0, 0.1, 0.9], [0.35, 0.55, 0.1]]}
    result = arm["agreement"](here, there | {"xnnpack": False}, np.array([0, 0, 2, 1]))
    assert result["largest_difference"] == pytest.approx(0.25) and result["xnnpack"] is False
    assert (result["agreement"], result["top1"], result["here_top1"]) == (0.75, 0.75, 0.5)


def test_all_images_are_used_unless_fewer_are_requested(arm):
    request = arm["Request"]("some", [], [Path(str(n)) for n in range(10)], np.arange(10))
    assert list(arm["thinned"](request, 0).labels) == list(range(10)) == list(arm["thinned"](request, 99).labels)
    few = arm["thinned"](request, 4)
    assert list(few.labels) == [0, 3, 6, 9] and [path.name for path in few.photos] == ["0", "3", "6", "9"]


def test_the_processor_that_litert_reads_is_the_one_that_is_emulated(aarch64, tmp_path):
    space = aarch64["UserSpace"](tmp_path, tmp_path / "site", tmp_path / "python3.11", "qemu-aarch64-static")
    for cpu, known in aarch64["CPUS"].items():
        command = space.command(cpu, "-c", "pass")
        assert command[:5] == ["qemu-aarch64-static", "-cpu", cpu, "-L", tmp_path]
        assert command[5:] == ["-E", f"PYTHONPATH={tmp_path / 'site'}", space.python, "-s", "-B", "-c", "pass"]
        fields = dict(line.split("\t: ") for line in (tmp_path / "proc" / "cpuinfo").read_text().split("\n") if line)
        assert fields["CPU implementer"] == "0x41" and fields["CPU part"] == known.part
        assert (tmp_path / "sys/devices/system/cpu/possible").read_text() == "0\n"


@pytest.mark.parametrize(
    ("machine", "has", "why"),
    [
        ("aarch64", {}, "the comparison is with x86-64, and this is aarch64"),
        ("x86_64", {}, "no qemu-aarch64-static on this machine. On Debian: apt-get install qemu-user-static"),
        ("x86_64", {"qemu-aarch64"}, "no apt-get and no dpkg-deb here, and Arm's Python comes from Debian's packages"),
    ],
)
def test_a_machine_that_cannot_emulate_gets_the_reason(aarch64, tmp_path, monkeypatch, machine, has, why):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(aarch64["shutil"], "which", lambda tool: tool if tool in has else None)
    with pytest.raises(aarch64["InstallationFailed"], match=f"^{why}$"):
        aarch64["user_space"](tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_a_half_made_user_space_is_made_again(aarch64, tmp_path, monkeypatch):
    done = []

    def unpack(folder, root):
        done.append("unpacked")
        (root / "usr" / "bin").mkdir(parents=True)
        (root / "usr" / "bin" / "python3.11").touch()

    def install(python, site):
        if "refused" not in done:
            done.append("refused")
            raise aarch64["InstallationFailed"]("pip ended with 1: ERROR: no network")
        done.append("installed")

    there = aarch64["user_space"].__globals__
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(aarch64["shutil"], "which", lambda tool: tool)
    monkeypatch.setitem(there, "_unpack", unpack)
    monkeypatch.setitem(there, "_install", install)
    with pytest.raises(aarch64["InstallationFailed"], match="no network"):
        aarch64["user_space"](tmp_path)
    assert not (tmp_path / aarch64["MARK"]).exists()
    space = aarch64["user_space"](tmp_path)
    assert space.python == tmp_path / "root" / "usr" / "bin" / "python3.11"
    assert aarch64["user_space"](tmp_path) == space
    assert done == ["unpacked", "refused", "unpacked", "installed"], "made once"


def test_the_message_of_a_tool_is_passed_on_in_one_line(aarch64):
    code = "import sys; print('E: no such package\\nmore', file=sys.stderr); sys.exit(100)"
    with pytest.raises(aarch64["InstallationFailed"], match="ended with 100: E: no such package$"):
        aarch64["_run"]([sys.executable, "-c", code])


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--model", "x.tflite"], 2, "--model and --data go together"),
        (["--run", "nowhere"], 2, "arm.py: nowhere: must hold a run, got none."),
        (["--model", str(MODEL), "--data", "PHOTOS"], 2, "no qemu here"),
    ],
)
def test_bad_input_ends_with_a_line(arm, digit_folder, monkeypatch, capsys, words, status, message):
    def none(folder):
        raise arm["InstallationFailed"]("no qemu here")

    monkeypatch.setitem(arm["main"].__globals__, "user_space", none)
    monkeypatch.setattr(sys, "argv", ["arm.py", *(str(digit_folder) if word == "PHOTOS" else word for word in words)])
    with pytest.raises(SystemExit) as ended:
        arm["main"]()
    assert ended.value.code == status
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_files_of_other_classes_or_none_are_refused(arm, tiny_tflite, digit_folder):
    for files, got in (([tiny_tflite], "none"), ([MODEL, tiny_tflite], "none and 10 classes")):
        with pytest.raises(ModelFileError, match=f"must carry the same classes as all the files, got {got}. "):
            arm["of_folder"](files, digit_folder)
