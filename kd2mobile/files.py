"""Files: what comes from outside is read with types and bounds, what we write replaces a file in one step.

Everything here stands on the standard library and msgspec, so any part of the package may use it:

    read_json, decode_json, convert_json    JSON from outside, or the one line that says what is wrong with it
    inside                                  a name from a file, as a path that stays in its folder
    replaced, write_bytes, write_json, ...  the whole new file or the old one, never half of it
    locked                                  one process at a time
    opened_file, local_files                a file that may lie in an archive, as a stream or under a path
    is_left_by_system                       thumbnails and indexes that systems leave among files
    system_errors, disk_errors, os_error    what the operating system says, as one line
"""

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import msgspec

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

from kd2mobile.errors import ArtifactError, Kd2MobileError, OutOfMemoryError, RecordError
from kd2mobile.text import size_of

if TYPE_CHECKING:
    import numpy as np

SYSTEM_NAMES = frozenset(
    ("@eadir", "@tmp", "#recycle", "#snapshot")  # Synology
    + (".@__thumb", "@recycle", "@recently-snapshot", ".streams")  # QNAP
    + ("__macosx", ".ds_store", ".appledouble", ".appledb", ".appledesktop", ".spotlight-v100", ".fseventsd")
    + (".trashes", ".temporaryitems", "temporary items", "network trash folder", "icon\r")  # macOS, netatalk
    + ("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "recycler")
    + ("system volume information",)  # Windows
    + (".thumbnails", ".thumb", ".thumbs", ".directory", ".trash", "lost+found")  # Linux, Android
    + ("picasa.ini", ".picasa.ini", ".picasaoriginals")
)
"""Files and folders that systems and programs leave among images, in lower case."""
_SYSTEM_STARTS = ("._", ".trash-", ".nfs", ".fuse_hidden")
T = TypeVar("T")

LARGEST_JSON = 256_000_000
"""Bytes of a JSON file that is read at all; the split of a million images takes 200 MB."""
DEEPEST_JSON = 64
"""Levels of lists and objects in each other; a spec of ours has less than 20."""
LONGEST_VALUE = 60
"""Characters of a wrong value that a message shows."""
LONGEST_NAME = 255
"""Bytes of a file's name, as most file systems have it."""


# --- JSON from outside


def read_json(
    path: Path, type: type[T], next_step: str, *, error: type[Kd2MobileError] = RecordError, most: int = LARGEST_JSON
) -> T:
    """The JSON in a file that may come from anybody, as a value of the type.

    type: what msgspec decodes to, a Struct for example; its Meta bounds the numbers. next_step: what to do about a bad
    file. error: the class of what is raised. most: bytes; the size is looked at before anything is read.
    Raises error: one line that names the file and the field, for a file that is missing, too large, no file, no UTF-8,
    no JSON, nested too deep or of another shape.
    """
    return decode_json(_read(Path(path), next_step, error, most), type, path, next_step, error=error)


def decode_json(
    data: bytes | str, type: type[T], where: object, next_step: str, *, error: type[Kd2MobileError] = RecordError
) -> T:
    """The JSON in a message as a value of the type. where: what it came from. Otherwise as `read_json`.

    >>> decode_json('{"top1": "x"}', dict[str, float], "record.json", "Copy it again.")
    Traceback (most recent call last):
    kd2mobile.errors.RecordError: record.json: top1: must be a number, got "x". Copy it again.
    """
    try:
        value = msgspec.json.decode(data, type=type)
        if _is_deep(data.encode("utf-8", "replace") if isinstance(data, str) else data):
            raise RecursionError
        return value
    except RecursionError as fault:
        must = f"must be nested at most {DEEPEST_JSON} levels deep"
        raise error(where, must, "more", next_step) from fault
    except msgspec.ValidationError as fault:
        tree = _tree(data, where, next_step, error)
        raise _shape_error(tree, type, str(fault), where, next_step, error) from fault
    except (UnicodeError, msgspec.DecodeError) as fault:
        raise _no_json(data, fault, where, next_step, error) from fault


def convert_json(
    value: Any, type: type[T], where: object, next_step: str, *, error: type[Kd2MobileError] = RecordError
) -> T:
    """A value of decoded JSON, `record["results"]` for example, as a value of the type. Otherwise as `read_json`."""
    try:
        return msgspec.convert(value, type)
    except msgspec.ValidationError as fault:
        raise _shape_error(value, type, str(fault), where, next_step, error) from fault


def _read(path: Path, next_step: str, error: type[Kd2MobileError], most: int) -> bytes:
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            got = "a folder" if stat.S_ISDIR(about.st_mode) else _special(about.st_mode)
            raise error(path, "must be a file", got, next_step)
        with open(path, "rb") as file:
            data = file.read(most + 1) if about.st_size <= most else b""
    except OSError as fault:
        raise error(path, "must be a readable file", _message_of(fault), next_step) from fault
    except ValueError as fault:  # NUL in the path
        raise error(path, "must be a path", "a NUL character in it", next_step) from fault
    if not data and about.st_size > most or len(data) > most:
        got = f"{max(about.st_size, len(data)):,} bytes"
        raise error(path, f"must be at most {most:,} bytes", got, next_step)
    return data


def _tree(data: bytes | str, where: object, next_step: str, error: type[Kd2MobileError]) -> Any:
    """The same JSON without types, to show what stands there."""
    try:
        return msgspec.json.decode(data)
    except RecursionError as fault:
        must = f"must be nested at most {DEEPEST_JSON} levels deep"
        raise error(where, must, "more", next_step) from fault
    except (UnicodeError, msgspec.DecodeError) as fault:
        raise _no_json(data, fault, where, next_step, error) from fault


def _no_json(
    data: bytes | str, fault: Exception, where: object, next_step: str, error: type[Kd2MobileError]
) -> Kd2MobileError:
    got: str | None
    if not data.strip():
        got = "an empty file" if isinstance(data, bytes) else "nothing"
    elif isinstance(fault, UnicodeError) or isinstance(data, bytes) and not _is_utf8(data):
        got = "bytes that are not UTF-8"
    elif "out of range" in str(fault):
        got = "a number that is too large"
    elif "truncated" in str(fault):
        got = "one that ends too early"
    else:
        at = re.search(r"\(byte (\d+)\)", str(fault))
        got = f"something else from byte {int(at[1]):,} on" if at else "something else"
    return error(where, "must be JSON in UTF-8, with finite numbers", got, next_step)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_deep(data: bytes) -> bool:
    """Whether JSON that was read has more levels than DEEPEST_JSON: each round takes the innermost level away."""
    if data.count(b"[") + data.count(b"{") <= DEEPEST_JSON:
        return False
    brackets = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", data).translate(None, delete=_NO_BRACKETS)
    for _ in range(DEEPEST_JSON):
        brackets = brackets.replace(b"[]", b"00").replace(b"{}", b"00").replace(b"0", b"")
    return bool(brackets)


_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "object": "an object",
    "array": "a list",
    "null": "null",
    "bytes": "bytes in base64",
    "datetime": "a time",
}


