"""What the board's own Python runs, sent over the connection as text: `measure/ssh/connection.py` is the other end.

Nothing but the standard library, and no newer syntax than Python 3.6, so that a board whose Python is too old can say
so. After this text one line of JSON comes on standard input, {"verb": ..., "given": {...}}, then what the command
reads. Answers are lines of JSON.

All lies under ~/.cache/kd2mobile: files/ by SHA-256, environments/, jobs/. A file has another name until it is whole.
"""

import errno
import fcntl
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import zipfile

OLDEST_PYTHON = (3, 11)
PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11")
HOME = os.path.join(os.path.expanduser("~"), ".cache", "kd2mobile")
FILES, ENVIRONMENTS, JOBS = (os.path.join(HOME, name) for name in ("files", "environments", "jobs"))
LOCK = os.path.join(HOME, "measuring.lock")
MADE, INSTALLED = "made", "installed.json"
"""In an environment: that it has pip, that it has all."""
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CHUNK = 1 << 20
LONG_AGO_S = 24 * 3600
RUNNING = []
"""The commands that run now."""
BEAT_S = 5.0
"""So often a follower says something: where nobody hears it any more, that ends it."""


def tell(kind, **content):
    """One message to the other end."""
    line = json.dumps(dict(content, kind=kind)) + "\n"
    sys.stdout.buffer.write(line.encode("ascii"))
    sys.stdout.buffer.flush()


def read_line():
    """The next message of the other end."""
    return json.loads(sys.stdin.buffer.readline().decode("ascii"))


def about():
    """What this board is. python: this one, or if it is too old a newer one beside it."""
    python = sys.executable
    version = sys.version_info[:3]
    if version < OLDEST_PYTHON:
        newer = [path for path in map(shutil.which, PYTHONS) if path]
        if newer:
            python = newer[0]
            said = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:3])"])
            version = tuple(map(int, said.split()))
    os.makedirs(HOME, exist_ok=True)
    can_make_one = _run([python, "-c", "import ensurepip, venv"]).returncode == 0
    tell(
        "about",
        python=python,
        version=list(version),
        system=platform.system(),
        machine=platform.machine(),
        bits=64 if sys.maxsize > 2**32 else 32,
        glibc=platform.libc_ver()[1] if platform.libc_ver()[0] == "glibc" else None,
        musl="musl" in (sysconfig.get_config_var("HOST_GNU_TYPE") or ""),
        has_venv=can_make_one,
        free_bytes=shutil.disk_usage(HOME).free,
    )


def missing(names):
    """Which of these files are not there yet."""
    tell("missing", names=[name for name in names if not os.path.isfile(os.path.join(FILES, name))])


def put(count):
    """Reads that many files, each a line {"name": SHA-256, "size": bytes} and its bytes."""
    os.makedirs(FILES, exist_ok=True)
    for _ in range(count):
        file = read_line()
        half = os.path.join(FILES, f".{file['name']}.{os.getpid()}")
        digest, left = hashlib.sha256(), file["size"]
        try:
            with open(half, "wb") as stored:
                while left:
                    chunk = sys.stdin.buffer.read(min(CHUNK, left))
                    if not chunk:
                        raise EOFError("the connection ended in the middle of a file")
                    stored.write(chunk)
                    digest.update(chunk)
                    left -= len(chunk)
            whole = digest.hexdigest() == file["name"]
            if whole:
                os.rename(half, os.path.join(FILES, file["name"]))
        finally:
            if os.path.exists(half):
                os.remove(half)
        tell("stored" if whole else "changed", name=file["name"])


