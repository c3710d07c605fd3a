"""The description of this machine: what a reader needs to interpret a latency, and nothing that identifies its
owner."""

import os
import platform
import re
import subprocess
from pathlib import Path

from kd2mobile.text import count_of


def device_words() -> str:
    """`host: <processor>, <cores>, <system> <architecture>`."""
    return f"host: {_processor()}, {count_of(cores(), 'core')}, {platform.system()} {platform.machine()}"


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    board = _text("/proc/device-tree/model").strip("\0 \n")
    name = (match and match.group(1)) or board or _from_macos() or platform.processor() or "unknown processor"
    return " ".join(name.split())


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def _from_macos() -> str:
    if platform.system() != "Darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
