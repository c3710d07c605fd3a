"""Both halves of both split tensors, there and back."""

import keras
import numpy as np

from kd2mobile.losses.split_targets import pack_output, pack_targets, unpack_output, unpack_targets


def test_targets():
    logits = np.arange(6, dtype=np.float16).reshape(2, 3)
    targets = pack_targets(np.array([2, -1]), 3, logits)
    assert targets.dtype == np.float32
    np.testing.assert_array_equal(targets, [[0, 0, 1, 0, 1, 2], [0, 0, 0, 3, 4, 5]])
    one_hot, teacher_logits = unpack_targets(targets)
    np.testing.assert_array_equal(one_hot, [[0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(teacher_logits, logits)
    np.testing.assert_array_equal(pack_targets(np.array([0]), 2), [[1, 0, 0, 0]])


def test_output():
    z = np.array([[1.0, -2.0], [3.0, 8.0]])
    output = pack_output(keras.ops.convert_to_tensor(z), 4.0)
    np.testing.assert_array_equal(output, [[1, -2, 0.25, -0.5], [3, 8, 0.75, 2]])
    for half, expected in zip(unpack_output(output), (z, z / 4), strict=True):
        np.testing.assert_array_equal(half, expected)
