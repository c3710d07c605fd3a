"""A phone as a device. The benchmark_model program, if given, times the files and evaluates none; otherwise the page in
the phone's browser does both."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import numpy as np

from kd2mobile.errors import DeviceError
from kd2mobile.files import sha256_of
from kd2mobile.measure.adb import benchmark_model
from kd2mobile.measure.adb.device import Options
from kd2mobile.measure.adb.phone import conditions, core_frequencies, cores_for, mask, properties, snapshot_of, words
from kd2mobile.measure.adb.transport import COMMAND_SECONDS, Phone, find_phone
from kd2mobile.measure.files import Answered, FromDevice, Opened
from kd2mobile.measure.litert.worker import Profile
from kd2mobile.measure.protocol import Protocol, Setting
from kd2mobile.measure.record import EVALUATED
from kd2mobile.progress import bar, say
from kd2mobile.text import one_line

FOLDER = "/data/local/tmp"
"""The folder in which adb may write and start programs on any phone."""
NO_ANSWERS = "benchmark_model runs on random input and classifies no image"
NO_PERCENTILE = "benchmark_model does not print it"
NOT_READ = "not read from a phone"
SHORT = 60.0


def check(address: str, options: Options, protocol: Protocol) -> None:
    """Raises DeviceError, RecipeError or InstallationError if adb, the phone or the program that measures is
    missing."""
    _phone_for(address, options.benchmark_binary, protocol)


def measure(
    address: str,
    options: Options,
    opened: Sequence[Opened],
    images: Sequence[Path],
    protocol: Protocol,
    *,
    skip_unreadable: bool = False,
) -> FromDevice:
    """Times each file on the phone in every setting and evaluates none. The copied files are removed afterwards.

    address: the phone's serial number; empty for the only one attached. Each setting is timed without the profiler,
    then run briefly with it. Without a program, the browser of the phone measures and evaluates. Raises DeviceError.
    """
    binary = options.benchmark_binary
    phone, reported = _phone_for(address, binary, protocol)
    frequencies = core_frequencies(phone)
    if not binary:
        from_browser = _in_its_browser(phone, opened, images, protocol, skip_unreadable)
        browser = from_browser.words.removeprefix("browser: ")
        return from_browser._replace(words=f"{words(reported, len(frequencies))}, {browser}")
    for threads in protocol.threads:
        cores_for(frequencies, threads, protocol.cores)
    folder = f"{FOLDER}/kd2mobile-{os.getpid()}"
    runtime = f"benchmark_model {sha256_of(binary)[:12]}"
    profiles: list[list[Profile]] = [[] for _ in opened]
    try:
        _copy(phone, folder, binary, opened)
        with bar("timing", len(opened) * len(protocol.settings), "files") as advance:
            for setting in protocol.settings:
                cores = cores_for(frequencies, setting.threads, protocol.cores)
                for index, timed in enumerate(profiles):
                    timed.append(_profile(phone, folder, f"{index}.tflite", setting, protocol, cores, runtime))
                    advance(1)
    finally:
        _remove(phone, folder)
    answered = [Answered(timed, None) for timed in profiles]
    return FromDevice(words(reported, len(frequencies)), answered, np.array([], int), [])


def _in_its_browser(
    phone: Phone, opened: Sequence[Opened], images: Sequence[Path], protocol: Protocol, skip_unreadable: bool
) -> FromDevice:
    """The result of the page of `--device browser` on the phone, which reaches this host's 127.0.0.1 through adb."""
    from kd2mobile.measure.browser import device, measure

    ports: list[int] = []

    def show(url: str, options: device.Options) -> None:
        port = urlsplit(url).port
        phone.reverse(port)
        ports.append(port)
        phone.open_url(url)
        say("Opened in the phone's browser: keep its screen on and the page in front.")

    try:
        how = {"skip_unreadable": skip_unreadable, "show": show}
        return measure.measure("", device.Options(open=False), opened, images, protocol, **how)
    finally:
        for port in ports:
            with suppress(DeviceError):  # an unplugged phone has forgotten it
                phone.forget_reverse(port)


