"""The Python API: one function per command, and what each returns."""

import kd2mobile.stages.table  # noqa: F401 - by it the store checks the records of every stage
