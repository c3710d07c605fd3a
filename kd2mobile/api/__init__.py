"""The Python API: one function per command, and what each returns."""
