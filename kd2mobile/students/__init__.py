"""The small models. Every one eats RGB in [-1, 1] and answers with logits; none needs a framework to be listed."""

from kd2mobile.students.registry import STUDENTS, Student, build_student, check_student
from kd2mobile.students.train_layers import freeze_all_but, last_layers

__all__ = ["STUDENTS", "Student", "build_student", "check_student", "freeze_all_but", "last_layers"]
