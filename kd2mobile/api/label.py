"""`label`: the teacher's pass alone."""

from pathlib import Path
from typing import Any

from kd2mobile.api.distill import members_val_top1, teacher_val_top1
from kd2mobile.api.results import Labelled
from kd2mobile.api.start import composed
from kd2mobile.backend.keras_backend import load_keras
from kd2mobile.files import system_errors
from kd2mobile.stages.plan import make_plan
from kd2mobile.store.artifact import Store
from kd2mobile.store.run import STORE, check_outside_data


@system_errors()
def label(
    recipe: Path | None = None,
    *,
    store: Path | None = None,
    settings: dict[str, Any] | None = None,
    **flags: Any,
) -> Labelled:
    """The teacher's pass alone: its logits for every view, as `distill` would make and will find them."""
    resolved, artifacts = composed(recipe, settings, flags), Store(store or STORE)
    check_outside_data(resolved, {"--store": artifacts.root})
    load_keras()
    plan = make_plan(resolved, artifacts)
    transfer = artifacts.make(plan.steps["transfer"])
    unlabelled = artifacts.make(plan.unlabelled["transfer"]).folder if plan.unlabelled else None
    return Labelled(
        folder=transfer.folder,
        teachers=[artifacts.folder(step) for step in plan.teachers],
        val_top1=teacher_val_top1(transfer),
        unlabelled=unlabelled,
        members=members_val_top1(transfer),
    )