def install(environment, requirements, wheels, room):
    """Makes the environment and installs into it: from wheels (name to SHA-256) if given, else by pip's own ways.

    room: bytes that it takes. One that is whole is used as it is. Two at a time wait for each other. What a cut
    connection left half-made is made again.
    """
    place = os.path.join(ENVIRONMENTS, environment)
    mark = os.path.join(place, INSTALLED)
    os.makedirs(ENVIRONMENTS, exist_ok=True)
    with open(place + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isfile(mark):
            free = shutil.disk_usage(HOME).free
            if free < room:
                raise OSError(errno.ENOSPC, f"{free // 10**6} MB free, where packages take {room // 10**6} MB")
            why = _install(place, requirements, wheels)
            if why:
                tell("not_installed", why=why)
                return
            with open(mark, "w") as stored:
                json.dump(requirements, stored)
    tell("installed")


def _install(place, requirements, wheels):
    """Why it could not be done, or None. An environment that has pip is kept for another try."""
    made = os.path.join(place, MADE)
    if not os.path.isfile(made):
        done = _run([sys.executable, "-m", "venv", "--clear", place])
        if done.returncode:
            return _last(done)
        with open(made, "w"):
            pass
    command = [os.path.join(place, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--no-input"]
    folder = os.path.join(place, "wheels")
    if wheels is None:
        command += ["--retries", "1", "--timeout", "15"]
    else:
        _remove(folder)
        os.makedirs(folder)
        for name, sha256 in wheels.items():
            os.symlink(os.path.join(FILES, sha256), os.path.join(folder, name))
        command += ["--no-index", "--find-links", folder]
    done = _run(command + requirements)
    _remove(folder)
    return _last(done) if done.returncode else None


def _run(command):
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # what it starts in turn ends with it
    )
    RUNNING.append(process)
    said = process.communicate()[0]
    RUNNING.remove(process)
    return subprocess.CompletedProcess(command, process.returncode, said)


def end_with_connection():
    """Ends this process, and the command that it runs, as soon as nobody hears it any more, whatever it is at."""

    def watch():
        look = select.poll()
        look.register(1, 0)  # nothing but the end of the other side
        look.poll()
        for process in RUNNING:
            os.killpg(process.pid, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _last(done):
    """pip's errors, else the last line of what was said."""
    lines = [line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return " ".join(line[len("ERROR: ") :] for line in errors) or (lines or ["no message"])[-1]


def start(job, environment, core, files, request):
    """Starts the measurement in a session of its own, which outlives the connection, if none runs and all is there.

    One that was started already, whose answer a cut connection kept back, goes on or has ended.
    """
    folder = os.path.join(JOBS, job)
    if os.path.isfile(os.path.join(folder, "answer.json")):
        tell("started")
        return
    gone = [name for name in files if not os.path.isfile(os.path.join(FILES, name))]
    if gone or not os.path.isfile(os.path.join(ENVIRONMENTS, environment, INSTALLED)):
        tell("incomplete")
        return
    lock = _locked()
    if lock is None:
        tell("started" if _holder() == job else "busy")
        return
    os.ftruncate(lock, 0)
    os.write(lock, job.encode("ascii"))
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    package = os.path.join(folder, "core")
    zipfile.ZipFile(os.path.join(FILES, core)).extractall(package)
    request["files_folder"] = FILES
    with open(os.path.join(folder, "request.json"), "w") as stored:
        json.dump(request, stored)
    with open(os.path.join(folder, "log"), "wb") as log:
        python = os.path.join(ENVIRONMENTS, environment, "bin", "python")
        process = subprocess.Popen(
            [python, "-P", "-m", "kd2mobile.measure.ssh.work", folder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(os.environ, PYTHONPATH=package),
            start_new_session=True,
            pass_fds=[lock],  # held as long as it lives
        )
    with open(os.path.join(folder, "process"), "w") as stored:
        stored.write(str(process.pid))
    tell("started")


def _locked():
    """The lock, held from now on, or None while a measurement holds it.

    A look at it (`_alive`) holds it for a moment too, but shared: then it is tried again.
    """
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    while not _takes(lock, fcntl.LOCK_EX):
        if not _takes(lock, fcntl.LOCK_SH):
            os.close(lock)
            return None
        fcntl.flock(lock, fcntl.LOCK_UN)
    return lock


def _takes(lock, how):
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder():
    with open(LOCK) as lock:
        return lock.read()


def _alive(job):
    lock = os.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        return not _takes(lock, fcntl.LOCK_SH) and _holder() == job
    finally:
        os.close(lock)


def follow(job, offset):
    """Passes on what the measurement says, from that byte on, until its process has ended: it holds the lock for a
    while after its answer is written, and nothing could be cleaned in that time."""
    folder = os.path.join(JOBS, job)
    pause, told = 0.05, time.monotonic()
    while True:
        alive = _alive(job)
        lines, offset = _said(os.path.join(folder, "said.jsonl"), offset)
        for line in lines:
            tell("said", line=line, offset=offset)
        if not alive:
            if os.path.isfile(os.path.join(folder, "answer.json")):
                tell("ended")
            else:
                tell("died", log=_log(os.path.join(folder, "log")))
            return
        pause = 0.05 if lines else min(1.0, 2 * pause)
        if lines or time.monotonic() - told > BEAT_S:
            told = time.monotonic()
            tell("beat")
        time.sleep(pause)


def _said(path, offset):
    """The whole lines from that byte on, and where they end."""
    if not os.path.isfile(path):
        return [], offset
    with open(path, "rb") as said:
        said.seek(offset)
        whole = said.read().rpartition(b"\n")[0]
    return whole.decode("utf-8").splitlines(), offset + len(whole) + bool(whole)


def _log(path):
    if not os.path.isfile(path):
        return ""
    with open(path, "rb") as log:
        return log.read()[-4000:].decode("utf-8", "replace")


def fetch(job, name):
    """Sends a file of the measurement: {"size": bytes, "sha256": ...} and its bytes."""
    path = os.path.join(JOBS, job, name)
    digest = hashlib.sha256()
    with open(path, "rb") as stored:
        for chunk in iter(lambda: stored.read(CHUNK), b""):
            digest.update(chunk)
        tell("file", size=stored.tell(), sha256=digest.hexdigest())
        stored.seek(0)
        shutil.copyfileobj(stored, sys.stdout.buffer, CHUNK)
    sys.stdout.buffer.flush()


def stop(job):
    """Ends the measurement if it runs, and removes what it has written."""
    _end(job)
    tell("stopped")


def _end(job):
    folder = os.path.join(JOBS, job)
    while _alive(job):
        try:
            with open(os.path.join(folder, "process")) as stored:
                os.killpg(int(stored.read()), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            pass  # it is starting, or ending
        time.sleep(0.05)
    _remove(folder)


def clean(job, files, environment):
    """Removes the measurement, which ends it, and, while no other one runs, these files and what was left long ago;
    the environment if one is named, and then all folders that are empty."""
    _end(job)
    if _locked() is None:
        tell("cleaned", all=False)
        return
    for name in files:
        _remove(os.path.join(FILES, name))
    for folder in (FILES, JOBS):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            path = os.path.join(folder, name)
            if (name.startswith(".") or folder == JOBS) and _is_old(path):
                _remove(path)
    if environment:
        _remove(os.path.join(ENVIRONMENTS, environment))
        _remove(os.path.join(ENVIRONMENTS, environment + ".lock"))
        _remove(LOCK)
        for folder in (FILES, JOBS, ENVIRONMENTS, HOME):
            if os.path.isdir(folder) and not os.listdir(folder):
                os.rmdir(folder)
    tell("cleaned", all=True)


def _is_old(path):
    """Whether it was left long ago. One that is gone is a file that another command copies and that is whole now."""
    try:
        return time.time() - os.stat(path).st_mtime > LONG_AGO_S
    except FileNotFoundError:
        return False


def _remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


VERBS = {verb.__name__: verb for verb in (about, missing, put, install, start, follow, fetch, stop, clean)}

LONG = ("about", "install", "follow")
"""Those that may say nothing for a while. What reads or writes all the time notices by itself, and tidies up."""


def main():
    asked = read_line()
    if asked["verb"] in LONG:
        end_with_connection()
    try:
        VERBS[asked["verb"]](**asked["given"])
    except (BrokenPipeError, EOFError):
        os._exit(1)  # nobody is there any more
    except OSError as fault:
        tell("refused", why=fault.strerror or str(fault), disk=fault.errno in DISK_IS_FULL)
    tell("end")


if __name__ == "__main__":
    main()
