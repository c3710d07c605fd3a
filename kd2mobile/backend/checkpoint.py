"""The whole state of a training after an epoch, in one file that is written beside the last one and then renamed."""

import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd2mobile.files import replaced, write_text
from kd2mobile.progress import say

HISTORY_FILE = "history.jsonl"
KEPT = 2
"""Checkpoints that stay: the newest, and the one before it in case the newest turns out damaged."""


@dataclass(frozen=True)
class Checkpoint:
    """state: every variable of the training, in its order: weights, statistics, random seeds, optimizer.

    best: the student's weights at its best epoch. history: one JSON-able line an epoch.
    """

    state: list[np.ndarray]
    best: list[np.ndarray]
    history: list[dict[str, Any]]


def values_of(variables: list[Any]) -> list[np.ndarray]:
    """The values of Keras variables as arrays of their own, which further training does not change."""
    import keras

    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def set_values(variables: list[Any], values: list[np.ndarray]) -> None:
    """Gives the variables, of any Keras, these values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def resume(folder: Path, variables: list[Any]) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Takes up the newest whole checkpoint: the variables get its state. Returns its history and best weights.

    Both are empty where there is no checkpoint.
    """
    checkpoint = read_checkpoint(folder, [tuple(variable.shape) for variable in variables])
    if checkpoint is None:
        return [], []
    set_values(variables, checkpoint.state)
    return checkpoint.history, checkpoint.best


def checkpoint_path(folder: Path, epochs: int) -> Path:
    """`checkpoint-00007.npz`, the state after 7 epochs."""
    return folder / f"checkpoint-{epochs:05d}.npz"


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Writes the state after the last epoch in the history; older checkpoints than the one before it go.

    A failure half-way (a full disk, a kill) leaves the former checkpoints as they were. Raises OSError.
    """
    path = checkpoint_path(folder, len(checkpoint.history))
    arrays = {f"state/{i:05d}": a for i, a in enumerate(checkpoint.state)}
    arrays |= {f"best/{i:05d}": a for i, a in enumerate(checkpoint.best)}
    arrays["history"] = np.frombuffer(json.dumps(checkpoint.history).encode(), np.uint8)
    with replaced(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
    for old in _checkpoints(folder)[KEPT:]:
        old.unlink()
    return path


def read_checkpoint(folder: Path, shapes: list[tuple[int, ...]]) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None. A damaged one is reported and removed.

    shapes: of the variables that `state` must fit, in order.
    """
    checkpoints = _checkpoints(folder)
    for number, path in enumerate(checkpoints, start=1):
        try:
            return _read(path, shapes)
        except (OSError, ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as fault:
            rest = checkpoints[number:]
            step = f"trying {rest[0].name}" if rest else "training starts again from the beginning"
            say(f"{path}: damaged checkpoint ({fault}); {step}")
            path.unlink()
    return None


def remove_checkpoints(folder: Path) -> None:
    """Removes what only an unfinished training needs."""
    for path in _checkpoints(folder):
        path.unlink(missing_ok=True)


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """`history.jsonl`, a line of JSON an epoch, in place of the old file in one step."""
    write_text(folder / HISTORY_FILE, "".join(json.dumps(line) + "\n" for line in history))


def _read(path: Path, shapes: list[tuple[int, ...]]) -> Checkpoint:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:  # its end reached, a CRC-32 is checked
        state = [stored[n] for n in sorted(stored.files) if n.startswith("state/")]
        best = [stored[n] for n in sorted(stored.files) if n.startswith("best/")]
        history = json.loads(stored["history"].tobytes())
    if [a.shape for a in state] != shapes:
        raise ValueError("its variables are not those of this training")
    if path != checkpoint_path(path.parent, len(history)):
        raise ValueError(f"it holds {len(history)} epochs")
    return Checkpoint(state, best, history)


def _checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    return sorted((p for p in folder.glob("checkpoint-*.npz") if re.fullmatch(r"\d{5,}", p.stem[11:])), reverse=True)
