import itertools
import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from harness.errors import InputError
from harness.stats.factorial import factorial_effects

TWO = {"skips": ("none", "concat"), "attention": (False, True), "ema": (0, 1)}


def study(factors, value, seeds=8, sd=0.0, keep=lambda cell: True):
    random = np.random.default_rng(0)
    return {cell: {seed: value(*cell) + sd * random.standard_normal() for seed in range(seeds)}
            for cell in itertools.product(*factors.values()) if keep(cell)}


def by_label(found):
    return {effect.label: effect for effect in found.effects}


def test_effects_that_were_put_in_come_out():
    found = by_label(factorial_effects(
        study(TWO, lambda s, a, e: 10 + 2 * (s == "concat") + 3 * a + 4 * a * (s == "concat") - e), TWO))
    assert {label: effect.interval.mean for label, effect in found.items()} == pytest.approx({
        "skips = concat": 2 + 4 / 2, "attention = True": 3 + 4 / 2, "ema = 1": -1,
        "skips = concat x attention = True": 4, "skips = concat x ema = 1": 0, "attention = True x ema = 1": 0},
        abs=1e-12)


def test_estimates_are_those_of_a_linear_model():
    outcomes = study(TWO, lambda s, a, e: 1.0 * (s == "concat") - 2 * a * e, sd=1.0)
    rows = pd.DataFrame([{"s": (c[0] == "concat") - 0.5, "a": c[1] - 0.5, "e": c[2] - 0.5, "y": y}
                         for c, runs in outcomes.items() for y in runs.values()])
    fitted = smf.ols("y ~ s * a * e", rows).fit().params
    found = [effect.interval.mean for effect in factorial_effects(outcomes, TWO, order=3).effects]
    assert found == pytest.approx([fitted[name] for name in ("s", "a", "e", "s:a", "s:e", "a:e", "s:a:e")])


def test_factors_of_more_levels_are_compared_with_the_first():
    factors = {"norm": ("group", "batch", "none"), "batch size": (1, 8)}
    table = {("group", 1): 5, ("group", 8): 6, ("batch", 1): 1, ("batch", 8): 7, ("none", 1): 2, ("none", 8): 2}
    found = by_label(factorial_effects({cell: dict.fromkeys(range(6), y) for cell, y in table.items()}, factors))
    assert found["norm = batch"].interval.mean == pytest.approx((1 + 7) / 2 - (5 + 6) / 2)
    assert found["norm = none"].interval.mean == pytest.approx(2 - 5.5)
    assert found["batch size = 8"].interval.mean == pytest.approx((1 + 6 + 0) / 3)
    assert found["norm = batch x batch size = 8"].interval.mean == pytest.approx((7 - 1) - (6 - 5))


def test_shared_seed_noise_cancels_and_direction_turns_the_sign():
    random = np.random.default_rng(1)
    shared = 100 * random.standard_normal(8)
    outcomes = {cell: {seed: shared[seed] + cell[0] + 0.01 * random.standard_normal() for seed in range(8)}
                for cell in itertools.product((0, 1), repeat=2)}
    found = by_label(factorial_effects(outcomes, {"x": (0, 1), "y": (0, 1)}, direction="lower"))["x = 1"]
    assert found.interval.mean == pytest.approx(-1, abs=0.02) and found.interval.high < -0.9
    assert found.p == 2 / 256 and found.adjusted_p == pytest.approx(3 * 2 / 256)


def test_a_half_fraction_names_its_aliases_and_counts_them_once():
    factors = {"a": (0, 1), "b": (0, 1), "c": (0, 1)}
    found = factorial_effects(study(factors, lambda a, b, c: 2 * a + 0.1 * b, sd=0.01,
                                    keep=lambda x: (x[0] + x[1] + x[2]) % 2 == 1), factors)
    effects = by_label(found)
    assert found.fraction == 0.5
    assert effects["a = 1"].aliases == ("b = 1 x c = 1",)
    assert effects["a = 1"].interval.mean == pytest.approx(2, abs=0.02)
    assert effects["a = 1"].p == effects["b = 1 x c = 1"].p == 2 / 256
    assert effects["a = 1"].adjusted_p == pytest.approx(3 * 2 / 256)             # 3 contrasts, not 6
    quarter = factorial_effects(study(factors, lambda a, b, c: a, keep=lambda x: x[0] == x[1]), factors)
    assert quarter.inestimable == ("a = 1 x b = 1",)


def test_seeds_without_every_run_are_left_out_and_named():
    outcomes = study(TWO, lambda s, a, e: a, seeds=7)
    outcomes["none", False, 0][3] = math.nan
    del outcomes["concat", True, 1][5]
    found = factorial_effects(outcomes, TWO)
    assert found.incomplete == (3, 5) and found.effects[0].interval.n == 5


@pytest.mark.parametrize("factors, keep, says", [
    ({"a": (0, 1), "b": (0, 1)}, lambda x: x != (1, 1), "not a regular fraction"),
    ({"a": (0, 1, 2), "b": (0, 1)}, lambda x: x != (1, 1), "a has more"),
    ({"a": (0,), "b": (0, 1)}, lambda x: True, "two or more"),
])
def test_a_design_that_cannot_be_analysed_says_why(factors, keep, says):
    with pytest.raises(InputError, match=says):
        factorial_effects(study(factors, lambda *cell: 0.0, keep=keep), factors)


def test_an_unknown_level_is_named():
    with pytest.raises(InputError, match="did you mean 'concat'"):
        factorial_effects({("concta", False, 0): {0: 1.0}}, TWO)
    with pytest.raises(InputError, match="2 levels"):
        factorial_effects({("none", False): {0: 1.0}}, TWO)
