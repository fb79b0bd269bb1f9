import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from harness.errors import InputError
from harness.inspection.statistics_page import power_at_stated_effect, power_at_stated_seeds
from harness.stats.hypothesis_tests import sign_flip_test
from harness.stats.power import minimum_detectable_effect, power, seeds_needed, smallest_n


def test_smallest_n_is_the_issues():
    assert smallest_n() == 6 and smallest_n(comparisons=5) == 8
    assert smallest_n(alternative="greater") == 5 and smallest_n(0.01) == 8
    for alpha, m in ((0.05, 1), (0.05, 3), (0.01, 10)):
        n = smallest_n(alpha, comparisons=m)
        assert sign_flip_test([1.0] * n).p * m <= alpha < sign_flip_test([1.0] * (n - 1)).p * m


def test_below_the_floor_no_effect_is_detectable():
    assert minimum_detectable_effect(1.0, 5) == math.inf and power(100.0, 1.0, 5) == 0
    assert minimum_detectable_effect(1.0, 7, comparisons=5) == math.inf
    assert seeds_needed(1e6, 1.0) == 6 and seeds_needed(1e6, 1.0, comparisons=5) == 8


@pytest.mark.parametrize("n", [13, 20, 50])
def test_many_seeds_have_the_paired_t_tests_power(n):
    reference = TTestPower()
    assert power(0.5, 1.0, n) == pytest.approx(reference.power(0.5, n, 0.05, alternative="two-sided"), abs=1e-3)
    assert minimum_detectable_effect(2.0, n) == pytest.approx(2 * reference.solve_power(None, n, 0.05, 0.8), rel=2e-3)
    one_sided = {"alternative": "greater", "alpha": 0.01}
    assert power(0.5, 1.0, n, **one_sided) == pytest.approx(reference.power(0.5, n, 0.01, alternative="larger"))


def test_few_seeds_have_less_power_than_the_t_test_and_meet_it():
    reference = TTestPower()
    excess = [minimum_detectable_effect(1.0, n) / reference.solve_power(None, n, 0.05, 0.8) for n in (6, 8, 10, 12)]
    assert excess[0] > 1.2 and excess[-1] == pytest.approx(1, abs=0.02)
    assert excess == sorted(excess, reverse=True)


def test_six_seeds_by_hand():
    # the two-sided test of 6 rejects only if all lie on one side: Phi(effect)^6 = 0.8
    from scipy.stats import norm
    assert minimum_detectable_effect(1.0, 6) == pytest.approx(norm.ppf(0.8 ** (1 / 6)), abs=0.05)


def test_seeds_needed_and_detectable_effect_agree():
    for effect in (0.4, 0.9, 1.5):
        for m in (1, 5):
            n = int(seeds_needed(effect, 1.0, comparisons=m))
            assert minimum_detectable_effect(1.0, n, comparisons=m) <= effect
            if n > smallest_n(comparisons=m):
                assert minimum_detectable_effect(1.0, n - 1, comparisons=m) > effect
    assert seeds_needed(-0.9, 1.0) == seeds_needed(0.9, 1.0)
    assert seeds_needed(0.001, 1.0) == math.inf and seeds_needed(0.0, 1.0, limit=10) == math.inf


def test_no_spread_unknown_spread_and_nonsense():
    assert minimum_detectable_effect(0.0, 8) == 0 and power(0.1, 0.0, 8) == 1
    assert math.isnan(minimum_detectable_effect(math.nan, 8)) and math.isnan(seeds_needed(1.0, math.nan))
    assert math.isnan(power(1.0, math.nan, 8))
    for wrong in ({"sd": -1.0, "n": 8}, {"sd": 1.0, "n": 0}, {"sd": 1.0, "n": 8, "alpha": 5},
                  {"sd": 1.0, "n": 8, "comparisons": 0}):
        with pytest.raises(InputError):
            minimum_detectable_effect(**wrong)


def test_power_is_what_was_stated():
    rows = [power_at_stated_effect(n, m, 1000) for n, m in ((6, 1), (8, 1), (8, 5), (13, 1))]
    rows.append(power_at_stated_seeds(1.0, 1, 1000))
    assert [row.kept for row in rows] == ["yes"] * 5, rows
    random = np.random.default_rng(0)
    hits = np.mean([sign_flip_test(0.9 + random.standard_normal(9)).p <= 0.05 for _ in range(1500)])
    assert hits == pytest.approx(power(0.9, 1.0, 9), abs=0.04)
