"""The transfer set on disk: raw logits, float16, so that temperature and loss stay free."""

from pathlib import Path

from kd2mobile.data.shards import Shards, open_shards
from kd2mobile.data.split import SplitName


class Transfer:
    """A folder that `transfer.label.label` filled; relocatable, for it holds no path.

    Probabilities are never stored: soft targets are softmax(logits / temperature). Samples are in the order of
    Split.samples_of(name), views in that of the views artifact.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def logits(self, name: SplitName) -> Shards:
        """float16 [samples, views, classes], memory-mapped. Raises ArtifactError if a shard is missing or corrupt."""
        return open_shards(self.folder, name)
