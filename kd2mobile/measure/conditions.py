"""The state of a Linux device while it is measured: governor, temperature, clock, load, throttling."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

SLOWED = 0.9
"""A clock below this part of what it was when timing began is throttled."""
PROCESSOR_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "cpu", "x86_pkg_temp", "soc")
"""Beginnings of the names of sensors that sit at the processor."""
Degrees = Annotated[float, Meta(ge=-300, lt=1e6)]
NOT_REPORTED = "not reported by this system"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """One moment. governor: of the clock, such as `performance`; temperature_c: of the processor's hottest sensor;
    clock_mhz: the mean of the cores; load: the system's of one minute; throttle_count: events since it started;
    battery_c: of a phone. A field is None where the system does not report it."""

    governor: str | None = None
    temperature_c: Degrees | None = None
    clock_mhz: Annotated[float, Meta(ge=0, lt=1e9)] | None = None
    load: Annotated[float, Meta(ge=0, lt=1e9)] | None = None
    throttle_count: Annotated[int, Meta(ge=0, lt=2**53)] | None = None
    battery_c: Degrees | None = None


class Conditions(msgspec.Struct, frozen=True):
    """The state just before the first timed run and just after the last one; throttled: None if unknown."""

    before: State
    after: State
    throttled: bool | None

    @property
    def unknown(self) -> dict[str, str]:
        """The reason for every field that the device did not report; `battery_c`, which only phones have, is left
        out."""
        fields = [
            field
            for field in State.__struct_fields__
            if None in (getattr(self.before, field), getattr(self.after, field))
        ]
        fields += ["throttled"] * (self.throttled is None)
        return {f"conditions.{field}": NOT_REPORTED for field in fields if field != "battery_c"}


def conditions_of(before: State, after: State) -> Conditions:
    """Both states, and whether the device throttled: it counted an event, or its clock fell by a tenth.

    >>> conditions_of(State(clock_mhz=2000.0), State(clock_mhz=1500.0)).throttled
    True
    """
    counts = before.throttle_count, after.throttle_count
    if None not in counts and counts[0] < counts[1]:
        return Conditions(before, after, True)
    if before.clock_mhz is None or after.clock_mhz is None:
        return Conditions(before, after, None)
    return Conditions(before, after, after.clock_mhz < SLOWED * before.clock_mhz)


def read_state(cores: Sequence[int] = (), root: Path = Path("/")) -> State:
    """The state of this host now. cores: whose governor and clock, none for all; root: where /sys and /proc are."""
    cpu = root / "sys/devices/system/cpu"
    read_cores = cores or sorted(int(folder.name[3:]) for folder in cpu.glob("cpu[0-9]*"))
    governors = {_text(cpu / f"cpu{core}/cpufreq/scaling_governor") for core in read_cores} - {None}
    counts = [_number(cpu / f"cpu{core}/thermal_throttle/core_throttle_count") for core in read_cores]
    known = [count for count in counts if count is not None]
    return State(
        governor=", ".join(sorted(governors)) or None,
        temperature_c=_temperature(root),
        clock_mhz=_clock(root, read_cores),
        load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        throttle_count=int(sum(known)) if known else None,
    )


def _clock(root: Path, cores: Sequence[int]) -> float | None:
    khz = [_number(root / f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") for core in cores]
    mhz = [value / 1000 for value in khz if value is not None]
    cpuinfo = _text(root / "proc/cpuinfo") or ""
    virtual = re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE)
    if not mhz and not virtual:  # a virtual machine reports the nominal clock, whatever the processor does
        clocks = re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)
        mhz = [float(value) for core, value in enumerate(clocks) if core in cores]
    return round(sum(mhz) / len(mhz), 1) if mhz else None


def _temperature(root: Path) -> float | None:
    zones = [(_text(zone / "type"), _number(zone / "temp")) for zone in root.glob("sys/class/thermal/thermal_zone*")]
    for sensor in root.glob("sys/class/hwmon/hwmon*"):
        zones += [(_text(sensor / "name"), _number(file)) for file in sensor.glob("temp*_input")]
    readings = [
        value / 1000
        for name, value in zones
        if value is not None and (name or "").lower().startswith(PROCESSOR_SENSORS)
    ]
    return max(readings, default=None)


def _text(file: Path) -> str | None:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return None


def _number(file: Path) -> float | None:
    try:
        return float(_text(file) or "")
    except ValueError:
        return None
