from pathlib import Path

import numpy as np
import pytest

from kd2mobile.students import STUDENTS, build_student

SHARED_WEIGHTS = Path(__file__).parents[3] / "shared" / "weights"
CLASSES = 5


@pytest.fixture(scope="session", params=list(STUDENTS))
def built(request):
    """Each registered student once, small, without weights. Not to be changed by a test."""
    return build_student(request.param, max(32, STUDENTS[request.param].smallest_px), CLASSES, "none", seed=0)


@pytest.fixture
def pixels():
    """A maker of random student images: float32 [n, px, px, 3] in [-1, 1]."""

    def make(px, n=3, seed=0):
        return np.random.default_rng(seed).uniform(-1, 1, (n, px, px, 3)).astype(np.float32)

    return make


@pytest.fixture
def shared_file():
    """A file of the weights beside the checkout, or a visible skip."""

    def find(name):
        if not (SHARED_WEIGHTS / name).exists():
            pytest.skip(f"no {SHARED_WEIGHTS / name}: the test with the published weights needs it")
        return SHARED_WEIGHTS / name

    return find
