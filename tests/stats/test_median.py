import math

import numpy as np
import pytest
from scipy import stats

from harness.stats.intervals import NONE
from harness.stats.median import SIGN_TEST, STUDENT, median_interval, median_ratio


def test_the_sign_test_does_not_reject_what_lies_between_and_rejects_what_lies_beyond():
    values = np.random.default_rng(0).gamma(2, size=25)
    found = median_interval(values)
    assert found.value == np.median(values) and found.method == SIGN_TEST

    def p(median):
        return stats.binomtest(int((values > median).sum()), len(values)).pvalue

    tiny = 1e-9
    assert p(found.low + tiny) > 0.05 and p(found.high - tiny) > 0.05
    assert p(found.low - tiny) <= 0.05 and p(found.high + tiny) <= 0.05


def test_six_values_are_the_fewest_that_decide_by_signs():
    six, nine = median_interval([6, 1, 5, 2, 4, 3]), median_interval(range(1, 10))
    assert (six.value, six.low, six.high, six.n) == (3.5, 1, 6, 6)
    assert (nine.value, nine.low, nine.high) == (5, 2, 8)             # P(at most 1 of 9 below) = 2 %: one may go
    assert median_interval([1, 2, 3, 4, 5]).method == STUDENT


def test_few_values_have_students_interval_and_two_have_none():
    expected = stats.ttest_1samp([1.0, 2.0, 6.0], 0).confidence_interval(0.95)
    found = median_interval([6.0, 1.0, 2.0])
    assert (found.value, found.low, found.high) == (2.0, pytest.approx(expected.low), pytest.approx(expected.high))
    for values in ([], [3.0], [3.0, 4.0]):
        none = median_interval(values)
        assert none.method == NONE and math.isnan(none.low) and none.n == len(values)
    assert math.isnan(median_interval([]).value) and median_interval([3.0, 4.0]).value == 3.5


def test_undefined_values_are_left_out_and_counted():
    found = median_interval([1.0, math.nan, 3.0, math.inf, 5.0])
    assert (found.value, found.n, found.undefined) == (3.0, 3, 2)


@pytest.mark.parametrize("n", [3, 5, 6, 9, 20])
def test_it_covers_the_median_as_often_as_it_says(n):
    draws = np.random.default_rng(1).standard_t(3, size=(2000, n))    # heavy tails on both sides
    hits = sum(found.low <= 0 <= found.high for found in map(median_interval, draws))
    assert hits / 2000 > 0.94


def test_one_stall_does_not_move_it():
    calm = [2.0, 2.1, 1.9, 2.0, 2.05, 1.95, 2.0]
    stalled = [*calm[:-1], 40.0]
    assert median_interval(stalled).value == median_interval(calm).value


def test_a_ratio_says_the_same_turned_round():
    above, below = [3.0, 4.0, 5.0, 2.0, 3.5, 2.5, 3.1], [1.0, 2.0, 1.5, 1.1, 1.0, 1.2, 1.3]
    found, turned = median_ratio(above, below), median_ratio(below, above)
    assert found.value == pytest.approx(np.median(np.array(above) / below))
    assert (found.value, found.low, found.high) == pytest.approx((1 / turned.value, 1 / turned.high, 1 / turned.low))
    with pytest.raises(ValueError):
        median_ratio([1.0], [1.0, 2.0])