def _phone_for(serial: str, binary: Path | None, protocol: Protocol) -> tuple[Phone, dict[str, str]]:
    """The phone and its properties. binary: to run there, None for its browser."""
    phone = find_phone(serial)
    reported = properties(phone)
    if binary:
        benchmark_model.check_binary(binary, _abis(reported))
    else:
        from kd2mobile.measure.browser import device, measure

        measure.check("", device.Options(), protocol)
    return phone, reported


def _abis(reported: dict[str, str]) -> list[str]:
    listed = reported.get("ro.product.cpu.abilist") or reported.get("ro.product.cpu.abi") or "arm64-v8a"
    return [abi for abi in listed.split(",") if abi]


def _copy(phone: Phone, folder: str, binary: Path, opened: Sequence[Opened]) -> None:
    phone.shell(f"mkdir -p {folder}")
    phone.push(binary, f"{folder}/benchmark_model")
    phone.shell(f"chmod 755 {folder}/benchmark_model")
    with bar("copying", len(opened), "files") as advance:
        for index, one in enumerate(opened):
            phone.push(one.file.path, f"{folder}/{index}.tflite")
            advance(1)


def _remove(phone: Phone, folder: str) -> None:
    try:
        phone.shell(f"rm -rf {folder}")
    except DeviceError as fault:
        say(f"{folder} could not be removed from the phone: {fault}")


def _profile(
    phone: Phone, folder: str, file: str, setting: Setting, protocol: Protocol, cores: list[int], runtime: str
) -> Profile:
    start = f"cd {folder} && {f'taskset {mask(cores)} ' if cores else ''}./benchmark_model "
    before = snapshot_of(phone, cores)
    seconds = max(protocol.span.seconds, SHORT) + benchmark_model.MOST_SECONDS
    printed = _run(phone, start, benchmark_model.arguments(file, setting, protocol.span), seconds)
    after = snapshot_of(phone, cores)
    watched = _run(phone, start, benchmark_model.profiling(file, setting), seconds)
    state = conditions(before, after)
    unknown = dict.fromkeys(("decoder", *EVALUATED), NO_ANSWERS)
    percentiles = ("p50", "p90", "p95", "p99")
    unknown |= {f"latency_ms.{p}": NO_PERCENTILE for p in percentiles if getattr(printed.latency, p) is None}
    unknown |= dict.fromkeys(("conditions.load", "conditions.throttle_count"), NOT_READ)
    if watched.peak_mib is None:
        unknown["peak_rss_mib"] = "this benchmark_model reports only the growth of its process"
    if not cores:
        unknown["affinity"] = "the phone does not report the speed of its cores, so no core was chosen"
    return Profile(
        runtime=f"{runtime}, XNNPACK" if printed.xnnpack else runtime,
        threads=setting.threads,
        xnnpack=setting.xnnpack,
        init_ms=printed.init_ms,
        first_run_ms=printed.first_run_ms,
        latency_ms=printed.latency,
        peak_rss_mib=watched.peak_mib,
        affinity=cores or None,
        conditions=state,
        tool=msgspec.structs.replace(printed.report, ops=watched.report.ops),
        unknown=state.unknown | unknown,
    )


def _run(phone: Phone, start: str, options: list[str], seconds: float) -> benchmark_model.Printed:
    status, output = phone.run(start + " ".join(options), seconds + COMMAND_SECONDS)
    try:
        return benchmark_model.read_output(output)
    except ValueError:
        lines = [line.strip() for line in output.splitlines() if line.strip()]
        got = one_line(lines[-1]) if lines else f"nothing, with status {status}"
    where, must = "benchmark_model", "must print its timings on the phone"
    next_step = "Use a build of it for this phone that has the operators of the file."
    if "not executable" in got or "exec format" in got.lower():
        next_step = "It is built for another kind of phone: use the build for this phone's processor."
    raise DeviceError(where, must, got, next_step)
