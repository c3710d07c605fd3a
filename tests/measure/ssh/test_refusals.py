"""What OpenSSH says when it cannot connect, in its own words, and what is made of it."""

import shutil
from pathlib import Path

import pytest

from kd2mobile.measure.ssh.address import parsed
from kd2mobile.measure.ssh.refusals import refusal

needs_ssh = pytest.mark.skipif(shutil.which("ssh") is None, reason="OpenSSH's client is not installed")
NONE = Path("none")
"""`ssh -F none` reads no configuration."""
CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Someone could be eavesdropping on you right now (man-in-the-middle attack)!
It is also possible that a host key has just been changed.
The fingerprint for the ED25519 key sent by the remote host is
SHA256:5kI5tcPxtlFTS3s1hNrZE9PbzY7zbZDAJjFaY4u7MXk.
Please contact your system administrator.
Add correct host key in known_hosts to get rid of this message.
Offending ED25519 key in known_hosts:1
Host key for [board]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = """No ED25519 host key is known for [board]:2222 and you have requested strict checking.
Host key verification failed.
"""
UNPROTECTED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Permissions 0644 for 'key' are too open.
It is required that your private key files are NOT accessible by others.
This private key will be ignored.
Load key "key": bad permissions
pi@board: Permission denied (publickey,password).
"""


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        (CHANGED, "must have its known host key, got another key. Either the board was reinstalled or"),
        (UNKNOWN, "must have a known host key, got an unknown key. Run `ssh -p 2222 pi@board` once and"),
        (
            UNPROTECTED,
            "must be given files that only their owner can read and write, got WARNING: UNPROTECTED PRIVATE KEY",
        ),
        (
            "pi@board: Permission denied (publickey,password).\n",
            "must accept a login by key, without a password, got pi@board: Permission denied "
            "(publickey,password). `ssh",
        ),
        (
            "Received disconnect from 192.168.1.20 port 2222:2: Too many authentication failures\n"
            "Disconnected from 192.168.1.20 port 2222\n",
            "must accept a login by key, without a password, got Received disconnect from 192.168.1.20",
        ),
        (
            "ssh: Could not resolve hostname board: Name or service not known\n",
            "must be a known host, got ssh: Could not resolve hostname board: Name or service not known. ",
        ),
        (
            "ssh: connect to host board port 2222: Connection refused\n",
            "must answer ssh, got ssh: connect to host",
        ),
        ("ssh: connect to host board port 2222: Connection timed out\n", "must be reachable, got ssh: connect to host"),
        (
            "ssh: connect to host board port 2222: No route to host\n",
            "must be reachable, got ssh: connect to host",
        ),
        ("Connection timed out during banner exchange\n", "must be reachable, got Connection timed out during banner"),
        ("Timeout, server board not responding.\n", "must be reachable, got Timeout, server board not responding"),
        (
            "config: line 1: Bad configuration option: nonsense\nconfig: terminating, 1 bad configuration options\n",
            "must have a valid ssh configuration, got config: line 1: Bad configuration option: nonsense. ",
        ),
        ("config line 1: Bad port 'abc'.\n", "must have a valid ssh configuration, got config line 1: Bad"),
        (
            "kex_exchange_identification: Connection closed by remote host\n",
            "must speak ssh, got kex_exchange_identification: Connection closed by remote host. Check that",
        ),
        (
            "Unable to negotiate with 192.168.1.20 port 22: no matching host key type found. Their offer: ssh-rsa\n",
            "must speak ssh, got Unable to negotiate with 192.168.1.20 port 22",
        ),
        ("Something new\nat last\n", "must accept an ssh connection, got at last. Try `ssh -p 2222 pi@board`."),
        ("", "must accept an ssh connection, got no message. Try"),
    ],
)
def test_each_has_an_error_with_a_next_step(stderr, expected):
    error = str(refusal(parsed("pi@board:2222"), stderr))
    assert error.startswith(f"ssh:pi@board:2222: {expected}") and error[-1] in ".?" and "\n" not in error


def test_the_command_that_forgets_a_key():
    forget = "`ssh-keygen -f known_hosts -R {}` removes the old key".format
    assert forget("'[board]:2222'") in str(refusal(parsed("pi@board:2222"), CHANGED, NONE))
    assert forget("board") in str(refusal(parsed("pi@board"), CHANGED, NONE))


@needs_ssh
def test_the_command_that_forgets_the_key_of_an_alias(tmp_path):
    config = tmp_path / "config"
    config.write_text("Host board\n HostName 192.0.2.5\n Port 2200\n")
    stderr = CHANGED.replace("in known_hosts:1", "in my keys/known:12")
    assert "`ssh-keygen -f 'my keys/known' -R '[192.0.2.5]:2200'` removes" in str(
        refusal(parsed("board"), stderr, config)
    )
    config.write_text("Host board\n HostName 192.0.2.5\n Port 2200\n HostKeyAlias pi5\n")
    assert "`ssh-keygen -f 'my keys/known' -R pi5` removes" in str(refusal(parsed("board"), stderr, config))


@needs_ssh
@pytest.mark.parametrize(("file", "kept"), [("/dev/null", False), ("none", False), ("keys/known /dev/null", True)])
def test_a_missing_key_is_reported_first(file, kept, tmp_path):
    config = tmp_path / "config"
    config.write_text(f"UserKnownHostsFile {file}\n")
    error = str(refusal(parsed("board"), UNKNOWN, config))
    once = f"un `ssh -F {config} board` once and compare the fingerprint that it shows; it is kept then."
    first = f"No key is kept while UserKnownHostsFile is {file} in the ssh configuration: name a file there, then r"
    assert error.endswith(f"got an unknown key. {'R' if kept else first}{once}")
