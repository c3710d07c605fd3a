"""Converts a pixel to the value of an 8-bit input, by the scale and zero point of the input.

A quantized input q stands for (q - zero_point) * scale. A network that was trained on (pixel - mean) / std gets the q
that stands for this number. Where that q differs from the pixel by no more than one step of rounding, it gets the pixel
itself, as from MediaPipe. export/web/classifier.js, export/python and export/android do the same.
"""

import numpy as np

LOWEST = {"uint8": 0, "int8": -128}
PLAIN_RANGES = ((0.0, 255.0), (0.0, 1.0), (-1.0, 1.0))
"""The ranges to which networks map pixels from 0 to 255; -1..1 by 1/127.5 or 1/128."""


def stands_for(dtype: str, scale: float, zero_point: int) -> tuple[float, float]:
    """The least and the highest number that the input can stand for.

    >>> stands_for("uint8", 1 / 128, 128)
    (-1.0, 0.9921875)
    """
    low = LOWEST[dtype]
    return (low - zero_point) * scale, (low + 255 - zero_point) * scale


def takes_plain_pixels(dtype: str, scale: float, zero_point: int) -> bool:
    """Whether the input's range is one of PLAIN_RANGES, each end to within one of its 255 steps.

    >>> takes_plain_pixels("int8", 1 / 255, -128), takes_plain_pixels("int8", 0.0187, -14)
    (True, False)
    """
    low, high = stands_for(dtype, scale, zero_point)
    return any(max(abs(low - first), abs(high - last)) <= (last - first) / 255 * 1.01 for first, last in PLAIN_RANGES)


def fits(dtype: str, scale: float, zero_point: int, mean: np.ndarray, std: np.ndarray) -> bool:
    """Whether the input can stand for (pixel - mean) / std of every pixel, to within one step."""
    low, high = stands_for(dtype, scale, zero_point)
    ends = (np.array([[0.0], [255.0]]) - mean.astype(np.float64)) / std.astype(np.float64)
    return bool(ends.min() >= low - scale * 1.01 and ends.max() <= high + scale * 1.01)


def quantized(dtype: str, scale: float, zero_point: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray | None:
    """The value of the input for each pixel of each channel, in its dtype [256, 3]; None where it is the pixel itself
    (minus 128 for an int8 input) to within 1.

    mean, std: float32 [1] or [3]. Halves are rounded up, and values out of range are clipped.
    """
    pixels, low = np.arange(256, dtype=np.float64)[:, np.newaxis], LOWEST[dtype]
    real = (pixels - mean.astype(np.float64)) / std.astype(np.float64)
    values = np.clip(np.floor(real / scale + 0.5) + zero_point, low, low + 255)
    if np.abs(values - (pixels + low)).max() <= 1:
        return None
    return np.broadcast_to(values, (256, 3)).astype(dtype)
