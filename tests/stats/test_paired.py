import math

import numpy as np
import pytest
from scipy import stats

from harness.errors import InputError
from harness.inspection.statistics_page import coverage
from harness.stats.hypothesis_tests import sign_flip_test
from harness.stats.paired import compare_paired, difference_interval, effect_size, paired_differences


def test_differences_are_paired_by_seed_and_positive_is_better():
    base, arm = {0: 1.0, 1: 2.0, 2: 3.0, 3: math.nan, 9: 0.0}, {2: 3.5, 1: 2.2, 0: 0.9, 3: 1.0}
    found = paired_differences(base, arm)
    assert found.seeds == (0, 1, 2) and found.values == pytest.approx([-0.1, 0.2, 0.5])
    assert (found.undefined, found.unpaired) == (1, 1)
    assert paired_differences(base, arm, "lower").values == pytest.approx([0.1, -0.2, -0.5])
    with pytest.raises(InputError, match="direction"):
        paired_differences(base, arm, "up")


def test_t_interval_is_that_of_the_paired_t_test():
    random = np.random.default_rng(0)
    base, arm = random.normal(size=7), random.normal(0.5, 1, 7)
    expected = stats.ttest_rel(arm, base).confidence_interval(0.95)
    found = difference_interval(arm - base, method="t")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    few = difference_interval((arm - base)[:4])
    assert few.method.startswith("Student t") and few.n == 4


def test_bootstrap_interval_is_scipys():
    values = np.random.default_rng(1).normal(0.2, 1, 25)
    expected = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    found = difference_interval(values, method="bootstrap")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert found.method.startswith("bootstrap")


@pytest.mark.parametrize("n", [6, 8, 10, 13])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_sign_flip_interval_holds_exactly_what_the_test_does_not_reject(n, level):
    values = np.random.default_rng(n).normal(0.3, 1, n)
    found = difference_interval(values, level, "sign-flip")
    for end, outward in ((found.low, -1), (found.high, 1)):
        assert sign_flip_test(values, threshold=end + outward * 1e-6).p <= 1 - level + 1e-12
        assert sign_flip_test(values, threshold=end - outward * 1e-6).p > 1 - level
    assert found.method.startswith("inverted sign-flip")


def test_few_one_equal_no_and_undefined_differences():
    assert not difference_interval([1, 2, 3, 4, 5], method="sign-flip").exists       # p = .06 at best
    one = difference_interval([0.5])
    assert one.mean == 0.5 and not one.exists and one.method == "no interval"
    assert math.isnan(difference_interval([]).mean)
    equal = difference_interval([0.5] * 8)
    assert (equal.low, equal.mean, equal.high) == (0.5, 0.5, 0.5)
    some = difference_interval([1.0, math.nan, 2.0, 3.0])
    assert (some.n, some.undefined, some.mean) == (3, 1, 2)
    with pytest.raises(InputError, match="did you mean 'bootstrap'"):
        difference_interval([1.0, 2.0], method="boostrap")


def test_effect_size_is_the_unbiased_one():
    values = [0.1, 0.3, 0.2, 0.5, 0.4]
    # J(4) = 0.797885 from Hedges' table
    assert effect_size(values) == pytest.approx(np.mean(values) / np.std(values, ddof=1) * 0.797885, rel=1e-5)
    draws = np.random.default_rng(0).normal(0.8, 1, (4000, 6))
    assert np.mean([effect_size(row) for row in draws]) == pytest.approx(0.8, abs=0.03)
    assert math.isnan(effect_size([1.0, 2.0])) and math.isnan(effect_size([1.0] * 5))


def test_comparison_of_a_metric_where_lower_is_better():
    base = dict(enumerate([10.0, 11, 12, 10, 9, 13]))
    arm = {seed: value - 2 - 0.1 * seed for seed, value in base.items()} | {7: math.nan}
    found = compare_paired(base, arm, direction="lower", threshold=1, alternative="greater")
    assert found.interval.mean == pytest.approx(2.25) and found.test.p == 1 / 64
    assert found.better == 6 and found.pairs.unpaired == 1
    assert found.interval.low <= 2.25 <= found.interval.high
    assert found.sd == pytest.approx(np.std([2, 2.1, 2.2, 2.3, 2.4, 2.5], ddof=1))
    assert compare_paired(base, arm, direction="lower", threshold=3).test.p == 2 / 64


@pytest.mark.parametrize("n", [8, 10])
@pytest.mark.parametrize("spread", ["normal", "Laplace"])
def test_default_intervals_cover_at_ninety_five_percent(n, spread):
    row = coverage(n, "auto", spread, 1500)
    assert row.kept == "yes", row


def test_bootstrap_covers_too_little_at_few_seeds_which_is_why_it_is_not_the_default():
    assert coverage(8, "bootstrap", "normal", 300).found < 0.94
