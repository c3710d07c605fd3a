"""The small models. Each takes RGB in [-1, 1] and gives logits; listing them loads no framework."""

from kd2mobile.students.registry import STUDENTS, Student, build_student, check_student
from kd2mobile.students.train_layers import freeze_all_but, last_layers

__all__ = ["STUDENTS", "Student", "build_student", "check_student", "freeze_all_but", "last_layers"]
