"""A browser as a device: this host serves a page, and the browser that opens it measures."""

import base64
import hashlib
import os
import re
import sys
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from kd2mobile.errors import RecipeError
from kd2mobile.measure.browser.device import Options
from kd2mobile.measure.browser.litert_js import litert_js, web_folder
from kd2mobile.measure.browser.messages import Hello, Timed
from kd2mobile.measure.browser.server import Reply, Route, serve, tls_context
from kd2mobile.measure.browser.session import PATIENCE, Patience, Repeated, Session
from kd2mobile.measure.browser.user_agent import browser_words
from kd2mobile.measure.files import Answered, FromDevice, Opened
from kd2mobile.measure.host.measure import nothing_to_evaluate
from kd2mobile.measure.latency import latency_of
from kd2mobile.measure.litert.worker import Profile
from kd2mobile.measure.protocol import Protocol, Setting
from kd2mobile.measure.record import EVALUATED
from kd2mobile.pixels import decoder_words
from kd2mobile.progress import bar, say
from kd2mobile.text import count_of, one_line

PAGE = Path(__file__).with_name("page")
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".wasm": "application/wasm"}
NOT_REPORTED = {
    "peak_rss_mib": "a page cannot read its peak memory",
    "conditions": "a page cannot read governor, temperature or clock",
    "affinity": "a page cannot choose its cores",
}
ON_WEBGPU = {
    "threads": "WebGPU has no number of threads",
    "xnnpack": "XNNPACK runs on the processor, and this ran on WebGPU",
}
WHY_AGAIN = {
    "hidden": "because the page was hidden. Keep it in front",
    "too short": "because its batches were too short for the browser's clock",
}
NOT_FINITE = "its outputs are not finite"
TIMES = ("init_ms", "first_run_ms", "latency_ms")


def check(address: str, options: Options, protocol: Protocol) -> None:
    """Raises RecipeError for a first setting without XNNPACK, for cores and for an unreadable certificate, and
    InstallationError without LiteRT.js. Whether the port is free is checked later, when the server starts."""
    if not protocol.settings[0].xnnpack:
        both = "LiteRT.js cannot switch it off: leave out --xnnpack, or measure on another device."
        raise RecipeError("benchmark.xnnpack", "must be on in a browser", "off", both)
    if protocol.cores:
        got = ", ".join(map(str, protocol.cores))
        raise RecipeError("benchmark.cores", "must not be given for a browser", got, "A page cannot choose its cores.")
    if options.tls:
        tls_context(*options.tls)
    litert_js()


def measure(
    address: str,
    options: Options,
    opened: Sequence[Opened],
    images: Sequence[Path],
    protocol: Protocol,
    *,
    skip_unreadable: bool = False,
    show: Callable[[str, Options], None] | None = None,
    patience: Patience = PATIENCE,
) -> FromDevice:
    """Serves the page until the browser that opens it has measured all files.

    address: unused. show: called with the URL; by default it prints the URL and opens it in this host's browser. Each
    file is timed alone; then all files are evaluated on the images, which this host renders. Float files are also
    measured on WebGPU if the browser has it. Raises what `check` raises; ModelFileError for a file that LiteRT.js
    cannot run; DeviceError for a browser that is closed or cannot run the first setting.
    """
    check(address, options, protocol)
    version, scripts = litert_js()
    session = Session(opened, images, protocol, skip_unreadable=skip_unreadable, patience=patience)
    routes = _static(scripts) | session.routes()
    with serve(routes, lan=options.lan, port=options.port, tls=options.tls, policy=_policy()) as url:
        (show or show_url)(url, options)
        hello = _follow(session)
    evaluated = np.array([one for chunk in range(len(session.chunks)) for one in session.evaluated[chunk]], int)
    skipped = [one for chunk in range(len(session.chunks)) for one in session.skipped[chunk]]
    if not len(evaluated):
        raise nothing_to_evaluate(skipped)
    answered = [_answered(file, session, hello, protocol, version) for file in range(len(opened))]
    return FromDevice(_words(hello), answered, evaluated, skipped)


def show_url(url: str, options: Options) -> None:
    """Prints the URL, with a QR code if it is served to the network, else opens it in this host's browser if the
    options allow it."""
    say(f"Open {url}")
    if options.lan:
        import segno

        say("or scan this code with a phone in the same network:")
        segno.make(url, error="m").terminal(out=sys.stderr, compact=True)
        if not options.tls:
            say("Without https, a page has no threads, no WebGPU, no camera and a coarse clock: give --tls CERT KEY.")
    elif options.open and _has_screen():
        webbrowser.open(url)


