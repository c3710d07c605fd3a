"""The measurement on the board itself: `python -m kd2mobile.measure.ssh.work FOLDER`, in its environment.

FOLDER holds request.json. What it says goes to said.jsonl, a message a line; the answers of file i to outputs-i.npy,
float32 [evaluated, classes]; last, answer.json says the rest, or why it was refused.
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

Place = Annotated[int, Meta(ge=0, lt=2**53)]


class FileThere(msgspec.Struct, frozen=True):
    """A file by its SHA-256, and what is said of it here. resize: how an image becomes its square."""

    sha256: str
    resize: Resize
    mean: float | list[float] | None
    std: float | list[float] | None


class Request(msgspec.Struct, frozen=True):
    """What to measure. images: by SHA-256, those of a copy alike. files_folder: where both lie, said by the board."""

    files: list[FileThere]
    images: list[str]
    protocol: Protocol
    skip_unreadable: bool
    files_folder: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What the measurement found: `files.FromDevice` but for the outputs. skipped: (image's index, reason)."""

    words: str = ""
    profiles: list[list[Profile]] = []
    evaluated: list[Place] = []
    skipped: list[tuple[Place, str]] = []
    refusal: Refusal | None = None


def main(folder: Path) -> None:
    """Does the request in the folder."""
    request = msgspec.json.decode((folder / "request.json").read_bytes(), type=Request)
    with open(folder / "said.jsonl", "w", encoding="ascii") as said:
        progress.tell_to(lambda message: print(_as_json(message), file=said, flush=True))
        answer = _answer(request, folder)
    write_bytes(folder / "answer.json", msgspec.json.encode(answer))


def _as_json(message: progress.Progress) -> str:
    return json.dumps(msgspec.to_builtins(message))


def _answer(request: Request, folder: Path) -> Answer:
    place = Path(request.files_folder)
    files = [
        FileToMeasure(path=place / file.sha256, resize=file.resize, mean=file.mean, std=file.std)
        for file in request.files
    ]
    images = [place / name for name in request.images]
    try:
        aside = request.skip_unreadable
        with opened_files(files, request.protocol) as opened:
            given = measure("", None, opened, images, request.protocol, skip_unreadable=aside)
    except Kd2MobileError as fault:
        return Answer(refusal=Refusal.of(fault))
    for number, one in enumerate(given.answered):
        write_npy(folder / f"outputs-{number}.npy", one.outputs)
    evaluated = given.evaluated.tolist()
    left = sorted(set(range(len(images))) - set(evaluated))
    return Answer(
        words=given.words,
        profiles=[one.profiles for one in given.answered],
        evaluated=evaluated,
        skipped=[(index, reason) for index, (_, reason) in zip(left, given.skipped, strict=True)],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
