"""What the board's own Python runs, sent over the connection as text: `measure/ssh/connection.py` is the other end.

It needs the standard library alone and no syntax newer than Python 3.6, so that a board with an older Python can report
it. On standard input this text is followed by one line of JSON, {"command": ..., "arguments": {...}}, and then by what
the command reads. Answers are lines of JSON.

All files lie under ~/.cache/kd2mobile: files/ by SHA-256, environments/, jobs/. A file has another name until it is
complete.
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
"""Files in an environment that mark it: it has pip; it has all packages."""
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CHUNK = 1 << 20
LONG_AGO_S = 24 * 3600
RUNNING = []
"""The commands that run now."""
BEAT_S = 5.0
"""Seconds between messages of `follow`; writing one ends the process if the connection is closed."""


def send(kind, **content):
    """Sends one message to the other end."""
    line = json.dumps(dict(content, kind=kind)) + "\n"
    sys.stdout.buffer.write(line.encode("ascii"))
    sys.stdout.buffer.flush()


def read_line():
    """Reads the next message of the other end."""
    return json.loads(sys.stdin.buffer.readline().decode("ascii"))


def about():
    """Describes this board. python: this one, or a newer one on the PATH if this one is too old."""
    python = sys.executable
    version = sys.version_info[:3]
    if version < OLDEST_PYTHON:
        newer = [path for path in map(shutil.which, PYTHONS) if path]
        if newer:
            python = newer[0]
            printed = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:3])"])
            version = tuple(map(int, printed.split()))
    os.makedirs(HOME, exist_ok=True)
    can_make_one = _run([python, "-c", "import ensurepip, venv"]).returncode == 0
    send(
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
    """Lists which of these files the board does not have."""
    send("missing", names=[name for name in names if not os.path.isfile(os.path.join(FILES, name))])


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
        send("stored" if whole else "changed", name=file["name"])


def install(environment, requirements, wheels, room):
    """Creates the environment and installs the requirements: from wheels (SHA-256 by name) if given, else from pip's
    index.

    room: bytes that it takes. A complete environment is used as it is. Two commands wait for each other. An environment
    that a cut connection left incomplete is created again.
    """
    folder = os.path.join(ENVIRONMENTS, environment)
    mark = os.path.join(folder, INSTALLED)
    os.makedirs(ENVIRONMENTS, exist_ok=True)
    with open(folder + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isfile(mark):
            free = shutil.disk_usage(HOME).free
            if free < room:
                raise OSError(errno.ENOSPC, f"{free // 10**6} MB free, where packages take {room // 10**6} MB")
            why = _install(folder, requirements, wheels)
            if why:
                send("not_installed", why=why)
                return
            with open(mark, "w") as stored:
                json.dump(requirements, stored)
    send("installed")


def _install(environment_folder, requirements, wheels):
    """Returns the reason if it failed, else None. An environment that has pip is kept for another try."""
    made = os.path.join(environment_folder, MADE)
    if not os.path.isfile(made):
        done = _run([sys.executable, "-m", "venv", "--clear", environment_folder])
        if done.returncode:
            return _last(done)
        with open(made, "w"):
            pass
    command = [
        os.path.join(environment_folder, "bin", "python"),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    command += ["--only-binary", ":all:", "--no-input"]
    folder = os.path.join(environment_folder, "wheels")
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
    output = process.communicate()[0]
    RUNNING.remove(process)
    return subprocess.CompletedProcess(command, process.returncode, output)


def end_with_connection():
    """Ends this process, and the command that it runs, as soon as the connection is closed."""

    def watch():
        look = select.poll()
        look.register(1, 0)  # nothing but the end of the other side
        look.poll()
        for process in RUNNING:
            os.killpg(process.pid, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _last(done):
    """pip's errors, else the last line of the output."""
    lines = [line.strip() for line in done.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return " ".join(line[len("ERROR: ") :] for line in errors) or (lines or ["no message"])[-1]


def start(job, environment, core, files, request):
    """Starts the measurement in a separate session, which outlives the connection, if no other runs and no file is
    missing.

    A measurement that was started before, but whose answer was lost with the connection, continues or has ended.
    """
    folder = os.path.join(JOBS, job)
    if os.path.isfile(os.path.join(folder, "answer.json")):
        send("started")
        return
    gone = [name for name in files if not os.path.isfile(os.path.join(FILES, name))]
    if gone or not os.path.isfile(os.path.join(ENVIRONMENTS, environment, INSTALLED)):
        send("incomplete")
        return
    lock = _locked()
    if lock is None:
        send("started" if _holder() == job else "busy")
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
            [python, "-P", "-m", "kd2mobile.measure.ssh.measure_on_board", folder],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(os.environ, PYTHONPATH=package),
            start_new_session=True,
            pass_fds=[lock],  # held as long as it lives
        )
    with open(os.path.join(folder, "process"), "w") as stored:
        stored.write(str(process.pid))
    send("started")


