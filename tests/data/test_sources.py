"""The embedded data: right pictures under the right names, and the same bytes everywhere."""

import sys

import numpy as np
import pytest
from PIL import Image

from kd2mobile.data.scan import scan
from kd2mobile.data.sources import SOURCES
from kd2mobile.errors import MissingExtraError


def test_digits_are_scikit_learns(digits):
    from sklearn.datasets import load_digits

    stored = load_digits()
    assert sorted(p.name for p in digits.iterdir()) == [str(d) for d in range(10)]
    assert sum(1 for _ in digits.glob("*/*.png")) == 1797
    for index in (0, 1, 1000, 1796):
        with Image.open(digits / str(stored.target[index]) / f"{index:04d}.png") as picture:
            assert picture.mode == "L"
            np.testing.assert_allclose(np.asarray(picture), stored.images[index] * 255 / 16, atol=0.5)


def test_their_bytes_do_not_depend_on_a_zlib(digits):
    """The split is drawn by content: a change here is another split, and other published numbers."""
    assert scan(digits).content == "2cd21692ba9668832608a6b8385e8bab521d2997ddd321b26db5652bff7e133f"


def test_a_killed_call_is_called_again(digits, tmp_path):
    SOURCES["digits"](tmp_path)
    (tmp_path / "0" / "0000.png").unlink()
    kept = (tmp_path / "1" / "0001.png").stat().st_mtime_ns
    SOURCES["digits"](tmp_path)
    assert (tmp_path / "1" / "0001.png").stat().st_mtime_ns == kept
    assert scan(tmp_path).content == scan(digits).content and scan(tmp_path).ignored == 0


def test_without_scikit_learn_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r'scikit-learn.*pip install "kd2mobile\[train\]"'):
        SOURCES["digits"](tmp_path)