def _shape_error(
    tree: Any, type: Any, message: str, where: object, next_step: str, error: type[Kd2MobileError]
) -> Kd2MobileError:
    """The error of JSON that has another shape than the type, from what msgspec says of it."""
    expected, _, position = message.partition(" - at `")
    path = _path(tree, type, message, position.rstrip("`"))
    value: Any = tree
    for step in path:
        value = value[step]
    must, got = _must(expected), _shown(value)
    if match := re.match(r"Object missing required field `(.*)`", expected):
        path, must, got = [*path, match[1]], "must be there", None
    elif match := re.match(r"Object contains unknown field `(.*)`", expected):
        path, must, got = [*path, match[1]], "must be a known field", None
    shown = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return error(f"{where}: {shown}" if shown else where, must, got, next_step)


def _must(message: str) -> str:
    """What msgspec expected, in our words."""
    if "out of range" in message:
        return "must be a number that a computer can hold"
    expected = message.partition(", got")[0]
    match = re.match(r"Expected `([^`]*)`(.*)", expected)
    if not match:
        return "must be one of the values that are known"
    words = [_WORDS.get(kind.strip(), kind.strip()) for kind in match[1].split("|")]
    must = f"must be {' or '.join(words)}"
    if bound := re.match(r" (<=|>=|<|>) (.*)", match[2]):
        sign = {"<=": "at most", ">=": "at least", "<": "below", ">": "above"}[bound[1]]
        return f"{must}, {sign} {bound[2].removesuffix('.0')}"
    if length := re.match(r" of length (<=|>=)? ?(\d+)", match[2]):
        sign = {"<=": "at most ", ">=": "at least ", None: ""}[length[1]]
        return f"{must} of length {sign}{length[2]}"
    if match[2].startswith(" matching"):
        return f"{must} of its form"
    return must


