import math

import numpy as np
import pytest
from scipy import stats

from harness.stats.intervals import CASES, NONE, SEEDS, bootstrap_interval, mean_interval


def test_mean_interval_is_the_one_sample_t_interval():
    values = [5.1, 4.7, 6.0, 5.5]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.mean, found.n, found.undefined, found.method) == (pytest.approx(np.mean(values)), 4, 0, SEEDS)
    assert found.half_width == pytest.approx(found.mean - found.low)


def test_three_seeds_by_hand():
    # mean 2, standard error 1/sqrt(3), t(0.975, 2) = 4.30265
    assert mean_interval([1, 2, 3]).half_width == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)


def test_one_seed_has_a_mean_and_no_interval():
    found = mean_interval([3.0])
    assert (found.mean, found.n, found.method, found.exists) == (3.0, 1, NONE, False)
    assert math.isnan(found.low) and math.isnan(found.half_width)


def test_undefined_values_are_left_out_and_counted():
    found = mean_interval([1.0, math.nan, 3.0, math.inf])
    assert (found.mean, found.n, found.undefined) == (2.0, 2, 2)
    empty = mean_interval([math.nan])
    assert math.isnan(empty.mean) and (empty.n, empty.undefined) == (0, 1)


def test_overlap_needs_two_intervals():
    assert mean_interval([1, 2, 3]).overlaps(mean_interval([2, 3, 4]))
    assert not mean_interval([1, 1.01]).overlaps(mean_interval([5, 5.01]))
    assert not mean_interval([1, 2, 3]).overlaps(mean_interval([2]))


def test_t_interval_covers_the_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = sum(abs(found.mean) <= found.half_width for found in map(mean_interval, random.normal(size=(2000, 3))))
    assert 0.93 < hits / 2000 < 0.97


def test_bootstrap_is_scipys_for_one_value_per_case():
    values = np.random.default_rng(1).normal(0.8, 0.1, 40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=1000, rng=np.random.default_rng(0)
    ).confidence_interval
    found = bootstrap_interval(values)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)
    assert (found.n, found.method) == (40, CASES)


def test_bootstrap_averages_cases_within_classes_then_classes():
    table = np.array([[1.0, 0.0], [0.5, np.nan], [0.6, np.nan], [np.nan, np.nan]])
    found = bootstrap_interval(table)
    assert found.mean == pytest.approx(((1 + 0.5 + 0.6) / 3 + 0) / 2)
    assert (found.n, found.undefined) == (3, 1)
    assert found.low <= found.mean <= found.high


def test_bootstrap_of_equal_one_and_no_cases():
    equal = bootstrap_interval([0.5] * 6)
    assert (equal.low, equal.mean, equal.high) == (0.5, 0.5, 0.5)
    assert not bootstrap_interval([0.5]).exists
    assert math.isnan(bootstrap_interval([math.nan, math.nan]).mean)
    same = bootstrap_interval(np.random.default_rng(2).random((9, 3)))
    assert same == bootstrap_interval(np.random.default_rng(2).random((9, 3)))
