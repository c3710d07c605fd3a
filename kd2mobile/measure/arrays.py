"""Arrays from files that anybody may have written: what they say of themselves is looked at before it is believed."""

from typing import IO

import numpy as np

LONGEST_HEADER = 10_000
"""Bytes before an array's numbers; those that NumPy writes have 128."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_floats(stored: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """The array of an open .npy file, if it has that shape and holds floating-point numbers; no more is read than
    these take. Raises ValueError with what it is instead."""
    version = np.lib.format.read_magic(stored)
    if version not in _HEADERS:
        raise ValueError("a .npy file of another version")
    found, by_columns, kind = _HEADERS[version](stored, max_header_size=LONGEST_HEADER)
    if found != shape or by_columns or kind.kind != "f":
        raise ValueError(f"{kind} {found}, not float {shape}")
    size = int(np.prod(shape, dtype=object)) * kind.itemsize
    numbers = stored.read(size)
    if len(numbers) < size:
        raise ValueError("one that ends too early")
    return np.frombuffer(numbers, kind).reshape(shape)
