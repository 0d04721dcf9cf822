"""Cosines by hand."""

import math

import numpy as np
import pytest

from analysis.embedding import cosine


def test_cosines_by_hand():
    one = np.array([3.0, 4.0], dtype=np.float32)
    assert cosine(one, 2 * one) == pytest.approx(1)
    assert cosine(one, np.array([4.0, -3.0], dtype=np.float32)) == pytest.approx(0)
    assert cosine(one, np.array([1.0, 0.0], dtype=np.float32)) == pytest.approx(0.6)
    assert math.isnan(cosine(one, 0 * one))
