"""The results in the record of a trained student that later code reads."""

import msgspec

from kd2mobile.store.stage_records import Share


class StudentResults(msgspec.Struct, frozen=True):
    val_top1: Share
