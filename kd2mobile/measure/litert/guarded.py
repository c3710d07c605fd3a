"""A classifier in a process of its own: LiteRT can die of a damaged file, and must not take the command with it.

Every .tflite that a command is given is opened so, whoever made it.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from kd2mobile.measure.litert.worker import FileProcess, FileToTime
from kd2mobile.measure.protocol import Setting


class GuardedClassifier:
    """What `runtime.Classifier` is, as a context: its process ends with the block, its attributes stay.

    path, input_px, classes, input, output, metadata, mean, std, last_op, notes: as of a Classifier.
    """

    def __init__(
        self,
        path: Path,
        setting: Setting,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
    ):
        """mean, std: as a Classifier takes them. Entering it raises ModelFileError as opening a Classifier does, and
        for a file of which its process dies."""
        self.path = Path(path)
        self._process = FileProcess(FileToTime(self.path, mean, std), setting)

    def __enter__(self) -> "GuardedClassifier":
        facts = self._process.__enter__().facts
        self.input_px, self.classes, self.metadata = facts.input_px, facts.classes, facts.metadata
        self.input, self.output = facts.input, facts.output
        self.last_op, self.notes = facts.last_op, facts.notes
        self.mean, self.std = (
            None if value is None else np.array(value, np.float32) for value in (facts.mean, facts.std)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.__exit__(kind, fault, traceback)

    @property
    def step(self) -> float:
        """The step between neighbouring outputs, 0 for floats."""
        return self.output.scale or 0.0

    def outputs(self, pixels: np.ndarray) -> np.ndarray:
        """What the file answers uint8 [px, px, 3] with, dequantized: float32 [classes], probabilities or not.

        Raises ModelFileError if it is not a finite number, or if the process dies of it.
        """
        return self._process.outputs(pixels)
