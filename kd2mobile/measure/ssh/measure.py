"""`--device ssh:USER@HOST[:PORT]`: what is measured on this host, measured on a Linux board instead."""

import hashlib
import re
import secrets
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from kd2mobile.backend.child import Refusal
from kd2mobile.errors import DeviceError, ImageError, Kd2MobileError, raised_elsewhere
from kd2mobile.files import LARGEST_JSON, decode_json, os_error, sha256_of
from kd2mobile.measure.arrays import LONGEST_HEADER, read_floats
from kd2mobile.measure.files import Answered, FromDevice, Opened
from kd2mobile.measure.host.measure import nothing_to_evaluate
from kd2mobile.measure.protocol import Protocol
from kd2mobile.measure.ssh.address import parsed
from kd2mobile.measure.ssh.board import BUSY_S, About, Board, Lost
from kd2mobile.measure.ssh.connection import Connection, check_client
from kd2mobile.measure.ssh.device import Options
from kd2mobile.measure.ssh.measure_on_board import Answer, FileThere, Request
from kd2mobile.measure.ssh.packed_modules import pack_core, packages
from kd2mobile.measure.ssh.wheels import fetch_wheels, machine_of
from kd2mobile.progress import bar, say
from kd2mobile.text import count_of, size_of

OLDEST_PYTHON = (3, 11)
AGAIN = "Run the command again."
MOST_DEATHS = 2
"""So often a measurement that was ended there, as by a reboot, is begun again."""


def check(address: str, options: Options, protocol: Protocol) -> None:
    """Raises DeviceError for an address that none can be, or where this host lacks the client."""
    check_client(parsed(address), options.ssh_config)


def measure(
    address: str,
    options: Options,
    opened: Sequence[Opened],
    images: Sequence[Path],
    protocol: Protocol,
    *,
    skip_unreadable: bool = False,
) -> FromDevice:
    """Copies files, images and `kd2mobile.measure` to the board, measures there as this host does, brings
    the answers back and removes what was copied.

    address: see `address.parsed`. A cut connection is opened anew and the measurement goes on; where it stays cut, or
    after Ctrl-C, what was copied stays for the next time. Raises what `Device.measure` does.
    """
    with (
        Connection(parsed(address), options.ssh_config) as connection,
        tempfile.TemporaryDirectory(prefix="kd2mobile-") as folder,
    ):
        # look before anything is copied: a board that cannot do it costs nothing
        board, here = Board(connection), Path(folder)
        about = board.about()
        _check(board, about)
        hashes, unreadable = _hashes(images, skip_unreadable)
        core = here / "core.zip"
        pack_core(core)
        copied = {sha256_of(core): core} | {sha256_of(one.file.path): one.file.path for one in opened}
        files = [FileThere(sha256_of(one.file.path), one.resize, one.file.mean, one.file.std) for one in opened]
        copied |= {sha256: images[index] for index, sha256 in hashes.items()}
        _check_room(board, about, copied)
        # install once per board, then the job; what it brought is removed even if it fails
        environment, wheels = _install(board, about, here)
        request = Request(files, list(hashes.values()), protocol, skip_unreadable)
        removed = [] if options.keep == "all" else [*copied, *wheels]
        job = secrets.token_hex(8)
        try:
            _run(board, job, environment, sha256_of(core), copied, request)
            answer = _fetched(board, job, here, request)
            outputs = [
                _outputs(board, job, here, number, (len(answer.evaluated), one.classifier.classes))
                for number, one in enumerate(opened if not answer.refusal else [])
            ]
        except KeyboardInterrupt:
            board.stop(job)
            say(f"{board.address}: the copied files stay there for the next measurement, in ~/.cache/kd2mobile")
            raise
        except Kd2MobileError as fault:
            if not isinstance(fault, Lost):
                board.clean(job, removed, None)
            raise
        board.clean(job, removed, environment if options.keep == "nothing" else None)
    indices, names = np.array(list(hashes)), {sha256: str(path) for sha256, path in copied.items()}
    if answer.refusal:
        raise _as_raised(answer.refusal, names)
    skipped_images = unreadable | {
        int(indices[index]): _with_local_names(reason, names) for index, reason in answer.skipped
    }
    return FromDevice(
        answer.words.replace("host:", "ssh:", 1),
        [
            Answered(profiles, outputs_of_file)
            for profiles, outputs_of_file in zip(answer.profiles, outputs, strict=True)
        ],
        indices[answer.evaluated],
        [(images[index], reason) for index, reason in sorted(skipped_images.items())],
    )


def _check(board: Board, about: About) -> None:
    if about.system != "Linux":
        raise DeviceError(board.address, "must run Linux", about.system, "Install kd2mobile there and measure there.")
    if about.version < OLDEST_PYTHON:
        version, oldest = (".".join(map(str, numbers)) for numbers in (about.version, OLDEST_PYTHON))
        newer = "Install a newer one as well: python3.11 to python3.14 on the PATH are used."
        raise DeviceError(board.address, f"must have Python {oldest} or newer", version, newer)
    if not about.has_venv:
        install = "Install it there: `sudo apt install python3-venv` on Debian."
        raise DeviceError(board.address, "must have Python's venv and ensurepip", "a Python without", install)


