"""The numbers for 8-bit inputs, beside fractions worked out exactly."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd2mobile.measure.litert.eight_bit import LOWEST, fits, quantized, takes_plain_pixels

PUBLISHED = [
    ("uint8", 1 / 128, 128),  # Coral's and TensorFlow's own
    ("uint8", 1 / 128, 127),
    ("uint8", 1 / 127.5, 127),  # Teachable Machine's, kd2mobile's
    ("uint8", 2 / 255, 128),
    ("uint8", 1 / 255, 0),
    ("uint8", 1.0, 0),
    ("int8", 1 / 255, -128),  # MLPerf Tiny's
    ("int8", 1.0, -128),
    ("int8", 1 / 127.5, -1),
    ("int8", 1 / 127.5, 0),
]
OTHERS = [
    ("uint8", 0.0187, 114),
    ("uint8", 0.0125, 131),
    ("uint8", 0.00627, 159),
    ("uint8", 2.0, 0),
    ("int8", 0.0353, -1),
    ("int8", 0.0187, -14),
    ("int8", 1.0, 0),
    ("int8", 1 / 255, 0),
]


def float32(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(("dtype", "scale", "zero_point"), PUBLISHED)
def test_published_inputs_take_the_pixel_itself(dtype, scale, zero_point):
    scale = float(np.float32(scale))
    assert takes_plain_pixels(dtype, scale, zero_point)
    width = round(255 * scale)
    normal = {255: (0, 1), 1: (0, 255), 2: (127.5, 127.5)}[width]
    assert fits(dtype, scale, zero_point, *map(float32, normal))
    assert quantized(dtype, scale, zero_point, *map(float32, normal)) is None


@pytest.mark.parametrize(("dtype", "scale", "zero_point"), OTHERS)
def test_other_inputs_are_not_plain(dtype, scale, zero_point):
    assert not takes_plain_pixels(dtype, float(np.float32(scale)), zero_point)


def test_a_table_worked_out_by_hand():
    """(60 - 123.675) / 58.395 / 0.0353 = -30.889..., so -31; one less by the zero point. 255 is beyond 127."""
    table = quantized("int8", 0.0353, -1, float32(123.675, 0, 60), float32(58.395, 1, 60))
    assert table.shape == (256, 3) and table.dtype == np.int8
    assert table[60].tolist() == [-32, 127, -1] and table[0].tolist() == [-61, -1, -29] and table[255, 1] == 127


@given(
    st.sampled_from(["uint8", "int8"]),
    st.floats(2**-13, 2, width=32),
    st.integers(-128, 255),
    st.floats(-300, 300, width=32),
    st.floats(0.125, 300, width=32),
    st.integers(0, 255),
)
def test_what_it_takes_is_the_nearest_number_that_it_can_stand_for(dtype, scale, zero_point, mean, std, pixel):
    low = LOWEST[dtype]
    table = quantized(dtype, scale, zero_point, float32(mean), float32(std))
    taken = pixel + low if table is None else int(table[pixel, 1])
    exact = (pixel - Fraction(mean)) / Fraction(std) / Fraction(scale) + zero_point
    held = min(max(exact, Fraction(low)), Fraction(low + 255))
    assert abs(taken - held) <= (Fraction(3, 2) if table is None else Fraction(1, 2)) + Fraction(1, 10**6)
