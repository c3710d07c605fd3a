"""Facts that a phone reports: its description for a record, its fast cores and its current state."""

import re
from collections.abc import Sequence

from kd2mobile.errors import DeviceError
from kd2mobile.measure.adb.transport import Phone
from kd2mobile.measure.conditions import PROCESSOR_SENSORS, Conditions, State
from kd2mobile.text import count_of

CPU = "/sys/devices/system/cpu"
FREQUENCIES = f"cat {CPU}/present; grep -H . {CPU}/cpu[0-9]*/cpufreq/cpuinfo_max_freq 2>/dev/null"
ZONES = "grep -H . /sys/class/thermal/thermal_zone*/type /sys/class/thermal/thermal_zone*/temp 2>/dev/null"
SERVICES = "dumpsys battery; dumpsys thermalservice 2>/dev/null"


def properties(phone: Phone) -> dict[str, str]:
    """All properties that `getprop` prints."""
    return dict(re.findall(r"^\[([^\]]+)\]: \[(.*)\]", phone.shell("getprop"), re.MULTILINE))


def words(reported: dict[str, str], cores: int) -> str:
    """`adb: Google Pixel 8, Tensor G3, 9 cores, Android 14 arm64-v8a`; no serial number."""
    maker, model = reported.get("ro.product.manufacturer", ""), reported.get("ro.product.model", "")
    name = model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
    chips = (reported.get(key) for key in ("ro.soc.model", "ro.board.platform", "ro.hardware"))
    chip = next(filter(None, chips), "unknown processor")
    system = f"Android {reported.get('ro.build.version.release', '')} {reported.get('ro.product.cpu.abi', '')}"
    parts = (name or "unknown phone", chip, count_of(cores, "core"), system)
    return f"adb: {', '.join(' '.join(part.split()) for part in parts)}"


def core_frequencies(phone: Phone) -> dict[int, int | None]:
    """Each core and its highest clock in kHz, None where the phone does not report it."""
    present, _, rest = phone.shell(f"{FREQUENCIES}; true").partition("\n")
    highest = {
        int(core): int(khz) for core, khz in re.findall(r"/cpu(\d{1,4})/cpufreq/cpuinfo_max_freq:(\d{1,12})\b", rest)
    }
    cores = [core for part in present.strip().split(",") if part for core in _range(part)]
    return {core: highest.get(core) for core in cores or highest}


def cores_for(frequencies: dict[int, int | None], threads: int, requested: Sequence[int]) -> list[int]:
    """The cores that the timed process is pinned to: the requested ones, else those of the fastest kind, and of the
    next kinds too if it has fewer cores than there are threads. Empty where the phone does not report their clocks.

    Raises DeviceError for cores that it does not have.

    >>> cores_for({0: 1704, 1: 1704, 2: 2367, 3: 2914}, 1, []), cores_for({0: 1704, 1: 1704, 2: 2367, 3: 2914}, 2, [])
    ([3], [2, 3])
    """
    if requested:
        if missing := [core for core in requested if core not in frequencies]:
            must = f"must be among the phone's cores: {', '.join(map(str, frequencies)) or 'unknown'}"
            raise DeviceError(
                "benchmark.cores", must, ", ".join(map(str, missing)), "Leave --cores out for the fastest."
            )
        return sorted(requested)
    known = sorted((khz for khz in frequencies.values() if khz is not None), reverse=True)
    if len(known) < len(frequencies) or not known:
        return []
    least = known[min(threads, len(known)) - 1]
    return [core for core, khz in sorted(frequencies.items()) if khz >= least]


def mask(cores: Sequence[int]) -> str:
    """The cores as `taskset` takes them, hexadecimal.

    >>> mask([4, 5, 6, 7])
    'f0'
    """
    return f"{sum(1 << core for core in cores):x}"


class Snapshot:
    """The state of a phone at one moment. state: for the record; status: of its thermal service, where 0 is not
    throttled; cap_khz: the sum of the highest clocks that it currently allows its cores."""

    def __init__(self, governors: list[str], clocks: list[int], caps: list[int], zones: str, services: str):
        battery = re.search(r"^\s*temperature: (\d{1,6})\b", services, re.MULTILINE)
        status = re.search(r"Thermal Status: (\d{1,6})\b", services)
        self.status = int(status[1]) if status else None
        self.cap_khz = sum(caps) if caps else None
        self.state = State(
            governor=", ".join(sorted(set(governors))) or None,
            temperature_c=_from_service(services) or _from_zones(zones),
            clock_mhz=round(sum(clocks) / len(clocks) / 1000, 1) if clocks else None,
            battery_c=int(battery[1]) / 10 if battery else None,
        )


def snapshot_of(phone: Phone, cores: Sequence[int]) -> Snapshot:
    """The current state of the phone. cores: those whose governor and clock are read."""
    paths = " ".join(
        f"{CPU}/cpu{core}/cpufreq/scaling_{what}" for core in cores for what in ("governor", "cur_freq", "max_freq")
    )
    clock = phone.shell(f"grep -H . {paths} 2>/dev/null; true") if cores else ""
    zones, services = phone.shell(f"{ZONES}; true"), phone.shell(f"{SERVICES}; true")
    values = {what: re.findall(rf"scaling_{what}:(\S+)", clock) for what in ("governor", "cur_freq", "max_freq")}
    numbers = [
        [int(khz) for khz in values[what] if re.fullmatch(r"[0-9]{1,12}", khz)] for what in ("cur_freq", "max_freq")
    ]
    return Snapshot(values["governor"], *numbers, zones, services)


def conditions(before: Snapshot, after: Snapshot) -> Conditions:
    """Both states, and whether the phone throttled: its thermal service reports it, or it allows its cores a lower
    clock than before. The clock itself does not show it, because it falls as soon as the work is done."""
    if after.status is None and None in (before.cap_khz, after.cap_khz):
        return Conditions(before.state, after.state, None)
    capped = None not in (before.cap_khz, after.cap_khz) and after.cap_khz < before.cap_khz
    return Conditions(before.state, after.state, bool(after.status) or capped)


def _range(part: str) -> range:
    match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
    return range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)


def _from_service(services: str) -> float | None:
    """The hottest processor sensor (type 0) of Android's thermal service."""
    now = services.partition("Current temperatures from HAL:")[2]
    temperatures = [float(value) for value in re.findall(r"mValue=(\d{1,6}(?:\.\d+)?), mType=0\b", now)]
    return max((value for value in temperatures if value > 0), default=None)


def _from_zones(zones: str) -> float | None:
    kinds = dict(re.findall(r"(thermal_zone\d+)/type:(.+)", zones))
    temperatures = [
        int(value) / 1000
        for zone, value in re.findall(r"(thermal_zone\d+)/temp:(-?\d{1,9})\b", zones)
        if kinds.get(zone, "").strip().lower().startswith(PROCESSOR_SENSORS)
    ]
    return max((value for value in temperatures if 0 < value < 150), default=None)