def _locked():
    """Takes the lock; None while a measurement holds it.

    `_alive` holds the lock for a moment too, but shared: then it is tried again.
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
    """Sends the progress of the measurement, from that byte on, until its process ends. The process holds the lock for
    a while after its answer is written, and nothing could be removed in that time."""
    folder = os.path.join(JOBS, job)
    pause, last_sent = 0.05, time.monotonic()
    while True:
        alive = _alive(job)
        lines, offset = _shown(os.path.join(folder, "progress.jsonl"), offset)
        for line in lines:
            send("shown", line=line, offset=offset)
        if not alive:
            if os.path.isfile(os.path.join(folder, "answer.json")):
                send("ended")
            else:
                send("died", log=_log(os.path.join(folder, "log")))
            return
        pause = 0.05 if lines else min(1.0, 2 * pause)
        if lines or time.monotonic() - last_sent > BEAT_S:
            last_sent = time.monotonic()
            send("beat")
        time.sleep(pause)


def _shown(path, offset):
    """The complete lines from that byte on, and the offset of their end."""
    if not os.path.isfile(path):
        return [], offset
    with open(path, "rb") as shown:
        shown.seek(offset)
        whole = shown.read().rpartition(b"\n")[0]
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
        send("file", size=stored.tell(), sha256=digest.hexdigest())
        stored.seek(0)
        shutil.copyfileobj(stored, sys.stdout.buffer, CHUNK)
    sys.stdout.buffer.flush()


def stop(job):
    """Ends the measurement if it runs, and removes what it has written."""
    _end(job)
    send("stopped")


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
    """Stops and removes the measurement. If no other one runs, also removes these files and whatever was left long ago;
    and, if an environment is given, that environment and all empty folders."""
    _end(job)
    if _locked() is None:
        send("cleaned", all=False)
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
    send("cleaned", all=True)


def _is_old(path):
    """Whether the file was left long ago. A file that no longer exists was renamed by another command that copied
    it."""
    try:
        return time.time() - os.stat(path).st_mtime > LONG_AGO_S
    except FileNotFoundError:
        return False


def _remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.exists(path):
        os.remove(path)


COMMANDS = {command.__name__: command for command in (about, missing, put, install, start, follow, fetch, stop, clean)}

LONG = ("about", "install", "follow")
"""The commands that may send nothing for a while. The others read or write all the time, so they notice a closed
connection themselves and tidy up."""


def main():
    request = read_line()
    if request["command"] in LONG:
        end_with_connection()
    try:
        COMMANDS[request["command"]](**request["arguments"])
    except (BrokenPipeError, EOFError):
        os._exit(1)  # the connection is closed
    except OSError as fault:
        send("refused", why=fault.strerror or str(fault), disk=fault.errno in DISK_IS_FULL)
    send("end")


if __name__ == "__main__":
    main()
