"""Exact paired test by sign flips, and Holm's correction for a family of tests. No torch import.

The test asks: if the sign of each seed's difference were a coin toss, how often would the differences lie as
far from the threshold as they do? Under the null hypothesis each difference is symmetric about the threshold,
so all 2**n assignments of signs are equally likely, and the answer is exact for every n and any spread of
values: no normality is assumed. Source: Fisher, The Design of Experiments, 1935, section 21; Good,
Permutation, Parametric and Bootstrap Tests of Hypotheses, 3rd ed. 2005, section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from harness.errors import unknown

Alternative = Literal["two-sided", "greater", "less"]
ALTERNATIVES = ("two-sided", "greater", "less")

EXACT_UP_TO = 30                                   # differences; all 2**n assignments are counted up to here
MONTE_CARLO = 99_999                               # random assignments beyond that
TIE = 1e-9                                         # sums closer than this, relative to the largest, are ties


@dataclass(frozen=True)
class SignFlipTest:
    """Outcome of :func:`sign_flip_test`. ``p`` is NaN where no difference is defined."""

    p: float
    n: int                                         # differences that are defined, zeros among them
    zeros: int                                     # of those, equal to the threshold: flipping them changes nothing
    undefined: int                                 # left out: NaN or infinite
    mean: float                                    # mean difference, threshold not taken off
    threshold: float
    alternative: Alternative
    assignments: int                               # of signs, that p was counted over
    exact: bool                                    # all assignments, or a random sample of them

    @property
    def smallest_p(self) -> float:
        """The least p that differences of any size could give here: those equal to the threshold do not help."""
        if self.n == 0:
            return math.nan
        return smallest_p(self.n - self.zeros, self.alternative) if self.exact else 1 / (1 + self.assignments)


def sign_flip_test(differences: Iterable[float], *, alternative: Alternative = "two-sided", threshold: float = 0.0,
                   seed: int = 0) -> SignFlipTest:
    """Paired permutation test of the mean of ``differences`` (n,), one per seed, against ``threshold``.

    ``greater`` asks whether the mean lies above the threshold: with differences in which positive is better,
    "better by more than ``threshold``". p is the share of the 2**n assignments of signs to
    ``differences - threshold`` whose sum is at least as extreme as the one found. The one found and its ties
    count, so p is never 0. Exhaustive up to ``EXACT_UP_TO`` differences; beyond, ``MONTE_CARLO`` random
    assignments drawn from ``seed``, and p = (1 + as extreme) / (1 + drawn), which is valid too (Phipson &
    Smyth, Stat. Appl. Genet. Mol. Biol. 9:39, 2010).

    Edge cases, all as the definition has them: n = 1 gives p = 1 two-sided, and 0.5 or 1 one-sided; n equal
    differences other than the threshold give the smallest p there is, 2**(1 - n) two-sided; differences that
    all equal the threshold give p = 1; none gives p = NaN. Undefined differences are left out and counted.
    """
    if alternative not in ALTERNATIVES:
        raise unknown("alternative", alternative, ALTERNATIVES)
    values = np.asarray(list(differences), dtype=float)
    defined = values[np.isfinite(values)]
    shifted = defined - threshold
    scale = max(float(np.abs(defined).max(initial=0.0)), abs(threshold))
    moving = shifted[np.abs(shifted) > TIE * scale]
    p, assignments, exact = math.nan, 0, True
    if len(defined):
        p, assignments, exact = _p(moving if alternative != "less" else -moving, alternative == "two-sided", seed)
    return SignFlipTest(p, len(defined), len(defined) - len(moving), len(values) - len(defined),
                        float(defined.mean()) if len(defined) else math.nan, threshold, alternative,
                        assignments, exact)


def _p(moving: np.ndarray, two_sided: bool, seed: int) -> tuple[float, int, bool]:
    """Of differences (n,) from 0, none of them 0: p, the assignments it comes from, whether those are all."""
    n = len(moving)
    found = abs(moving.sum()) if two_sided else moving.sum()
    bar = found - TIE * np.abs(moving).sum()       # ties count, whatever rounding did to them
    if n <= EXACT_UP_TO:
        # the sums are symmetric about 0, so both tails hold twice what one does; all of them where the sum is 0
        sides = 2 if two_sided else 1
        first, second = signed_sums(moving[:n // 2]), np.sort(signed_sums(moving[n // 2:]))
        # every assignment is one of the first half and one of the second: count the pairs that reach the bar
        extreme = int((len(second) - np.searchsorted(second, bar - first, side="left")).sum())
        return min(1.0, sides * extreme / 2**n), 2**n, True
    random, extreme, left = np.random.default_rng(seed), 0, MONTE_CARLO
    while left:
        drawn = min(left, 10_000)
        sums = (2.0 * random.integers(0, 2, (drawn, n)) - 1) @ moving
        extreme += int(((np.abs(sums) if two_sided else sums) >= bar).sum())
        left -= drawn
    return (1 + extreme) / (1 + MONTE_CARLO), MONTE_CARLO, False


def signed_sums(values: np.ndarray) -> np.ndarray:
    """(n,) -> (2**n,): the sum under every assignment of signs."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def subset_means(values: np.ndarray) -> np.ndarray:
    """(..., n) -> (..., 2**n - 1): the mean of every non-empty subset of the last axis.

    The sign-flip test of threshold c gives p = (1 + subset means <= c) / 2**n against ``greater``: these are
    the thresholds at which p steps (Hartigan, J. Am. Stat. Assoc. 64:1303-1317, 1969, "typical values").
    """
    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    sums = np.zeros((*values.shape[:-1], 2**n))    # filled in place: at 20 values it is a million, for every arm
    for i in range(n):
        np.add(sums[..., :2**i], values[..., i:i + 1], out=sums[..., 2**i:2**(i + 1)])
    means = sums[..., 1:]
    means /= _subset_sizes(n)[1:]
    return means


@lru_cache(maxsize=4)
def _subset_sizes(n: int) -> np.ndarray:
    """(2**n,): how many values each subset has, in the order of :func:`subset_means`."""
    sizes = np.zeros(2**n)
    for i in range(n):
        sizes[2**i:2**(i + 1)] = sizes[:2**i] + 1
    return sizes


def smallest_p(n: int, alternative: Alternative = "two-sided") -> float:
    """The least p that a sign-flip test of ``n`` differences can give: all of them on one side."""
    return min(1.0, 2.0 ** (1 - n)) if alternative == "two-sided" else 2.0**-n


def holm(p_values: Iterable[float]) -> np.ndarray:
    """Holm's step-down adjusted p values (m,), in the order given: reject where <= alpha.

    The chance of any false rejection in the family stays <= alpha, however the tests depend on each other.
    NaN stays NaN and is not counted in m: a test that could not be made rejects nothing, so it costs nothing.
    Do not use NaN for a test that is still to come; that one counts (give it p = 1).
    Source: Holm, Scand. J. Statist. 6:65-70, 1979.
    """
    p = np.asarray(list(p_values), dtype=float)
    adjusted = np.full(p.shape, math.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    stepped = (len(order) - np.arange(len(order))) * p[order]
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return adjusted