def _path(tree: Any, type: Any, message: str, position: str) -> list[str | int]:
    """Where in the tree the message means: msgspec does not say the key of a dict, which is found by halving it."""
    path: list[str | int] = []
    here = tree
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", position.removeprefix("$")):
        if index == "...":
            if not isinstance(here, dict):
                return path
            step: str | int = _faulty_key(tree, path, here, type, message)
        else:
            step = name or int(index)
        try:
            here = here[step]
        except (LookupError, TypeError):
            return path
        path.append(step)
    return path


def _faulty_key(tree: Any, path: list[str | int], here: dict[str, Any], type: Any, message: str) -> str:
    keys = list(here)
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        try:
            msgspec.convert(_with(tree, path, {key: here[key] for key in half}), type)
            keys = keys[len(half) :]
        except msgspec.ValidationError as fault:
            keys = half if str(fault) == message else keys[len(half) :]
    return keys[0]


def _with(tree: Any, path: list[str | int], value: Any) -> Any:
    """The tree with another value in that place."""
    if not path:
        return value
    copy: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = _with(tree[path[0]], path[1:], value)
    return copy


def _shown(value: Any) -> str:
    """A wrong value as a message shows it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value):,}"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


# --- names from outside


def inside(folder: Path, name: str, where: object, *, links: bool = False) -> Path:
    """`folder / name`, where the name comes from a file that somebody else may have written.

    where: the file and the field, for the message. links: whether a link on the way is allowed, as the user's own
    images may be. The folder itself may be a link: the user named it.
    Raises ArtifactError for a name that is no relative path of plain parts (absolute, with `..`, a drive, NUL, empty),
    and for a link in it.
    """
    parts = name.split("/")
    if not all(map(_is_plain_part, parts)):
        must = "must be the name of a file inside its folder"
        raise ArtifactError(where, must, _shown(name), "Do not use what was sent: it names files elsewhere.")
    path = Path(folder)
    for part in parts:
        path = path / part
        if not links and path.is_symlink():
            must = "must be a file inside its folder, not a link"
            raise ArtifactError(where, must, f"the link {path}", "Copy what it links to in its place.")
    return path


def _is_plain_part(part: str) -> bool:
    """Whether it names an entry of a folder, on this system."""
    if part in ("", ".", "..") or "\0" in part or (os.name == "nt" and re.search(r'[\\:*?"<>|]', part)):
        return False
    try:
        return len(os.fsencode(part)) <= LONGEST_NAME
    except UnicodeEncodeError:
        return False


# --- files that are replaced in one step


TEMPORARY = re.compile(r"\..*\.[0-9a-f]{8}\.tmp(\.[^.]*)?")
"""The names of the files that `replaced` fills."""


@contextmanager
def replaced(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A new file beside the path, to be filled by the body, which then takes the path's place in one step.

    The temporary has a name of its own and the path's suffix; whatever fails, it is removed and the old file stays.
    Whoever has the old file open or mapped keeps it. A link in the place is replaced itself, not followed.
    What a killed process left of the same path is removed first.
    durable: whether it is on the disk, not in the system's memory, before it takes the place, and whether leftovers are
    looked for: not for thousands of files.
    Raises ArtifactError where the path is no regular file, as a folder or a device is.
    """
    path = Path(path)
    _refuse_other_kinds(path)
    if durable:
        _remove_leftovers(path)
    temporary, held = _new_temporary(path)
    try:
        with _named(path, temporary):
            yield temporary
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


@contextmanager
def _named(path: Path, temporary: Path) -> Iterator[None]:
    """Makes an OSError of the temporary, or one of a disk that names nothing, say the path: nobody knows the other."""
    try:
        yield
    except OSError as fault:
        named = [name for name in (fault.filename, fault.filename2) if name is not None]
        if str(temporary) in map(str, named) or (not named and fault.errno in DISK_FAULTS):
            fault.filename, fault.filename2 = str(path), None
        raise


def temporary_of(path: Path, token: str = "") -> Path:
    """A name of its own beside the path, which `remove_temporaries` knows. token: 8 hexadecimal digits, else drawn."""
    token = token or secrets.token_hex(4)
    return path.with_name(f".{path.name[:40]}.{token}.tmp{path.suffix[:20]}")


