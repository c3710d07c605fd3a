"""What came of a compression: as the record of its artifact holds it and as readers get it."""

import msgspec

from kd2mobile.store.stage_records import Count, Share


class Evaluation(msgspec.Struct, frozen=True):
    """A student on the validation images. val_logloss: in nats."""

    val_top1: Share
    val_logloss: float


class CompressedResults(msgspec.Struct, frozen=True, kw_only=True):
    """val_top1, val_logloss: of the best epoch, before: of the student that came in. seconds: of all epochs.

    twin_difference: the largest one of a logit between the student and its Keras 2 twin. zeros: the fraction of the
    weights of the pruned layers, of prune and after it; clusters: the most distinct weights of a layer, of cluster and
    after it; both are counted on what came out.
    """

    best_epoch: Count
    epochs_run: Count
    val_top1: Share
    val_logloss: float
    before: Evaluation
    seconds: float
    twin_difference: float
    zeros: Share | None = None
    clusters: Count | None = None
