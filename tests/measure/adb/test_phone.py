"""What a phone says of itself."""

import pytest

from kd2mobile.errors import DeviceError
from kd2mobile.measure.adb.phone import Snapshot, conditions, core_frequencies, cores_for, mask, words
from kd2mobile.measure.conditions import NOT_REPORTED

from .conftest import CORES, services, zones

PIXEL = dict.fromkeys(range(4), 1704) | dict.fromkeys(range(4, 8), 2367) | {8: 2914}


def test_its_words_name_no_serial_number():
    reported = {
        "ro.product.manufacturer": "samsung",
        "ro.product.model": "SM-G991B",
        "ro.board.platform": "exynos2100",
        "ro.build.version.release": "13",
        "ro.product.cpu.abi": "arm64-v8a",
        "ro.serialno": "R5CT1234",
    }
    assert words(reported, 8) == "adb: samsung SM-G991B, exynos2100, 8 cores, Android 13 arm64-v8a"
    repeated = reported | {"ro.product.model": "Samsung A5", "ro.soc.model": "S5E9925"}
    assert words(repeated, 1) == "adb: Samsung A5, S5E9925, 1 core, Android 13 arm64-v8a"
    assert words({}, 4) == "adb: unknown phone, unknown processor, 4 cores, Android"


class StandIn:
    """A phone that answers every command line with one text."""

    def __init__(self, text):
        self.text = text

    def shell(self, command):
        return self.text


def test_its_cores():
    frequencies = core_frequencies(StandIn("0-8\n" + CORES))
    assert list(frequencies) == list(range(9)) and frequencies[0] == 1704000 and frequencies[8] == 2914000
    assert core_frequencies(StandIn("0-3,6\n")) == dict.fromkeys([0, 1, 2, 3, 6])


@pytest.mark.parametrize(
    ("threads", "expected"),
    [(1, [8]), (2, [4, 5, 6, 7, 8]), (5, [4, 5, 6, 7, 8]), (6, list(range(9))), (20, list(range(9)))],
)
def test_the_fastest_cores_that_are_as_many_as_the_threads(threads, expected):
    assert cores_for(PIXEL, threads, []) == expected


def test_requested_cores():
    assert cores_for(PIXEL, 1, [5, 4]) == [4, 5] and mask([8]) == "100" and mask([4, 5]) == "30"
    with pytest.raises(
        DeviceError, match="benchmark.cores: must be among the phone's cores: 0, 1, .*, got 9, 11. Leave"
    ):
        cores_for(PIXEL, 1, [9, 11])


def test_without_frequencies_no_core_is_chosen():
    assert cores_for(dict.fromkeys(range(4)), 1, []) == []


def snapshot(*, cap=None, status=None, degrees=None, zone=""):
    return Snapshot(["sched_pixel"], [2914000, 2367000], [cap] if cap else [], zone, services(312, status, degrees))


def test_its_state():
    state = snapshot(status=0, degrees=45.5, zone=zones(60)).state
    assert (state.governor, state.clock_mhz, state.temperature_c, state.battery_c) == (
        "sched_pixel",
        2640.5,
        45.5,
        31.2,
    )
    assert snapshot(zone=zones(60)).state.temperature_c == 60.0, "an Android before 10 has no thermal service"
    nothing = Snapshot([], [], [], "", "")
    assert nothing.state.temperature_c is None and nothing.state.battery_c is None
    fields = ("governor", "temperature_c", "clock_mhz", "load", "throttle_count", "throttled")
    assert conditions(nothing, nothing).unknown == {f"conditions.{field}": NOT_REPORTED for field in fields}


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        ({"status": 0, "degrees": 40.0}, {"status": 2, "degrees": 70.0}, True),
        ({"status": 0, "degrees": 40.0}, {"status": 0, "degrees": 50.0}, False),
        ({"cap": 2914000}, {"cap": 1500000}, True),
        ({"cap": 2914000}, {"cap": 2914000}, False),
        ({}, {}, None),
    ],
)
def test_throttling_is_reported_by_the_phone_or_follows_from_a_lower_cap(before, after, throttled):
    assert conditions(snapshot(**before), snapshot(**after)).throttled is throttled
