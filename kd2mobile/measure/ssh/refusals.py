"""What OpenSSH says when it cannot connect, and what to do about each."""

import re
from pathlib import Path

from kd2mobile.errors import DeviceError
from kd2mobile.measure.ssh.address import Address

_CONFIGURE = "Check the ssh configuration."
_SAID = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED|POSSIBLE DNS SPOOFING",
        "must have the host key that is known for it",
        "another key",
        "Somebody may be listening in, or the board was installed anew. If you know that it was, "
        "`ssh-keygen -R '{known_as}'` forgets the old key, then `{by_hand}` shows the new one.",
    ),
    (
        "host key is known for|Host key verification failed|authenticity of host",
        "must have a host key that is known",
        "an unknown one",
        "Run `{by_hand}` once and compare the fingerprint that it shows; it is kept then.",
    ),
    (
        "UNPROTECTED PRIVATE KEY FILE|Bad owner or permissions|bad permissions",
        "must be given files that nobody else can write or read",
        None,
        "Correct their permissions: `chmod 600` for a key.",
    ),
    (
        "Permission denied|Too many authentication failures|No supported authentication methods",
        "must let you in by a key, without a password",
        None,
        "`{by_hand}` must log in without asking: `ssh-copy-id` brings a key there, `ssh-add` unlocks one.",
    ),
    (
        "Could not resolve hostname|Name or service not known",
        "must be a host that is known here",
        None,
        "Check its name, or give its number.",
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
        "Is the board on, and in this network?",
    ),
    (
        "bad configuration option|can't open user config file|no argument after|unsupported option|bad port",
        "must have an ssh configuration that can be read",
        None,
        _CONFIGURE,
    ),
    (
        "kex_exchange_identification|banner|Connection (closed|reset) by|Unable to negotiate|"
        "Protocol mismatch|Connection to .* closed",
        "must speak ssh",
        None,
        "Is it an ssh server, and does it let you in? Try `{by_hand}`.",
    ),
)
"""What it says, what must hold, what was found (None: its own words), what to do."""


def refusal(address: Address, said: str, config: Path | None = None) -> DeviceError:
    """The error for what ssh said on its standard error. config: that it was given."""
    lines = [line.strip() for line in said.splitlines() if line.strip(" @\t\r")]
    last = lines[-1].rstrip(".") if lines else "no message"
    for pattern, must, got, next_step in _SAID:
        if found := [line for line in lines if re.search(pattern, line, re.IGNORECASE)]:
            words = got or found[0].strip("@ ").rstrip(".")
            hands = next_step.format(by_hand=address.by_hand(config), known_as=address.known_as)
            return DeviceError(address, must, words, hands)
    return DeviceError(address, "must let ssh in", last, f"Try `{address.by_hand(config)}`.")
