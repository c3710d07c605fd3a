"""The measurement on the board itself: `python -m kd2mobile.measure.ssh.measure_on_board FOLDER`, in its environment.

FOLDER holds request.json. The measurement writes there progress.jsonl, one message per line; outputs-i.npy, the outputs
of file i, float32 [evaluated, classes]; and last answer.json with the other results, or with the reason of a refusal.
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from kd2mobile import progress
from kd2mobile.backend.child import Refusal
from kd2mobile.errors import Kd2MobileError
from kd2mobile.files import write_bytes, write_npy
from kd2mobile.measure.files import FileToMeasure, opened_files
from kd2mobile.measure.host.measure import measure
from kd2mobile.measure.litert.worker import Profile
from kd2mobile.measure.protocol import Protocol
from kd2mobile.pixels import Resize

Index = Annotated[int, Meta(ge=0, lt=2**53)]


class FileThere(msgspec.Struct, frozen=True):
    """A file by its SHA-256, with its options. resize: how an image becomes its square."""

    sha256: str
    resize: Resize
    mean: float | list[float] | None
    std: float | list[float] | None


class Request(msgspec.Struct, frozen=True):
    """What to measure. images: by SHA-256, once per image, copies included. files_folder: the folder of files and
    images, filled in by the board."""

    files: list[FileThere]
    images: list[str]
    protocol: Protocol
    skip_unreadable: bool
    files_folder: str = ""


class Answer(msgspec.Struct, frozen=True):
    """The result: `files.FromDevice` without the outputs. skipped: (index of the image, reason)."""

    words: str = ""
    profiles: list[list[Profile]] = []
    evaluated: list[Index] = []
    skipped: list[tuple[Index, str]] = []
    refusal: Refusal | None = None


def main(folder: Path) -> None:
    """Measures what the request in the folder asks for."""
    request = msgspec.json.decode((folder / "request.json").read_bytes(), type=Request)
    with open(folder / "progress.jsonl", "w", encoding="ascii") as shown:
        progress.tell_to(lambda message: print(_as_json(message), file=shown, flush=True))
        answer = _answer(request, folder)
    write_bytes(folder / "answer.json", msgspec.json.encode(answer))


def _as_json(message: progress.Progress) -> str:
    return json.dumps(msgspec.to_builtins(message))


def _answer(request: Request, folder: Path) -> Answer:
    files_folder = Path(request.files_folder)
    files = [
        FileToMeasure(path=files_folder / file.sha256, resize=file.resize, mean=file.mean, std=file.std)
        for file in request.files
    ]
    images = [files_folder / name for name in request.images]
    try:
        skip = request.skip_unreadable
        with opened_files(files, request.protocol) as opened:
            result = measure("", None, opened, images, request.protocol, skip_unreadable=skip)
    except Kd2MobileError as fault:
        return Answer(refusal=Refusal.of(fault))
    for number, one in enumerate(result.answered):
        write_npy(folder / f"outputs-{number}.npy", one.outputs)
    evaluated = result.evaluated.tolist()
    left = sorted(set(range(len(images))) - set(evaluated))
    return Answer(
        words=result.words,
        profiles=[one.profiles for one in result.answered],
        evaluated=evaluated,
        skipped=[(index, reason) for index, (_, reason) in zip(left, result.skipped, strict=True)],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