def _has_screen() -> bool:
    """Whether this host has a screen: without one, a text browser would take over the terminal."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _follow(session: Session) -> Hello:
    """Shows the progress of the page until all results have arrived; a page that is reloaded starts over."""
    event = session.next()
    while isinstance(event, Hello):
        hello = event
        say(f"measuring in {_words(hello)}")
        if not hello.webgpu and any(work.webgpu for work in session.files):
            say("this browser has no WebGPU: files are measured on WASM only")
        event = _one_visit(session)
    return hello


def _one_visit(session: Session) -> Hello | None:
    """Follows one visit. Returns the hello of the next visit if the page was reloaded, None when it is done."""
    with bar("timing in the browser", len(session.ways), "timings") as advance:
        for _ in range(len(session.ways)):
            event = _next_timed(session)
            if isinstance(event, Hello):
                return event
            advance(1)
    for line in dict.fromkeys(_untimed(session)):
        say(line)
    total = len(session.passes()) * sum(map(len, session.chunks))
    with bar("evaluating in the browser", total, "answers") as advance:
        while total > 0:
            event = session.next()
            if isinstance(event, Hello):
                return event
            total -= event.count
            advance(event.count)
    event = session.next()
    return event if isinstance(event, Hello) else None


def _next_timed(session: Session) -> Hello | Timed:
    """The next event other than a repeated timing; those are reported."""
    while isinstance(event := session.next(), Repeated):
        again = event.again
        way = "WebGPU" if again.accelerator == "webgpu" else f"WASM, {count_of(again.threads, 'thread')}"
        name = one_line(session.files[event.file].name)
        say(f"{name}, {way}: timed again from the start, {WHY_AGAIN[again.why]}")
    return event


def _untimed(session: Session) -> Iterator[str]:
    """One line for each setting that this browser cannot run."""
    for (file, accelerator, threads), timed in session.timed.items():
        if timed.fault:
            what = f"{count_of(threads, 'thread')} in this browser"
            if accelerator == "webgpu":
                what = f"{session.files[file].name} on WebGPU"
            yield one_line(f"not measured: {what}: {timed.fault}")


def _answered(file: int, session: Session, hello: Hello, protocol: Protocol, version: str) -> Answered:
    timed = session.timed
    profiles = [
        _profile(timed[file, "wasm", setting.threads], setting, hello, version)
        if setting.xnnpack
        else _without_xnnpack(setting, hello, version)
        for setting in protocol.settings
    ]
    others = []
    if gpu := timed.get((file, "webgpu", 1)):
        others.append(_on_webgpu(file, gpu, session, hello, version))
    return Answered(profiles, _all_of(session, file, "wasm"), others)


def _on_webgpu(file: int, timed: Timed, session: Session, hello: Hello, version: str) -> Answered:
    """The result on WebGPU. Outputs that are not finite only leave out its accuracy; the result on WASM stays."""
    profile = _profile(timed, None, hello, version)
    if timed.fault:
        return Answered([profile], None)
    outputs = _all_of(session, file, "webgpu")
    if np.isfinite(outputs).all():
        return Answered([profile], outputs)
    say(one_line(f"not evaluated: {session.files[file].name} on WebGPU: {NOT_FINITE}"))
    unknown = profile.unknown | dict.fromkeys(EVALUATED, NOT_FINITE)
    return Answered([msgspec.structs.replace(profile, unknown=unknown)], None)


def _all_of(session: Session, file: int, accelerator: str) -> np.ndarray:
    answers = session.outputs[file, accelerator]
    return np.concatenate([answers[chunk] for chunk in range(len(session.chunks))])


def _profile(timed: Timed, setting: Setting | None, hello: Hello, version: str) -> Profile:
    """setting: None on WebGPU."""
    where = "WASM" if timed.accelerator == "wasm" else f"WebGPU ({hello.webgpu})"
    partly = "" if timed.wholly else ", in part, the rest on WASM"
    unknown = NOT_REPORTED | (ON_WEBGPU if setting is None else {})
    if timed.fault:
        unknown |= dict.fromkeys(TIMES + (EVALUATED if setting is None else ()), timed.fault)
    elif not timed.times_ms:
        unknown["latency_ms"] = "not requested"
    return Profile(
        runtime=f"LiteRT.js {version}, {where}{partly}",
        decoder=decoder_words(),
        threads=setting.threads if setting else None,
        xnnpack=True if setting else None,
        init_ms=timed.init_ms,
        first_run_ms=timed.first_run_ms,
        latency_ms=latency_of(np.array(timed.times_ms), timed.steps) if timed.times_ms else None,
        clock_step_ms=hello.clock_step_ms,
        isolated=hello.isolated,
        unknown=unknown,
    )


def _without_xnnpack(setting: Setting, hello: Hello, version: str) -> Profile:
    reason = "LiteRT.js has no switch for XNNPACK"
    unknown = NOT_REPORTED | dict.fromkeys(TIMES, reason)
    return Profile(
        runtime=f"LiteRT.js {version}",
        decoder=decoder_words(),
        threads=setting.threads,
        xnnpack=False,
        clock_step_ms=hello.clock_step_ms,
        isolated=hello.isolated,
        unknown=unknown,
    )


def _words(hello: Hello) -> str:
    cores = count_of(hello.cores, "core") if hello.cores else "an unknown number of cores"
    return one_line(", ".join(filter(None, (f"browser: {browser_words(hello.user_agent)}", hello.model, cores))))


def _static(scripts: dict[str, Path]) -> dict[tuple[str, str], Route]:
    """The page's own files and LiteRT.js's."""
    files = {file.name: file for file in PAGE.iterdir() if file.suffix in KINDS}
    files |= {"": PAGE / "index.html", "classifier.js": web_folder() / "classifier.js"}
    files |= {f"node_modules/{path}": file for path, file in scripts.items() if file.suffix in KINDS}
    return {("GET", path): Route(_file(file)) for path, file in files.items()}


def _file(file: Path) -> Callable[[dict[str, str], bytes], Reply]:
    """Sends the file; the browser may cache it, because each measurement has another address and each frame loads
    LiteRT.js again."""
    return lambda query, body: Reply(KINDS[file.suffix], file, lasting=True)


def _policy() -> str:
    """The Content-Security-Policy: scripts, styles and requests of this server alone, and the inline import maps of the
    two pages."""
    maps = [
        re.search(r'<script type="importmap">(.*?)</script>', (PAGE / name).read_text("utf-8"), re.DOTALL).group(1)
        for name in ("index.html", "bench.html")
    ]
    hashes = {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in maps}
    allowed = " ".join(f"'sha256-{one}'" for one in sorted(hashes))
    return (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' {allowed}; worker-src 'self'; "
        "style-src 'self'; connect-src 'self'; img-src blob: data:; frame-src 'self'; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
    )
