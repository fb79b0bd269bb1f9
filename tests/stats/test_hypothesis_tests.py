import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.errors import InputError
from harness.inspection.statistics_page import family_error, tie_error
from harness.stats.hypothesis_tests import EXACT_UP_TO, holm, sign_flip_test, smallest_p, subset_means


def scipys(values, alternative="two-sided"):
    return stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf,
                                  alternative=alternative).pvalue


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("n", [2, 5, 8, 11])
def test_p_is_scipys(n, alternative):
    values = np.random.default_rng(n).normal(0.4, 1, n)
    found = sign_flip_test(values, alternative=alternative)
    assert found.p == pytest.approx(scipys(values, alternative))
    assert (found.n, found.assignments, found.exact) == (n, 2**n, True)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("values", [[0.1, 0.2, -0.3, 0.3], [1, 1, -1, 2, 2, 0, 0], [-1, -1, -1], [0.1, -0.1]])
def test_ties_and_zeros_are_as_in_the_definition(values, alternative):
    exact = [round(10 * value) for value in values]        # whole numbers: no rounding can hide a tie
    sums = [sum(sign * value for sign, value in zip(signs, exact))
            for signs in itertools.product((1, -1), repeat=len(exact))]
    found = sum(exact)
    extreme = {"two-sided": [abs(x) >= abs(found) for x in sums], "greater": [x >= found for x in sums],
               "less": [x <= found for x in sums]}[alternative]
    assert sign_flip_test(values, alternative=alternative).p == pytest.approx(np.mean(extreme))
    assert sign_flip_test(values, alternative=alternative).p == pytest.approx(scipys(exact, alternative))


def test_a_threshold_shifts_the_differences():
    values = [1.2, 1.4, 0.9, 1.1, 1.6, 1.3]
    shifted = sign_flip_test(np.array(values) - 1, alternative="greater")
    found = sign_flip_test(values, alternative="greater", threshold=1)
    assert found.p == shifted.p == pytest.approx(3 / 64)   # found; 0.9 flipped; 0.9 and 1.1 flipped: a tie
    assert found.mean == pytest.approx(np.mean(values))
    assert sign_flip_test(values, alternative="less", threshold=2).p == 1 / 64


def test_one_seed_equal_differences_none_and_undefined():
    assert sign_flip_test([0.3]).p == 1
    assert sign_flip_test([0.3], alternative="greater").p == 0.5
    assert sign_flip_test([-0.3], alternative="greater").p == 1
    assert sign_flip_test([0.2] * 6).p == 2 / 64
    zeros = sign_flip_test([0.0] * 6)
    assert (zeros.p, zeros.zeros, zeros.smallest_p) == (1, 6, 1)
    assert sign_flip_test([0.1 + 0.2] * 4, threshold=0.3).zeros == 4    # 0.30000000000000004
    none = sign_flip_test([math.nan])
    assert math.isnan(none.p) and (none.n, none.undefined) == (0, 1)
    some = sign_flip_test([1, 2, math.nan, 3])
    assert (some.p, some.n, some.undefined) == (2 / 8, 3, 1)


def test_beyond_exhaustive_counting_p_is_sampled_and_never_zero():
    values = np.random.default_rng(0).normal(0.3, 1, EXACT_UP_TO + 10)
    found = sign_flip_test(values)
    assert not found.exact
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)
    assert found == sign_flip_test(values)
    assert sign_flip_test(np.ones(100)).p == 1 / (1 + found.assignments) == found.smallest_p
    exact, normal = sign_flip_test(values[:EXACT_UP_TO]), stats.ttest_1samp(values[:EXACT_UP_TO], 0).pvalue
    assert exact.exact and exact.p == pytest.approx(normal, abs=0.01)


def test_smallest_p_is_reached_by_differences_on_one_side():
    for n in (1, 3, 8):
        values = np.random.default_rng(n).random(n) + 0.1
        for alternative in ("two-sided", "greater"):
            assert sign_flip_test(values, alternative=alternative).p == smallest_p(n, alternative)


def test_subset_means():
    assert sorted(subset_means([1.0, 2.0, 6.0])) == pytest.approx([1, 1.5, 2, 3, 3.5, 4, 6])
    rows = np.random.default_rng(0).random((3, 4))
    assert np.array_equal(subset_means(rows)[1], subset_means(rows[1]))


def test_an_unknown_alternative_is_named():
    with pytest.raises(InputError, match="did you mean 'greater'"):
        sign_flip_test([1.0], alternative="grater")


def test_holm_is_statsmodels():
    random = np.random.default_rng(3)
    for m in (1, 2, 7, 30):
        p = np.round(random.random(m) ** 3, 2)     # rounded: with ties
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_leaves_out_nan_and_does_not_count_it():
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert holm([]).size == 0
    assert np.isnan(holm([math.nan, math.nan])).all()


def test_family_error_stays_within_five_percent():
    rows = [family_error(6, 1, 1000), family_error(8, 5, 400), family_error(8, 5, 400, real=2), tie_error(10, 4, 150)]
    assert [row.kept for row in rows] == ["yes"] * 4, rows