def _hashes(images: Sequence[Path], skip_unreadable: bool) -> tuple[dict[int, str], dict[int, str]]:
    """The SHA-256 of each image by its place, and why the others cannot be read here."""
    hashes: dict[int, str] = {}
    unreadable: dict[int, str] = {}
    with bar("hashing", len(images), "images") as advance:
        for index, path in enumerate(images):
            try:
                hashes[index] = hashlib.sha256(path.read_bytes()).hexdigest()
            except OSError as fault:
                unreadable[index] = f"{type(fault).__name__}: {fault.strerror}"
                if not skip_unreadable:
                    error = os_error(fault, path)
                    raise ImageError(path, error.must, error.got, error.next_step) from fault
            advance(1)
    if not hashes:
        raise nothing_to_evaluate([(images[index], reason) for index, reason in unreadable.items()])
    return hashes, unreadable


def _check_room(board: Board, about: About, copied: Mapping[str, Path]) -> None:
    needed = sum(path.stat().st_size for path in copied.values())
    if about.free_bytes < needed:
        must = f"must have {size_of(needed)} free in its home folder for the files and images"
        free = "Free some space there; kd2mobile's own files are in ~/.cache/kd2mobile."
        raise DeviceError(board.address, must, size_of(about.free_bytes), free)


def _install(board: Board, about: About, here: Path) -> tuple[str, dict[str, str]]:
    """The name of the environment on the board, and the wheels that were copied for it: SHA-256 to name."""
    needs = packages(machine_of(about))
    words = [about.python, *map(str, about.version), machine_of(about), *needs]
    environment = hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
    say(
        f"{board.address}: Python {'.'.join(map(str, about.version))}, installing what is missing of {', '.join(needs)}"
    )
    why = board.install(environment, needs)
    if why is None:
        return environment, {}
    say(f"{board.address}: pip failed there ({why}); copying the wheels from here")
    wheels: dict[str, str] = {}
    try:
        wheels = {path.name: sha256_of(path) for path in fetch_wheels(board.address, about, needs, here)}
        board.bring({sha256: here / name for name, sha256 in wheels.items()}, "wheels")
        why = board.install(environment, needs, wheels)
        if why is not None:
            must = "must be able to install the copied wheels"
            raise DeviceError(board.address, must, why, "Its Python may be incompatible with these wheels.")
    except Lost:
        raise
    except DeviceError:
        board.clean("none", list(wheels.values()), environment)
        raise
    return environment, {sha256: name for name, sha256 in wheels.items()}


def _run(board: Board, job: str, environment: str, core: str, copied: Mapping[str, Path], request: Request) -> None:
    """Copies what is missing and measures, again if the measurement is ended there by another."""
    arguments = {
        "environment": environment,
        "core": core,
        "files": list(copied),
        "request": msgspec.to_builtins(request),
    }
    deaths, reported = 0, False
    while True:
        board.bring(copied, "files and images")
        state = board.start(job, **arguments)
        if state == "busy":
            if not reported:
                say(f"{board.address}: another measurement is running there; waiting for its end")
            reported = True
            time.sleep(BUSY_S)
        elif state == "started":
            log = board.follow(job)
            if log is None:
                return
            if "Traceback (most recent call last)" in log:
                raise RuntimeError(f"{board.address}: the measurement there ended:\n{log}")
            if deaths == MOST_DEATHS:
                last = log.strip().splitlines()[-1:] or ["no message"]
                memory = "It may have run out of memory: measure fewer files, or check dmesg there."
                raise DeviceError(board.address, "must let a measurement run to its end", last[0], memory)
            deaths += 1
            say(f"{board.address}: the measurement was stopped there; starting it again")


def _fetched(board: Board, job: str, here: Path, request: Request) -> Answer:
    """Raises DeviceError for an answer that is none to the request."""
    file = here / "answer.json"
    board.fetch(job, file, LARGEST_JSON)
    answer = decode_json(file.read_bytes(), Answer, board.address, AGAIN, error=DeviceError)
    if answer.refusal:
        return answer
    settings = len(request.protocol.settings)
    if [len(profiles) for profiles in answer.profiles] != [settings] * len(request.files):
        must = f"must answer {settings} times for each of {count_of(len(request.files), 'file')}"
        raise DeviceError(board.address, must, f"{[len(profiles) for profiles in answer.profiles]}", AGAIN)
    skipped = [index for index, _ in answer.skipped]
    in_order = answer.evaluated == sorted(answer.evaluated)
    if (
        not answer.evaluated
        or not in_order
        or sorted([*answer.evaluated, *skipped]) != list(range(len(request.images)))
    ):
        raise DeviceError(
            board.address, "must evaluate each image once, or give the reason why not", "another list", AGAIN
        )
    return answer


def _outputs(board: Board, job: str, here: Path, number: int, shape: tuple[int, int]) -> np.ndarray:
    file = here / f"outputs-{number}.npy"
    board.fetch(job, file, shape[0] * shape[1] * 4 + LONGEST_HEADER)
    try:
        with open(file, "rb") as stored:
            outputs = read_floats(stored, shape)
    except ValueError as fault:
        raise DeviceError(board.address, "must return outputs for every image", fault, AGAIN) from fault
    if outputs.dtype != np.float32:
        raise DeviceError(board.address, "must return outputs for every image", f"{outputs.dtype}, not float32", AGAIN)
    return outputs


def _as_raised(refusal: Refusal, names: Mapping[str, str]) -> Kd2MobileError:
    """The error that the measurement met there, about the file as it is called here."""
    got = None if refusal.got is None else _with_local_names(refusal.got, names)
    return raised_elsewhere(
        refusal.error, _with_local_names(refusal.where, names), refusal.must, got, refusal.next_step
    )


def _with_local_names(text: str, names: Mapping[str, str]) -> str:
    """The text with a path of the board's, whose name is a SHA-256, as the file is called here."""
    return re.sub(r"[^'\"\s]*/([0-9a-f]{64})\b", lambda match: names.get(match[1], match[0]), text)
