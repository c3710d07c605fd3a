"""Counts every change below some folders, in all processes of a trial, and ends or refuses the n-th.

A change is what the system would see: a file opened for writing, each write to it, rename, unlink, mkdir, fsync and
their like, as Python makes them; what a C library writes by itself (NumPy's tofile, HDF5) counts by its open and its
rename alone. Standard library only: `site/sitecustomize.py` installs it in child processes before anything else.
"""

import builtins
import errno
import fcntl
import io
import json
import os
import signal
import struct

VARIABLE = "KD2MOBILE_TORTURE"
STAYS = ("ENOSPC", "EDQUOT")
"""A disk that is full stays full; other faults come once."""
ROOM = ("open", "write", "mkdir", "fsync", "link", "symlink")
"""What needs room on a disk."""
KINDS = (
    "open",
    "write",
    "rename",
    "replace",
    "link",
    "symlink",
    "unlink",
    "remove",
    "rmdir",
    "mkdir",
    "truncate",
    "fsync",
)
"""Of changes. The counter holds how many there were and whether one struck, then a byte each: its index here."""
HEAD = struct.Struct("qq")
_real = {name: getattr(os, name) for name in ("open", "write", "pread", "pwrite")}
_real_open = io.open


def install_from_environment():
    """Where a trial is under way, as its processes are told."""
    if VARIABLE in os.environ:
        install(**json.loads(os.environ[VARIABLE]))


def install(roots, counter, at, fault):
    """roots: absolute folders; counter: a file that all processes of the trial share; at: the number of the change
    that is not made, 0 for none; fault: `kill`, or the name of an error."""
    shim = Shim([os.path.realpath(root) for root in roots], counter, at, fault)
    for name in KINDS[2:]:
        setattr(os, name, shim.counted(name, getattr(os, name)))
    os.open = shim.os_open
    builtins.open = io.open = shim.open


class Shim:
    def __init__(self, roots, counter, at, fault):
        self.roots, self.at, self.fault = roots, at, fault
        self.counter = _real["open"](counter, os.O_RDWR | os.O_CREAT, 0o600)

    def change(self, kind, path):
        """Before a change. Raises, or ends all processes of the trial."""
        if not self.is_below(path):
            return
        fcntl.flock(self.counter, fcntl.LOCK_EX)
        count, done = HEAD.unpack(_real["pread"](self.counter, HEAD.size, 0).ljust(HEAD.size, b"\0"))
        count += 1
        now = self.at and count >= self.at and not done and self.strikes(kind, count)
        _real["pwrite"](self.counter, HEAD.pack(count, int(done or (now and self.fault not in STAYS))), 0)
        _real["pwrite"](self.counter, bytes([KINDS.index(kind)]), HEAD.size + count - 1)
        fcntl.flock(self.counter, fcntl.LOCK_UN)
        if now and self.fault == "kill":
            os.killpg(0, signal.SIGKILL)
        if now:
            number = getattr(errno, self.fault)
            raise OSError(number, os.strerror(number), path)

    def strikes(self, kind, count):
        return count == self.at if self.fault == "kill" else may_meet(self.fault, kind)

    def is_below(self, path):
        path = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else _path_of(path)
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        return any(path == root or path.startswith(root + os.sep) for root in self.roots)

    def counted(self, kind, function):
        def change(path, *args, dir_fd=None, **kwargs):
            place = os.path.join(_path_of(dir_fd), os.fsdecode(path)) if dir_fd is not None else path
            self.change(kind, place)
            if dir_fd is not None:
                kwargs["dir_fd"] = dir_fd
            return function(path, *args, **kwargs)

        change.__name__ = function.__name__
        if function in os.supports_dir_fd:
            os.supports_dir_fd.add(change)
        return change

    def os_open(self, path, flags, mode=0o777, *, dir_fd=None):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            self.change("open", path if dir_fd is None else os.path.join(_path_of(dir_fd), os.fsdecode(path)))
        return _real["open"](path, flags, mode, dir_fd=dir_fd)

    def open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
        path = _path_of(file) if isinstance(file, int) else file
        if not set(mode) & set("wax+") or not self.is_below(path):
            return _real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            self.change("open", path)
        raw = _File(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        raw.shim, raw.path = self, path
        if buffering == 0:
            return raw
        buffered = (io.BufferedRandom if "+" in mode else io.BufferedWriter)(raw)
        if "b" in mode:
            return buffered
        text = io.TextIOWrapper(buffered, encoding, errors, newline, buffering == 1)
        text.mode = mode
        return text


def may_meet(fault, kind):
    """Whether a change of the kind may meet the fault."""
    return fault == "kill" or kind in (("open",) if fault == "EMFILE" else ROOM)


def changes_in(counted):
    """The kinds of the changes, in order, that a counter's bytes hold."""
    return [KINDS[index] for index in counted[HEAD.size :]]


class _File(io.FileIO):
    def write(self, data):
        self.shim.change("write", self.path)
        return super().write(data)

    def truncate(self, size=None):
        self.shim.change("truncate", self.path)
        return super().truncate(size)


def _path_of(descriptor):
    """Of a pipe or a socket: none of ours."""
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return os.sep
    return path if os.path.isabs(path) else os.sep
