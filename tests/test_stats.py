"""Intervals, pairs and ranks against textbook values and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as reference

from bench.stats import comparable, interval, paired, ranks


def test_below_three_nothing_is_decided():
    assert not interval([1.0, 2.0]).decided
    assert comparable([1.0, 2.0], [1.0, 2.0], 0.5) is None


def test_students_interval():
    x = [3.1, 2.9, 3.4, 3.3, 2.8]
    expected = reference.t.interval(0.95, 4, np.mean(x), reference.sem(x))
    assert interval(x)[1:3] == pytest.approx(expected)


def test_a_constant_is_a_number_without_width():
    for n in (3, 9, 10, 50):
        assert interval([0.25] * n)[:3] == (0.25, 0.25, 0.25)


def test_a_failure_is_not_data():
    with pytest.raises(ValueError, match="NaN"):
        interval([1.0, 2.0, float("nan")])


@pytest.mark.parametrize("n", [5, 20])
def test_coverage(n):
    """95 % intervals hold the truth in about 95 of 100 draws (percentile bootstrap at 20: a little less)."""
    rng = np.random.default_rng(1)
    hits = sum(i.low <= 0 <= i.high for i in (interval(rng.standard_normal(n)) for _ in range(300)))
    assert 0.88 <= hits / 300 <= 0.99


def test_pairs_need_the_same_seeds():
    with pytest.raises(ValueError, match="same seeds"):
        paired([1.0], [1.0, 2.0])


def test_comparable():
    a = np.array([90.0, 91.0, 89.5, 90.2])
    assert comparable(a, a + 0.1, 0.5) is True
    assert comparable(a, a + 1.0, 0.5) is False


def test_ties_share_a_rank():
    a = np.array([90.0, 91.0, 89.5, 90.2])
    noise = np.array([0.2, -0.2, 0.1, -0.1])
    assert ranks({"a": a, "b": a + noise, "c": a - 5}) == {"a": 1, "b": 1, "c": 3}
