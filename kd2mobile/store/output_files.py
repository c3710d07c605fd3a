"""Where a command may write its result: a new file, or one that holds an earlier result of the same kind.

Everything else that lies there stays: a model, an image, a record, the input of the same command.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from kd2mobile.errors import Kd2MobileError, RecipeError, RecordError
from kd2mobile.files import disk_errors, read_json, write_bytes

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

SOFTWARE = ("Software", "kd2mobile")
"""The text that a PNG of ours holds, before its pixels."""
HEAD = 4_096
"""Bytes of a file that are looked at."""
PAGE_TITLE = b"kd2mobile report</title>"

IsOurs = Callable[[Path], bool]


def is_page(path: Path) -> bool:
    """Whether the file is an HTML page that `report` wrote."""
    return PAGE_TITLE in _head(path)


def is_drawing(path: Path) -> bool:
    """Whether the file is a PNG that kd2mobile drew."""
    head = _head(path)
    return head.startswith(b"\x89PNG\r\n") and b"tEXt" + b"\0".join(word.encode() for word in SOFTWARE) in head


def signature() -> "PngInfo":
    """What `Image.save` takes as pnginfo, so that `is_drawing` knows the file again."""
    from PIL.PngImagePlugin import PngInfo

    signed = PngInfo()
    signed.add_text(*SOFTWARE)
    return signed


def is_json_result(*names: str) -> IsOurs:
    """Tells whether a file is a result of one of these types as JSON. names: each as `package.module:Name`, or
    `...:Name[]` for a list of them. Known by its fields: some may have been added or gone between versions."""

    def is_ours(path: Path) -> bool:
        try:
            content = read_json(path, Any, "", error=RecordError)
        except Kd2MobileError:
            return False
        return any(_has_type(name, content) for name in names)

    return is_ours


def _has_type(name: str, content: Any) -> bool:
    if name.endswith("[]"):
        content = content[0] if isinstance(content, list) and content else None
    if not isinstance(content, dict) or not content:
        return False
    fields = set(resolve_name(name.removesuffix("[]")).__struct_encode_fields__)
    return content.keys() <= fields or fields <= content.keys()


def check_output(path: Path, flag: str, is_ours: IsOurs) -> None:
    """Raises RecipeError unless a command may write there. flag: what named it, for the message.

    is_ours: tells whether a file that is there is an earlier result of the same kind, which may be replaced. A device
    or a pipe, such as /dev/stdout, may be written to.
    """
    path = Path(path)
    if "\0" in str(path):
        raise RecipeError(flag, "must be a path", "a NUL character in it", "Give another path.")
    if path.is_dir() or not path.parent.is_dir():
        raise RecipeError(flag, "must be a file in an existing folder", path, "Create its folder first.")
    if os.path.lexists(path) and not _is_special(path) and not is_ours(path):
        must = f"{path} must be a new file, or an earlier result of this command"
        got = f"another file of {path.lstat().st_size:,} bytes"
        raise RecipeError(flag, must, got, "Give another path, or remove the file.")
    if path.suffix.lower() == ".tflite":  # this command, or the next one, may write a model there
        raise RecipeError(flag, "must not have the name of a model", path, "Give a path that does not end in .tflite.")


def check_apart(path: Path, flag: str, inputs: dict[str, Path]) -> None:
    """Raises RecipeError where an output is one of the inputs, by whatever name. inputs: by what named them."""
    for name, input_path in inputs.items():
        both = os.path.exists(path) and os.path.exists(input_path)
        if os.path.realpath(path) == os.path.realpath(input_path) or both and os.path.samefile(path, input_path):
            raise RecipeError(flag, f"must be a different file from {name}", path, "Give another path.")


def check_different(outputs: dict[str, Path]) -> None:
    """Raises RecipeError where two outputs of a command are one file, by whatever name and link. outputs: by what named
    them; a device or a pipe takes several."""
    files = [(flag, path) for flag, path in outputs.items() if not _is_special(path)]
    for number, (flag, path) in enumerate(files):
        for other, earlier in files[:number]:
            linked = os.path.exists(path) and os.path.exists(earlier) and os.path.samefile(path, earlier)
            if linked or os.path.realpath(path) == os.path.realpath(earlier):
                raise RecipeError(f"{other} and {flag}", "must be different files", path, "Give another path to one.")


def check_outside(path: Path, flag: str, folder: Path, description: str, hidden_allowed: bool = False) -> None:
    """Raises RecipeError where an output is the folder or lies in it, by whatever links. description: the folder, in
    words.

    hidden_allowed: whether it may lie below a hidden folder of it, as `.kd2mobile` is: nothing hidden is read as data.
    """
    resolved, around = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if (
        around in resolved.parents
        and hidden_allowed
        and any(p.startswith(".") for p in resolved.relative_to(around).parts)
    ):
        return
    if resolved == around or around in resolved.parents:
        raise RecipeError(flag, f"must lie outside {folder}, {description}", path, "Give another path.")


def write_output(path: Path, text: str) -> None:
    """The text in UTF-8, in the path's place or into the device or pipe that is there."""
    if _is_special(path):
        with disk_errors(path), open(path, "w", encoding="utf-8") as device:
            device.write(text)
    else:
        write_bytes(path, text.encode("utf-8"))


def _is_special(path: Path) -> bool:
    try:
        return not stat.S_ISREG(mode := os.stat(path).st_mode) and not stat.S_ISDIR(mode)
    except OSError:
        return False


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""
