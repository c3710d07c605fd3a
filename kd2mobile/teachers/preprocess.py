"""The pixel values that teachers take. With NumPy alone, so the numbers are the same on every backend."""

from typing import Literal, get_args

import numpy as np

Mode = Literal["tf", "torch", "caffe", "none"]
MODES: tuple[Mode, ...] = get_args(Mode)

_TORCH_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_TORCH_STD = np.array([0.229, 0.224, 0.225], np.float32)
_CAFFE_MEAN_BGR = np.array([103.939, 116.779, 123.68], np.float32)


def preprocess(pixels: np.ndarray, mode: Mode) -> np.ndarray:
    """uint8 [..., 3] RGB to the float32 [..., 3] that a teacher with that mode takes.

    `tf`: [-1, 1]; `torch`: [0, 1], less the mean of ImageNet's channels, by their standard deviation; `caffe`: BGR
    less the mean of ImageNet's channels, in 0..255; `none`: 0..255 as it is, the model does the rest itself.
    Source: keras.applications.imagenet_utils.preprocess_input, which has the first three under the same names.

    >>> preprocess(np.array([[0, 255, 255]], np.uint8), "tf").tolist()
    [[-1.0, 1.0, 1.0]]
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
    floats = pixels.astype(np.float32)
    if mode == "tf":
        return floats / np.float32(127.5) - np.float32(1)
    if mode == "torch":
        return (floats / np.float32(255) - _TORCH_MEAN) / _TORCH_STD
    if mode == "caffe":
        return floats[..., ::-1] - _CAFFE_MEAN_BGR
    return floats
