"""Two arms, paired by seed: the mean difference with its interval, an effect size and a test. No torch import."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import special

from harness.errors import unknown
from harness.stats.hypothesis_tests import Alternative, SignFlipTest, sign_flip_test, subset_means
from harness.stats.intervals import LEVEL, NONE, Interval, bootstrap_interval, mean_interval

Direction = Literal["higher", "lower"]
Method = Literal["auto", "t", "sign-flip", "bootstrap"]
METHODS = ("auto", "t", "sign-flip", "bootstrap")
LABELS = {"t": "Student t over paired seeds", "sign-flip": "inverted sign-flip test over paired seeds",
          "bootstrap": "bootstrap over paired seeds"}

SIGN_FLIP_UP_TO = 20                               # differences; beyond, 2**n subset means take too much memory
BOOTSTRAP_RESAMPLES = 9999


@dataclass(frozen=True)
class PairedDifferences:
    """``arm - base`` for each seed that both have, turned so that positive is better."""

    seeds: tuple                                   # in order; those with a defined difference
    values: np.ndarray                             # (n,), in the metric's unit
    undefined: int = 0                             # seeds that both have, with an undefined value in either
    unpaired: int = 0                              # seeds that only one of the two has


def paired_differences(base: Mapping[Hashable, float], arm: Mapping[Hashable, float],
                       direction: Direction = "higher") -> PairedDifferences:
    """Differences between two arms' values by seed. ``direction`` says which way is better for the metric."""
    sign = {"higher": 1.0, "lower": -1.0}.get(direction)
    if sign is None:
        raise unknown("direction", direction, ("higher", "lower"))
    both = sorted(base.keys() & arm.keys())
    defined = [seed for seed in both if math.isfinite(base[seed]) and math.isfinite(arm[seed])]
    values = sign * np.array([arm[seed] - base[seed] for seed in defined], dtype=float)
    return PairedDifferences(tuple(defined), values, len(both) - len(defined), len(base.keys() ^ arm.keys()))


def difference_interval(differences: Iterable[float], level: float = LEVEL, method: Method = "auto",
                        *, seed: int = 0) -> Interval:
    """Interval of the mean of paired ``differences`` (n,), one per seed; undefined ones left out and counted.

    ``sign-flip``  the thresholds that the two-sided sign-flip test does not reject at ``1 - level``: it says the
                   same as that test's p value, and covers at least ``level`` of the time for differences with
                   any symmetric distribution (Hartigan 1969). Needs 6 seeds at 95 %; NaN below. Strongly skewed
                   differences it covers 90 % of the time, as Student's t does: no interval of so few repairs that.
    ``t``          Student's; exact for normal differences, at any n >= 2.
    ``bootstrap``  BCa, or percentile where BCa is degenerate (:func:`harness.stats.bootstrap_interval`). It
                   covers too little at the numbers of seeds that studies have (simulated, normal differences:
                   88 % at n = 8, 90 % at 10, 93 % at 25: results/statistics), so it is given only on request.
    ``auto``       ``sign-flip`` where it exists and n <= 20; ``t`` below and above.
    """
    if method not in METHODS:
        raise unknown("interval method", method, METHODS)
    values = np.asarray(list(differences), dtype=float)
    defined = values[np.isfinite(values)]
    n, undefined = len(defined), len(values) - len(defined)
    rank = _rank(n, level)                         # of the subset means at which the sign-flip interval ends
    if method == "auto":
        method = "sign-flip" if rank and n <= SIGN_FLIP_UP_TO else "t"
    if n < 2 or method == "t":
        found = mean_interval(values, level)
    elif method == "bootstrap":
        found = bootstrap_interval(values, level, resamples=BOOTSTRAP_RESAMPLES, seed=seed)
    elif n > SIGN_FLIP_UP_TO:
        raise ValueError(f"a sign-flip interval of more than {SIGN_FLIP_UP_TO} differences takes too much memory")
    else:
        low = high = math.nan
        if rank:
            ends = (rank - 1, 2**n - 1 - rank)
            low, high = np.partition(subset_means(defined), ends)[list(ends)]
        found = Interval(float(defined.mean()), float(low), float(high), n, undefined)
    return replace(found, method=LABELS[method] if found.exists else NONE)


def _rank(n: int, level: float) -> int:
    """How many of 2**n equally likely assignments may lie beyond each end. 0 = too few seeds for an interval."""
    return math.floor((1 - level) / 2 * 2.0**n + 1e-9)


def effect_size(differences: Iterable[float]) -> float:
    """Mean difference in standard deviations of the differences, corrected for few seeds (Hedges' g of pairs).

    NaN below 3 defined differences, and where they are all equal: no spread to measure by. Not comparable with
    an effect size of unpaired arms. Source: Hedges, J. Educ. Stat. 6:107-128, 1981; Lakens, Front. Psychol.
    4:863, 2013, d_z.
    """
    values = np.asarray(list(differences), dtype=float)
    values = values[np.isfinite(values)]
    freedom = len(values) - 1
    if freedom < 2 or np.ptp(values) == 0:
        return math.nan
    correction = math.exp(special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)) * math.sqrt(2 / freedom)
    return float(correction * values.mean() / values.std(ddof=1))


@dataclass(frozen=True)
class PairedComparison:
    """An arm against a base. Positive is better, whichever way the metric goes."""

    pairs: PairedDifferences
    interval: Interval                             # of the mean difference, in the metric's unit
    effect_size: float                             # mean difference / SD of differences, for few seeds corrected
    sd: float                                      # of the differences; NaN below 2
    test: SignFlipTest

    @property
    def better(self) -> int:
        """Seeds on which the arm is better than the base (by more than the threshold)."""
        return int((self.pairs.values > self.test.threshold).sum())


def compare_paired(base: Mapping[Hashable, float], arm: Mapping[Hashable, float], *,
                   direction: Direction = "higher", threshold: float = 0.0, alternative: Alternative = "two-sided",
                   level: float = LEVEL, method: Method = "auto") -> PairedComparison:
    """Compare two arms' values by seed.

    ``alternative="greater"`` with ``threshold=d`` tests "better by more than d"; ``threshold=-d`` "not worse by
    as much as d". d is in the metric's unit and positive is better in both directions.
    """
    pairs = paired_differences(base, arm, direction)
    interval = difference_interval(pairs.values, level, method)
    sd = float(pairs.values.std(ddof=1)) if len(pairs.values) > 1 else math.nan
    return PairedComparison(pairs, replace(interval, undefined=pairs.undefined), effect_size(pairs.values), sd,
                            sign_flip_test(pairs.values, alternative=alternative, threshold=threshold))