def _new_temporary(path: Path) -> tuple[Path, int | None]:
    """A new file of its own name, and the descriptor that locks it as long as this process works on it."""
    while True:
        temporary = temporary_of(path)
        with _named(path, temporary):
            held = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)  # less the umask, as any new file
        if fcntl is None:
            os.close(held)  # Windows replaces no open file
            return temporary, None
        with suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_SH)
        if os.path.exists(temporary):
            return temporary, held
        os.close(held)  # another process took it for a leftover, before it was locked


def _remove_leftovers(path: Path) -> None:
    """Removes the path's temporaries that nobody holds: a killed process left them."""
    if fcntl is None:
        return
    with suppress(OSError):
        for left in path.parent.glob(f".{glob.escape(path.name[:40])}.*.tmp*"):
            if left.name == temporary_of(path, left.name[len(path.name[:40]) + 2 :][:8]).name:
                descriptor = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
                os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Removes what a killed process left of the files that it was replacing, in a folder that nobody else writes to."""
    for path in Path(folder).rglob(".*.tmp*"):
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes, *, unless_same: bool = False) -> bool:
    """The bytes in the path's place, in one step; whether anything was written.

    unless_same: leaves a file that holds the same bytes alone.
    """
    if unless_same and _holds(Path(path), data):
        return False
    with replaced(path) as temporary:
        temporary.write_bytes(data)
    return True


def write_text(path: Path, text: str, *, unless_same: bool = False) -> bool:
    """The text in UTF-8, its line ends as they are. Otherwise as `write_bytes`."""
    return write_bytes(path, text.encode("utf-8"), unless_same=unless_same)


def write_json(path: Path, value: Any, *, unless_same: bool = False) -> bool:
    """The value as indented JSON. Otherwise as `write_bytes`."""
    return write_text(
        path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", unless_same=unless_same
    )


def write_npy(path: Path, array: "np.ndarray") -> None:
    """The array as a .npy file, the bytes of `np.save`, to a path that nobody reads yet.

    Through Python's file: NumPy writes past it where it can, and then its OSError does not say why. Raises OSError.
    """
    import numpy as np

    with open(path, "wb") as file:
        np.save(SimpleNamespace(write=file.write), array, allow_pickle=False)


def copy_file(source: Path, target: Path) -> bool:
    """The source's bytes in the target's place, in one step; whether anything was written: not over the same bytes."""
    target = Path(target)
    if (
        _is_plain(target)
        and target.stat().st_size == os.stat(source).st_size
        and sha256_of(target) == sha256_of(source)
    ):
        return False
    with replaced(target) as temporary:
        shutil.copyfile(source, temporary)
    return True


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _holds(path: Path, data: bytes) -> bool:
    return _is_plain(path) and path.stat().st_size == len(data) and path.read_bytes() == data


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _refuse_other_kinds(path: Path) -> None:
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return  # nothing there, or what opening it will say
    if not stat.S_ISREG(kind):
        got = "a folder" if stat.S_ISDIR(kind) else "a device or a pipe"
        raise ArtifactError(path, "must be a file, or nothing yet", got, "Give another path.")


# --- files that may lie in no folder


class Stored(Protocol):
    """A file that has no path: in an archive, in an object store. Its text is its address, `name` how it is called."""

    name: str

    def open(self) -> IO[bytes]:
        """Its bytes as a seekable stream. Called from several threads at once. Raises OSError."""


Address: TypeAlias = str | Path | Stored
"""Where one file lies."""


def check_regular(path: str | Path, error: type[Kd2MobileError], next_step: str) -> None:
    """Raises the error for a pipe or a device: opening it may wait, and reading it may go on, without end.

    What is not there is left to whoever opens it.
    """
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise error(path, "must be a regular file", _special(kind), next_step)


def got_instead(path: str | Path) -> str:
    """What is there where a regular file must be: "no such file", "a folder", "a pipe", or why nobody can tell."""
    try:
        kind = os.stat(path).st_mode
    except ValueError:
        return "a NUL character in it"
    except OSError as fault:
        return "no such file" if fault.errno in (errno.ENOENT, errno.ENOTDIR) else _message_of(fault)
    return "a folder" if stat.S_ISDIR(kind) else _special(kind)


def _special(kind: int) -> str:
    return "a pipe" if stat.S_ISFIFO(kind) else "a device or a socket"


def opened_file(address: Address) -> IO[bytes]:
    """The file's bytes as a stream to be closed. Raises OSError."""
    return open(address, "rb") if isinstance(address, str | Path) else address.open()


