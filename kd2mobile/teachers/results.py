"""What a teacher is and how it came to know the classes: teacher.json, which is the result of its stage too."""

from typing import Annotated

import msgspec
from msgspec import Meta

from kd2mobile.recipe.schema import INPUT_PX
from kd2mobile.store.stage_records import Count, Validated


class TriedHead(Validated, frozen=True):
    """A new head at one strength of its regularization, C, and how it answers the validation images."""

    C: float
    converged: bool


class Head(msgspec.Struct, frozen=True):
    """The new head that was chosen among those that were tried."""

    C: float
    converged: bool
    tried: list[TriedHead]


class Description(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """teacher.json. Beside a model of the user's own it says what that is: preprocess, classes, output, input_px.

    classes: in the order of the outputs. way: how it knows them: `file` and `imagenet`, its own head is used, the
    latter's outputs being those of imagenet_ids; `head`, a new one; `nothing`, trained from scratch, by history;
    `logits`, given. fine_tuning: the history of its body's. changes: what was done to a model from a file. rows, dtype:
    of given logits, unused_rows those without an image.
    """

    name: str = ""
    weights: str | None = None
    input_px: Annotated[int, Meta(ge=1, le=INPUT_PX)] | None = None
    preprocess: str | None = None
    output: str | None = None
    classes: list[str] | None = None
    resize: str | None = None
    parameters: Count | None = None
    way: str | None = None
    changes: list[str] | None = None
    imagenet_ids: list[str] | None = None
    head: Head | None = None
    history: list[dict[str, float | None]] | None = None
    fine_tuning: list[dict[str, float | None]] | None = None
    rows: Count | None = None
    unused_rows: Count | None = None
    dtype: str | None = None
    val: Validated | None = None

    @property
    def are_logits(self) -> bool:
        """Whether it says that the answers are logits, so that `check_logits` need not guess."""
        return self.output == "logits"
