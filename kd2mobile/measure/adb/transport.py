"""Android's adb: finds the phone and makes every call to it; faults become errors with a next step."""

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from kd2mobile.backend.with_parent import why_not_run, with_parent
from kd2mobile.errors import DeviceError
from kd2mobile.text import one_line

WHERE = "--device adb"
COMMAND_SECONDS = 120.0
PUSH_SECONDS = 600.0
_SEE = "`adb devices` shows what is attached."
_UNREADY = {
    "unauthorized": "Unlock it, allow this computer to debug it, then try again.",
    "authorizing": "Unlock it, allow this computer to debug it, then try again.",
    "offline": "Plug it in again, or run `adb reconnect offline`, then try again.",
    "no permissions": "This user may not use that USB device: install Android's udev rules, then plug it in again.",
}
_LOST = ("not found", "device offline", "no devices/emulators", "closed", "protocol fault", "connection reset")


class Phone(NamedTuple):
    """An attached phone. adb: the path of the program; serial: the phone's number in adb, which no record holds."""

    adb: str
    serial: str

    def call(self, *words: str, seconds: float = COMMAND_SECONDS) -> str:
        """Returns what `adb -s SERIAL WORDS` prints. Raises DeviceError if it fails."""
        done = _call([self.adb, "-s", self.serial, *words], seconds)
        if done.returncode:
            raise _fault(done, " ".join(words[:1]))
        return done.stdout

    def shell(self, command: str, seconds: float = COMMAND_SECONDS) -> str:
        """Returns what a command line prints on the phone, on standard output. Raises DeviceError if it fails."""
        return self.call("shell", command, seconds=seconds)

    def run(self, command: str, seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Returns the exit status and the whole output of a command line on the phone. Raises DeviceError only if the
        phone is lost."""
        done = _call([self.adb, "-s", self.serial, "shell", f"{command} 2>&1"], seconds)
        if done.returncode and _is_lost(done):
            raise _fault(done, "shell")
        return done.returncode, done.stdout + done.stderr

    def push(self, file: Path, path: str) -> None:
        """Copies a file to a path on the phone."""
        self.call("push", str(file), path, seconds=PUSH_SECONDS)

    def reverse(self, port: int) -> None:
        """Lets the phone reach this host's 127.0.0.1:port under the same address."""
        self.call("reverse", f"tcp:{port}", f"tcp:{port}")

    def forget_reverse(self, port: int) -> None:
        """Undoes `reverse`."""
        self.call("reverse", "--remove", f"tcp:{port}")

    def open_url(self, url: str) -> None:
        """Opens the URL in the phone's default browser. Raises DeviceError if it has none."""
        command = f"am start -a android.intent.action.VIEW -d {shlex.quote(url)}"
        status, output = self.run(command)
        if status or "Error:" in output:
            got = one_line(_last(output) or f"status {status}")
            raise DeviceError(WHERE, "must open a page in a browser", got, "Install a browser on the phone.")


def find_phone(serial: str) -> Phone:
    """The phone of that serial number, or the only one attached for an empty one. Raises DeviceError."""
    adb = shutil.which("adb")
    if adb is None:
        next_step = "Install Android's platform-tools and put its folder on the PATH."
        raise DeviceError(WHERE, "must find the program adb", "none on the PATH", next_step)
    listed = _call([adb, "devices"], COMMAND_SECONDS)
    if listed.returncode:
        raise _fault(listed, "devices")
    states = _states(listed.stdout)
    if not states:
        next_step = (
            "Connect one by USB and switch on USB debugging in its developer options, or run `adb connect HOST:PORT`."
        )
        raise DeviceError(WHERE, "must find a phone", "none attached", next_step)
    if not serial:
        usable = [name for name, state in states.items() if state == "device"] or list(states)
        if len(usable) > 1:
            must = "must be one of the attached phones"
            raise DeviceError(WHERE, must, "adb alone", f"Give {' or '.join(f'--device adb:{one}' for one in usable)}.")
        serial = usable[0]
    if serial not in states:
        attached = ", ".join(states)
        raise DeviceError(f"{WHERE}:{serial}", "must be the serial of an attached phone", f"of {attached}", _SEE)
    state = states[serial]
    if state != "device":
        next_step = _UNREADY.get(state, f"Wait until it has started Android. {_SEE}")
        raise DeviceError(f"{WHERE}:{serial}", "must be a phone that responds", f"one that is {state}", next_step)
    return Phone(adb, serial)


def _states(listed: str) -> dict[str, str]:
    """Serial number and state of each line of `adb devices`; what adb adds in brackets is left out."""
    lines = [line.split("\t") for line in listed.splitlines() if "\t" in line and not line.startswith("*")]
    return {line[0].strip(): line[1].partition("(")[0].partition(";")[0].strip() for line in lines}


def _call(words: list[str], seconds: float) -> subprocess.CompletedProcess:
    try:
        done = subprocess.run(
            with_parent(words),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        got = f"none to `adb {' '.join(words[1:])[:60]}` in {seconds:.0f} s"
        raise DeviceError(WHERE, "must answer", got, "Check the phone, then run the same command.") from None
    except OSError as fault:
        raise _not_run(words[0], fault.strerror) from fault
    if why := why_not_run(words[0], done.returncode, done.stderr):
        raise _not_run(words[0], why)
    return done


def _not_run(program: str, why: str) -> DeviceError:
    return DeviceError(program, "must be a program that runs", why, "Install Android's platform-tools again.")


def _is_lost(done: subprocess.CompletedProcess) -> bool:
    message = done.stderr.lower()
    return message.startswith(("error:", "adb:")) and any(word in message for word in _LOST)


def _fault(done: subprocess.CompletedProcess, command: str) -> DeviceError:
    message = _last(done.stderr) or _last(done.stdout) or f"status {done.returncode}"
    if _is_lost(done):
        next_step = "Plug the phone in again and run the same command; earlier measurements are kept."
        return DeviceError(WHERE, "must stay connected", one_line(message), next_step)
    return DeviceError(WHERE, f"must support `adb {command}`", one_line(message), _SEE)


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
