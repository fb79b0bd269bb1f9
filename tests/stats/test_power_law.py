"""Exponents and ratios against scipy's regression, numbers worked by hand, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from harness.stats.intervals import NONE
from harness.stats.power_law import CALLS, EXACT, FIT, Timed, log_ratio, power_law


def test_a_power_law_is_found_and_its_interval_is_that_of_a_regression():
    x, noise = np.array([32, 64, 128, 256, 512.0]), np.array([0.02, -0.05, 0.04, 0.01, -0.03])
    y = 7 * x**1.3 * np.exp(noise)
    found = power_law(x, y)
    line = stats.linregress(np.log(x), np.log(y))
    half = stats.t.ppf(0.975, 3) * line.stderr
    assert (found.exponent.mean, found.exponent.low, found.exponent.high) == pytest.approx(
        (line.slope, line.slope - half, line.slope + half))
    assert found.at(100) == pytest.approx(math.exp(line.intercept) * 100**line.slope)
    assert (found.exponent.n, found.exponent.method) == (5, FIT)
    wide = power_law(x, y, 0.99).exponent
    assert wide.half_width / half == pytest.approx(stats.t.ppf(0.995, 3) / stats.t.ppf(0.975, 3))


def test_three_points_by_hand():
    # log2: (0, 0), (1, 1), (2, 3): slope 1.5, residuals 1/6 (1, -2, 1), error sqrt((6/36) / 1 / 2); t(0.975, 1) = 12.7
    found = power_law([1, 2, 4], [1, 2, 8]).exponent
    assert found.mean == pytest.approx(1.5)
    assert found.half_width == pytest.approx(12.7062 * math.sqrt(1 / 12), rel=1e-5)


def test_points_on_a_curve_widen_the_interval_and_points_on_a_line_do_not():
    x = np.array([1, 4, 16, 64.0])
    straight, bent = power_law(x, 3 * x).exponent, power_law(x, x + x**2 / 8).exponent
    assert straight.half_width == pytest.approx(0, abs=1e-12) and straight.mean == pytest.approx(1)
    assert bent.half_width > 0.1 and 1 < bent.mean < 2


def test_too_few_points():
    two = power_law([1, 4], [1, 8]).exponent
    assert two.mean == pytest.approx(1.5) and not two.exists and (two.n, two.method) == (2, NONE)
    for x, y in (([4], [1]), ([4, 4], [1, 2]), ([], [])):
        assert math.isnan(power_law(x, y).exponent.mean)
    odd = power_law([1, 2, 4, 8, 16], [1, 2, math.nan, 0, 16]).exponent
    assert (odd.mean, odd.n, odd.undefined) == (pytest.approx(1), 3, 2)


def test_the_interval_of_a_ratio_holds_it_about_as_often_as_it_says():
    random, held, rounds = np.random.default_rng(0), 0, 400
    for _ in range(rounds):
        calls = [random.normal(100, 4, 30), random.normal(80, 4, 30)]
        timed = [Timed(float(np.median(one)), float(np.subtract(*np.percentile(one, (75, 25)))), 30) for one in calls]
        found = log_ratio(*timed)
        held += found.low <= math.log(100 / 80) <= found.high
    assert 0.91 < held / rounds < 0.99


def test_a_ratio_by_hand_exact_and_without_an_interval():
    # errors 1.25 * 2 / (1.35 * 5) / 10 and the same of 1 / 5; t(0.975, 24) = 2.0639
    found = log_ratio(Timed(10, 2, 25), Timed(5, 1, 25))
    error = 1.25 * 2 / (1.35 * 5) / 10 * math.sqrt(2)
    assert (found.mean, found.half_width) == pytest.approx((math.log(2), 2.0639 * error), rel=1e-4)
    assert (found.n, found.method) == (25, CALLS)
    exact = log_ratio(Timed(10), Timed(5))
    assert exact.low == exact.high == exact.mean == math.log(2) and exact.method == EXACT
    assert not log_ratio(Timed(10, 2, 1), Timed(5, 1, 25)).exists
    assert log_ratio(Timed(0, 0, 9), Timed(5, 1, 9)).n == 0
