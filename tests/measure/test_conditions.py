"""What a device tells of its state, read from made-up /sys and /proc trees."""

import pytest

from kd2mobile.measure.conditions import Conditions, State, conditions_of, read_state


def write(root, name, text):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(f"{text}\n")


def test_a_board_reports_governor_clock_and_temperature(tmp_path):
    for core, khz in enumerate((1_800_000, 1_800_000, 600_000, 600_000)):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor", "ondemand")
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", khz)
    write(tmp_path, "sys/class/thermal/thermal_zone0/type", "cpu-thermal")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", 61_234)
    write(tmp_path, "sys/class/thermal/thermal_zone1/type", "battery")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", 90_000)
    state = read_state(root=tmp_path)
    assert (state.governor, state.clock_mhz, state.temperature_c) == ("ondemand", 1200.0, 61.234)
    assert read_state((0, 1), tmp_path).clock_mhz == 1800.0


def test_a_desktop_reports_its_clock_in_cpuinfo_and_its_throttling(tmp_path):
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\ncpu MHz\t\t: 3000.5\nprocessor\t: 1\ncpu MHz\t\t: 2000.5")
    for core in (0, 1):
        write(tmp_path, f"sys/devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count", 3)
    write(tmp_path, "sys/class/hwmon/hwmon0/name", "k10temp")
    write(tmp_path, "sys/class/hwmon/hwmon0/temp1_input", 55_000)
    state = read_state(root=tmp_path)
    assert (state.clock_mhz, state.temperature_c, state.throttle_count) == (2500.5, 55.0, 6)


def test_what_is_not_reported_is_none_with_a_reason(tmp_path):
    state = read_state(root=tmp_path)
    assert (state.governor, state.clock_mhz, state.temperature_c, state.throttle_count) == (None,) * 4
    unknown = conditions_of(state, state).unknown
    fields = ("governor", "temperature_c", "clock_mhz", "throttle_count", "throttled")
    assert unknown == {f"conditions.{field}": "not reported by this system" for field in fields}


def test_the_clock_of_a_virtual_machine_is_not_a_clock(tmp_path):
    """It stands still, so that it would say that nothing throttled."""
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\ncpu MHz\t\t: 2596.1")
    state = read_state(root=tmp_path)
    assert state.clock_mhz is None and conditions_of(state, state).throttled is None


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        (State(clock_mhz=2000.0), State(clock_mhz=1801.0), False),
        (State(clock_mhz=2000.0), State(clock_mhz=1799.0), True),
        (State(throttle_count=4), State(throttle_count=5), True),
        (State(throttle_count=4), State(throttle_count=4), None),
        (State(), State(), None),
    ],
)
def test_throttling_is_a_count_or_a_slower_clock(before, after, throttled):
    assert conditions_of(before, after) == Conditions(before, after, throttled)
