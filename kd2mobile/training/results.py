"""What came of a student's training: as the record of its artifact holds it and as readers get it."""

import msgspec

from kd2mobile.store.stage_records import Count, Share

STUDENT_FILE = "student.keras"
"""The network in the folder of a student, and in that of a compressed one."""


class StudentResults(msgspec.Struct, frozen=True, kw_only=True):
    """best_epoch: from 1; val_top1, val_logloss (nats): of the best epoch. seconds: of all epochs, those of a killed
    call included; images_per_s: of training alone. parameters: all weights of the student; trainable_parameters: those
    that the training could change by gradient."""

    best_epoch: Count
    epochs_run: Count
    val_top1: Share
    val_logloss: float
    seconds: float
    images_per_s: float
    parameters: Count
    trainable_parameters: Count