@contextmanager
def local_files(addresses: Sequence[Address]) -> Iterator[list[Path]]:
    """The path of each file, for a tool that takes no other: one that has none is copied, for as long as the block.

    Raises OSError.
    """
    if all(isinstance(address, str | Path) for address in addresses):
        yield [Path(address) for address in addresses]
        return
    with tempfile.TemporaryDirectory(prefix="kd2mobile-") as folder:
        paths = []
        for number, address in enumerate(addresses):
            if isinstance(address, str | Path):
                paths.append(Path(address))
                continue
            paths.append(Path(folder) / f"{number}-{address.name}")
            with address.open() as source, open(paths[-1], "wb") as target:
                shutil.copyfileobj(source, target)
        yield paths


# --- one process at a time


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds the path for this process, by `.<name>.lock` beside it; another process waits until it is released.

    waiting: called once if another process holds it. Raises ArtifactError where the lock is a link: opening it would
    empty what it links to.
    """
    from filelock import FileLock, Timeout  # a board that only measures has none

    path = Path(path)
    lock = path.with_name(f".{path.name}.lock")
    if lock.is_symlink():
        raise ArtifactError(lock, "must be a lock of kd2mobile", "a link", "Remove it.")
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout:
        waiting()
        held.acquire()
    try:
        yield
    finally:
        held.release()


# --- what the operating system says


_REASONS: dict[int, tuple[str, str]] = {
    errno.ENOENT: ("must be there", "Check the path."),
    errno.EACCES: ("must be accessible", "Give it the permission, or give another path."),
    errno.EPERM: ("must be accessible", "Give it the permission, or give another path."),
    errno.EROFS: ("must be writable", "Give another folder."),
    errno.ENOTDIR: ("must be a folder", "Give another folder."),
    errno.EISDIR: ("must be a file", "Give the path of a file."),
    errno.EEXIST: ("must be free", "Give another folder."),
    errno.ENOTEMPTY: ("must be an empty folder", "Give another folder."),
    errno.ELOOP: ("must be a path without a ring of links", "Correct the links, or give another path."),
    errno.ENAMETOOLONG: ("must be a path that the system takes", "Use a shorter name or a shorter folder."),
    errno.EFBIG: ("must be a size that is allowed here", "Raise the limit (ulimit -f), or give another disk."),
    errno.EIO: ("must be readable and writable", "The disk or its connection is faulty: look at the system's log."),
    errno.EMFILE: ("must find a free file descriptor", "Raise the limit of open files (ulimit -n)."),
    errno.ENFILE: ("must find a free file descriptor", "Close other programs: the system's limit is reached."),
    errno.ENOMEM: ("must find enough memory", "Close other programs, or use less at once."),
    errno.ENXIO: ("must be a device that is there", "Check the path."),
    errno.ENODEV: ("must be a device that is there", "Check the path."),
    errno.EBUSY: ("must not be in use", "Close the program that uses it."),
    errno.ETXTBSY: ("must not be in use", "Close the program that uses it."),
}
for _name, _reason in {
    "ESTALE": ("must still be there", "The network file system lost it: mount it again."),
    "ENOLCK": ("must be a file system with locks", "Give a folder on another disk."),
}.items():
    if hasattr(errno, _name):
        _REASONS[getattr(errno, _name)] = _reason
NO_ROOM = tuple(getattr(errno, name) for name in ("ENOSPC", "EDQUOT") if hasattr(errno, name))
STANDARD_OUTPUT = "standard output"
DISK_FAULTS = tuple({*NO_ROOM, *_REASONS} - {errno.ENOENT})
"""What `disk_errors` turns into a line: not a file that is missing, which is a fault of ours where we write."""


@contextmanager
def disk_errors(path: Path, *, store: bool = False) -> Iterator[None]:
    """Turns what the operating system says of a file or a disk into an ArtifactError.

    path: where it writes; store: whether that is in a store, for the advice.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno not in DISK_FAULTS:
            raise
        raise os_error(fault, path, store=store) from fault


