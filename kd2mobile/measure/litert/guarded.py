"""A classifier in a separate process, because a damaged file can crash LiteRT, which must not end the command.

Commands open every .tflite in this way, whoever made it.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from kd2mobile.measure.litert.worker import FileProcess, FileToTime
from kd2mobile.measure.protocol import Setting


class GuardedClassifier:
    """A `runtime.Classifier` as a context: its process ends with the block; its attributes remain.

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
        """mean, std: as for a Classifier. Entering it raises what a Classifier raises, and ModelFileError for a file
        that crashes the process."""
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
        """The outputs for the image uint8 [px, px, 3], dequantized: float32 [classes], probabilities or not.

        Raises ModelFileError if one is not a finite number, or if the process crashes.
        """
        return self._process.outputs(pixels)
