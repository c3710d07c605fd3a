"""What a phone says of itself: its words for a record, its fast cores, and the state that it is in."""

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
    """Everything that `getprop` tells."""
    return dict(re.findall(r"^\[([^\]]+)\]: \[(.*)\]", phone.shell("getprop"), re.MULTILINE))


def words(told: dict[str, str], cores: int) -> str:
    """`adb: Google Pixel 8, Tensor G3, 9 cores, Android 14 arm64-v8a`; no serial number."""
    maker, model = told.get("ro.product.manufacturer", ""), told.get("ro.product.model", "")
    name = model if model.lower().startswith(maker.lower()) else f"{maker} {model}"
    chip = told.get("ro.soc.model") or told.get("ro.board.platform") or told.get("ro.hardware") or "unknown processor"
    system = f"Android {told.get('ro.build.version.release', '')} {told.get('ro.product.cpu.abi', '')}"
    parts = (name or "unknown phone", chip, count_of(cores, "core"), system)
    return f"adb: {', '.join(' '.join(part.split()) for part in parts)}"


def core_frequencies(phone: Phone) -> dict[int, int | None]:
    """Each core and its highest clock in kHz, None where the phone does not tell it."""
    present, _, rest = phone.shell(f"{FREQUENCIES}; true").partition("\n")
    highest = {
        int(core): int(khz) for core, khz in re.findall(r"/cpu(\d{1,4})/cpufreq/cpuinfo_max_freq:(\d{1,12})\b", rest)
    }
    cores = [core for part in present.strip().split(",") if part for core in _range(part)]
    return {core: highest.get(core) for core in cores or highest}


def cores_for(frequencies: dict[int, int | None], threads: int, wanted: Sequence[int]) -> list[int]:
    """The cores that the timed process is pinned to: those wanted, else the fastest kind, and where it has fewer cores
    than there are threads the next kinds too. Empty where the phone does not tell how fast they are.

    Raises DeviceError for cores that it does not have.

    >>> cores_for({0: 1704, 1: 1704, 2: 2367, 3: 2914}, 1, []), cores_for({0: 1704, 1: 1704, 2: 2367, 3: 2914}, 2, [])
    ([3], [2, 3])
    """
    if wanted:
        if missing := [core for core in wanted if core not in frequencies]:
            must = f"must be among the phone's cores: {', '.join(map(str, frequencies)) or 'unknown'}"
            raise DeviceError(
                "benchmark.cores", must, ", ".join(map(str, missing)), "Leave --cores out for the fastest."
            )
        return sorted(wanted)
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


class Seen:
    """A phone at one moment. state: for the record; status: of its thermal service, 0 is not throttled; cap_khz: the
    highest clock that it now allows its cores."""

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


def look(phone: Phone, cores: Sequence[int]) -> Seen:
    """The phone now. cores: whose governor and clock."""
    places = " ".join(
        f"{CPU}/cpu{core}/cpufreq/scaling_{what}" for core in cores for what in ("governor", "cur_freq", "max_freq")
    )
    clock = phone.shell(f"grep -H . {places} 2>/dev/null; true") if cores else ""
    zones, services = phone.shell(f"{ZONES}; true"), phone.shell(f"{SERVICES}; true")
    said = {what: re.findall(rf"scaling_{what}:(\S+)", clock) for what in ("governor", "cur_freq", "max_freq")}
    numbers = [
        [int(khz) for khz in said[what] if re.fullmatch(r"[0-9]{1,12}", khz)] for what in ("cur_freq", "max_freq")
    ]
    return Seen(said["governor"], *numbers, zones, services)


def conditions(before: Seen, after: Seen) -> Conditions:
    """Both states, and whether the phone throttled: its thermal service says so, or it allows its cores less than
    before. The clock itself falls as soon as the work is done, and says nothing."""
    if after.status is None and None in (before.cap_khz, after.cap_khz):
        return Conditions(before.state, after.state, None)
    capped = None not in (before.cap_khz, after.cap_khz) and after.cap_khz < before.cap_khz
    return Conditions(before.state, after.state, bool(after.status) or capped)


def _range(part: str) -> range:
    told = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
    return range(int(told[1]), int(told[2] or told[1]) + 1) if told else range(0)


def _from_service(services: str) -> float | None:
    """The hottest processor sensor (type 0) of Android's thermal service."""
    now = services.partition("Current temperatures from HAL:")[2]
    found = [float(value) for value in re.findall(r"mValue=(\d{1,6}(?:\.\d+)?), mType=0\b", now)]
    return max((value for value in found if value > 0), default=None)


def _from_zones(zones: str) -> float | None:
    kinds = dict(re.findall(r"(thermal_zone\d+)/type:(.+)", zones))
    found = [
        int(value) / 1000
        for zone, value in re.findall(r"(thermal_zone\d+)/temp:(-?\d{1,9})\b", zones)
        if kinds.get(zone, "").strip().lower().startswith(PROCESSOR_SENSORS)
    ]
    return max((value for value in found if 0 < value < 150), default=None)