@contextmanager
def system_errors() -> Iterator[None]:
    """Turns whatever the operating system says into its line, and memory that ran out; also a decorator.

    A bug that raises something else keeps its traceback, and so does an OSError that no system call gave. A broken pipe
    is left alone: whoever reads our output may stop.
    """
    try:
        yield
    except Kd2MobileError:
        raise
    except OSError as fault:
        if is_out_of_memory(fault):
            raise memory_error(fault) from fault
        if fault.errno is None or isinstance(fault, BrokenPipeError):
            raise
        raise os_error(fault) from fault
    except ValueError as fault:
        if "embedded null" not in str(fault):  # as every call of the system says it, without the path
            raise
        raise ArtifactError("a path", "must have no NUL character in it", "one", "Give another path.") from fault
    except Exception as fault:
        if not is_out_of_memory(fault):
            raise
        raise memory_error(fault) from fault


_UNMAPPED = "failed to map segment from shared object"
"""What the system's loader says of a library that memory does not suffice for."""


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether memory ran out, by a framework's or NumPy's class, or by the words of XLA, CUDA or the loader."""
    kinds = {kind.__name__ for kind in type(fault).__mro__}
    words = ("RESOURCE_EXHAUSTED", "OUT_OF_MEMORY", _UNMAPPED)
    return bool(kinds & {"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"}) or any(
        word in str(fault) for word in words
    )


def memory_error(fault: BaseException) -> OutOfMemoryError:
    """That memory ran out, as one line with what to make smaller."""
    if library := re.search(rf"(\S+): {_UNMAPPED}", str(fault)):
        step = "Close other programs, or raise the limit (ulimit -v); a disk mounted noexec is refused so, too."
        return OutOfMemoryError("memory", f"must suffice to load {library[1]}", "too little", step)
    size = re.search(r"allocate ([\d.]+ \w*B)|allocating tensor with shape(\[[\d,]+\])", str(fault))
    got = f"too little for {size[1] or f'a tensor of shape {size[2]}'}" if size else "too little"
    smaller = "Use a smaller batch size or input_px, fewer threads or workers, or close other programs."
    return OutOfMemoryError("memory", "must suffice for what was requested", got, smaller)


def os_error(fault: OSError, path: object = None, *, store: bool = False) -> ArtifactError:
    """What the operating system said, as one line. path: what it is about where the fault itself names nothing, the
    file or STANDARD_OUTPUT; store: whether that is in a store."""
    if fault.errno in NO_ROOM:
        return _no_room(fault, fault.filename2 or fault.filename or path, store)
    must, next_step = _REASONS.get(fault.errno or 0, ("must be usable", "Check the path and the disk."))
    where = fault.filename if fault.filename not in (None, "") else path
    return ArtifactError("the operating system" if where is None else _text(where), must, _message_of(fault), next_step)


def _no_room(fault: OSError, path: object, store: bool) -> ArtifactError:
    """A full disk: what is used up, its bytes, its files (inodes) or the user's share of it."""
    where = _text(path or "the operating system")
    other = (
        "give another --store; what is finished is kept, and the same command goes on."
        if store
        else "give another disk."
    )
    got, disk = _message_of(fault), _disk_of(path)
    if disk is not None:
        free, files = shutil.disk_usage(disk).free, None
        if hasattr(os, "statvfs"):
            about = os.statvfs(disk)
            files = about.f_favail if about.f_files else None  # some file systems do not count files
        if files == 0 and fault.errno == errno.ENOSPC:
            got = f"no free inodes, {size_of(free)} free"
            return ArtifactError(where, "must have room for another file", got, f"Remove files or {other}")
        got = f"{got}, {size_of(free)} free"
    return ArtifactError(where, "must have room to write", got, f"Free some space or {other}")


def _disk_of(path: object) -> Path | int | None:
    """What `shutil.disk_usage` takes for the disk of a file, or of standard output; None for a device or a pipe."""
    if not path or path == STANDARD_OUTPUT and not hasattr(os, "statvfs"):
        return None
    disk = 1 if path == STANDARD_OUTPUT else _existing(Path(_text(path)).absolute())
    mode = os.stat(disk).st_mode
    return disk if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else None


def _message_of(fault: OSError) -> str:
    return os.strerror(fault.errno).lower() if fault.errno else "an unreadable file"


def _text(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, bytes | str | os.PathLike) else str(path)


def _existing(path: Path) -> Path:
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return path


def is_left_by_system(name: str) -> bool:
    """Whether a file or folder of that name is a system's own: thumbnails, an index, what was thrown away.

    >>> is_left_by_system("@eaDir"), is_left_by_system("._cat.jpg"), is_left_by_system("cat")
    (True, True, False)
    """
    lower = name.lower()
    return lower in SYSTEM_NAMES or lower.startswith(_SYSTEM_STARTS)
