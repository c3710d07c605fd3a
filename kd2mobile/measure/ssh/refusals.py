"""The messages of OpenSSH when it cannot connect, and the next step for each."""

import re
import shlex
import subprocess
from pathlib import Path

from kd2mobile.errors import DeviceError
from kd2mobile.measure.ssh.address import Address

_CONFIGURE = "Check the ssh configuration."
_MESSAGES = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED|POSSIBLE DNS SPOOFING",
        "must have its known host key",
        "another key",
        "Either the board was reinstalled or the connection is intercepted. If it was reinstalled, "
        "`{forget}` removes the old key and `{by_hand}` shows the new one.",
    ),
    (
        "host key is known for|Host key verification failed|authenticity of host",
        "must have a known host key",
        "an unknown key",
        "{keep}`{by_hand}` once and compare the fingerprint that it shows; it is kept then.",
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE|Bad owner or permissions|bad permissions",
        "must be given files that only their owner can read and write",
        None,
        "Correct their permissions: `chmod 600` for a key.",
    ),
    (
        "Permission denied|Too many authentication failures|No supported authentication methods",
        "must accept a login by key, without a password",
        None,
        "`{by_hand}` must log in without a question: `ssh-copy-id` copies a key there, `ssh-add` unlocks one.",
    ),
    (
        "Could not resolve hostname|Name or service not known",
        "must be a known host",
        None,
        "Check its name, or give its IP address.",
    ),
    (
        "Connection refused",
        "must answer ssh",
        None,
        "Start the ssh server there, or give its port: ssh:USER@HOST:PORT.",
    ),
    (
        "timed out|No route to host|Network is unreachable|Host is down|not responding",
        "must be reachable",
        None,
        "Check that the board is switched on and in this network.",
    ),
    (
        "bad configuration option|can't open user config file|no argument after|unsupported option|bad port",
        "must have a valid ssh configuration",
        None,
        _CONFIGURE,
    ),
    (
        "kex_exchange_identification|banner|Connection (closed|reset) by|Unable to negotiate|"
        "Protocol mismatch|Connection to .* closed",
        "must speak ssh",
        None,
        "Check that it is an ssh server and accepts your login. Try `{by_hand}`.",
    ),
)
"""The pattern of a message, what must hold, the value after `got` (None: the message itself), and the next step."""


def refusal(address: Address, output: str, config: Path | None = None) -> DeviceError:
    """The error for a message of ssh. output: its standard error; config: the configuration file given to it."""
    lines = [line.strip() for line in output.splitlines() if line.strip(" @\t\r")]
    last = lines[-1].rstrip(".") if lines else "no message"
    for pattern, must, got, next_step in _MESSAGES:
        if matching := [line for line in lines if re.search(pattern, line, re.IGNORECASE)]:
            words = got or matching[0].strip("@ ").rstrip(".")
            fill = {"by_hand": address.by_hand(config)}
            fill |= {name: make(address, output, config) for name, make in _MADE.items() if f"{{{name}}}" in next_step}
            return DeviceError(address, must, words, next_step.format(**fill))
    return DeviceError(address, "must accept an ssh connection", last, f"Try `{address.by_hand(config)}`.")


def _forget(address: Address, output: str, config: Path | None) -> str:
    """The command that removes the outdated host key from the file in which ssh found it."""
    configured = _configured(address, config)
    host, port = configured.get("hostname", address.host), configured.get("port", str(address.port or 22))
    name = configured.get("hostkeyalias") or (host if port == "22" else f"[{host}]:{port}")
    file = re.search(r"^Offending .*\bin (.+):\d+\s*$", output, re.MULTILINE)
    return shlex.join(["ssh-keygen", *(["-f", file[1]] if file else []), "-R", name])


def _keep(address: Address, output: str, config: Path | None) -> str:
    """The beginning of the sentence about a login by hand: the option that keeps the host key, if ssh keeps none."""
    file = _configured(address, config).get("userknownhostsfile", "").partition(" ")[0]
    if file not in ("/dev/null", "none"):
        return "Run "
    return f"No key is kept while UserKnownHostsFile is {file} in the ssh configuration: name a file there, then run "


_MADE = {"forget": _forget, "keep": _keep}


def _configured(address: Address, config: Path | None) -> dict[str, str]:
    """The settings of ssh for the address, with an alias resolved; empty if ssh does not print them."""
    command = ["ssh", "-G", *address.words(config)]
    try:
        printed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        ).stdout
    except OSError:
        return {}
    return {name: value for name, _, value in (line.partition(" ") for line in printed.splitlines())}
