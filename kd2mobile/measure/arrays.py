"""Arrays from untrusted files: the declared shape and type are checked before the numbers are read."""

from typing import IO

import numpy as np

LONGEST_HEADER = 10_000
"""Bytes before an array's numbers; those that NumPy writes have 128."""
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_floats(stored: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
    """Reads the array of an open .npy file, and no more bytes than an array of that shape has.

    Raises ValueError, with a description of the file, unless it holds floating-point numbers in that shape."""
    version = np.lib.format.read_magic(stored)
    if version not in _HEADERS:
        raise ValueError("a .npy file of another version")
    stored_shape, by_columns, kind = _HEADERS[version](stored, max_header_size=LONGEST_HEADER)
    if stored_shape != shape or by_columns or kind.kind != "f":
        raise ValueError(f"{kind} {stored_shape}, not float {shape}")
    size = int(np.prod(shape, dtype=object)) * kind.itemsize
    numbers = stored.read(size)
    if len(numbers) < size:
        raise ValueError("one that ends too early")
    return np.frombuffer(numbers, kind).reshape(shape)
