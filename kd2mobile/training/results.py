"""What the record of a trained student says, as far as it is read."""

import msgspec

from kd2mobile.store.stage_records import Share


class StudentResults(msgspec.Struct, frozen=True):
    val_top1: Share
