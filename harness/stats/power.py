"""How much a study with n seeds can see, and how many seeds it takes. No torch import.

An exact test of few seeds has a floor: with n differences no result, however clear, gives a two-sided p below
2**(1 - n). Below that floor nothing is detectable; just above it the test has less power than a paired t test.
So power is the sign-flip test's own where n is small (simulated once for normal differences, fixed seed), and
the paired t test's (noncentral t) beyond, where the two agree within the simulation's error.

Standard deviations come from few seeds too: at n = 5 a measured SD may be off by half. State them with their n.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, stats

from harness.errors import InputError
from harness.stats.hypothesis_tests import Alternative, smallest_p, subset_means

ALPHA, POWER = 0.05, 0.8
SIMULATED_UP_TO = 12                               # seeds; 2**n subset means for each simulated study
STUDIES = 4000                                     # simulated; the standard error of a power of 0.8 is 0.006


def smallest_n(alpha: float = ALPHA, *, comparisons: int = 1, alternative: Alternative = "two-sided") -> int:
    """The fewest seeds at which a sign-flip test can reach ``alpha`` at all.

    With ``comparisons`` m > 1: at which one of m tests can be rejected by Holm, whose first step asks for
    alpha / m. 6 seeds for one two-sided test at .05, 8 for five.
    """
    _check(alpha=alpha, comparisons=comparisons)
    n = 1
    while smallest_p(n, alternative) > alpha / comparisons * (1 + 1e-12):
        n += 1
    return n


def power(effect: float, sd: float, n: int, *, alpha: float = ALPHA, comparisons: int = 1,
          alternative: Alternative = "two-sided") -> float:
    """The chance that a sign-flip test of ``n`` seeds rejects, when the mean difference is ``effect``.

    ``sd`` is the standard deviation of paired differences, in the unit of ``effect``; differences are taken as
    normal. ``comparisons`` m: at alpha / m, which is Holm's first and hardest step, so under Holm the power is
    at least this. Two-sided, only rejections on the effect's own side count.
    """
    _check(alpha=alpha, comparisons=comparisons, n=n, sd=sd)
    if math.isnan(sd) or math.isnan(effect):
        return math.nan
    if n < smallest_n(alpha, comparisons=comparisons, alternative=alternative):
        return 0.0
    if sd == 0:
        return float(effect != 0)
    standard = abs(effect) / sd
    one_sided = alpha / comparisons / (2 if alternative == "two-sided" else 1)
    if n <= SIMULATED_UP_TO:
        needed = _effects_needed(n, one_sided)
        return float(np.searchsorted(needed, standard, side="left") / len(needed))
    return _t_power(standard, n, one_sided)


def minimum_detectable_effect(sd: float, n: int, *, alpha: float = ALPHA, power: float = POWER,
                              comparisons: int = 1, alternative: Alternative = "two-sided") -> float:
    """The smallest mean difference that ``n`` seeds detect with chance ``power``, in the unit of ``sd``.

    ``sd`` is the standard deviation of paired differences. Infinite below :func:`smallest_n`: no effect is
    large enough. NaN where ``sd`` is. Arguments as for :func:`power`.
    """
    _check(alpha=alpha, comparisons=comparisons, n=n, sd=sd, power=power)
    if math.isnan(sd):
        return math.nan
    if n < smallest_n(alpha, comparisons=comparisons, alternative=alternative):
        return math.inf
    one_sided = alpha / comparisons / (2 if alternative == "two-sided" else 1)
    return float(sd * _detectable(n, one_sided, power))


def seeds_needed(effect: float, sd: float, *, alpha: float = ALPHA, power: float = POWER, comparisons: int = 1,
                 alternative: Alternative = "two-sided", limit: int = 1000) -> float:
    """The fewest seeds whose minimum detectable effect is at most ``effect``; infinite beyond ``limit``.

    Never below :func:`smallest_n`, however large the effect. NaN where ``sd`` or ``effect`` is.
    """
    _check(alpha=alpha, comparisons=comparisons, sd=sd, power=power)
    if math.isnan(sd) or math.isnan(effect):
        return math.nan
    settings = {"alpha": alpha, "power": power, "comparisons": comparisons, "alternative": alternative}

    def enough(n):
        return minimum_detectable_effect(sd, n, **settings) <= abs(effect)

    first = smallest_n(alpha, comparisons=comparisons, alternative=alternative)
    for n in range(first, min(limit, SIMULATED_UP_TO) + 1):
        if enough(n):
            return float(n)
    low, high = max(first, SIMULATED_UP_TO + 1), limit
    if low > high or not enough(high):
        return math.inf
    while low < high:                              # the t test's detectable effect falls with every seed
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return float(low)


@lru_cache(maxsize=4096)                           # a study asks the same of each of its arms
def _detectable(n: int, one_sided: float, power: float) -> float:
    """The smallest detectable mean difference in standard deviations."""
    if n <= SIMULATED_UP_TO:
        return float(np.quantile(_effects_needed(n, one_sided), power))
    return optimize.brentq(lambda effect: _t_power(effect, n, one_sided) - power, 0, 100)


@lru_cache(maxsize=64)
def _effects_needed(n: int, one_sided: float) -> np.ndarray:
    """(STUDIES,), sorted: for each of many studies of n standard normal differences, how far these would have
    to be shifted for the one-sided sign-flip test to reject.

    The test rejects a threshold exactly below the k-th smallest subset mean, k = floor(alpha 2**n), so a study
    rejects 0 once the shift exceeds that mean's negative. One pass gives the power at every effect.
    """
    k = math.floor(one_sided * 2**n + 1e-9)
    random, needed = np.random.default_rng(n), []
    for _ in range(STUDIES // 250):
        means = subset_means(random.standard_normal((250, n)))
        needed.append(-np.partition(means, k - 1, axis=-1)[:, k - 1])
    return np.sort(np.concatenate(needed))


def _t_power(standard_effect: float, n: int, one_sided: float) -> float:
    bar = stats.t.isf(one_sided, n - 1)
    return float(stats.nct.sf(bar, n - 1, standard_effect * math.sqrt(n)))


def _check(*, alpha: float, comparisons: int, n: int = 1, sd: float = 0.0, power: float = 0.5) -> None:
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise InputError(f"{name} is a share between 0 and 1, not {value}")
    if comparisons < 1 or n < 1:
        raise InputError(f"at least one seed and one comparison, not n = {n} and comparisons = {comparisons}")
    if sd < 0:
        raise InputError(f"a standard deviation is not negative, as {sd} is")
