"""Means with intervals, over seeds or over test cases. No torch import."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

LEVEL = 0.95
MANY = 64                                          # cases; their resampled means are worth a faster way

SEEDS, CASES, NONE = "Student t over seeds", "bootstrap over test cases, one seed", "no interval"


@dataclass(frozen=True)
class Interval:
    """A mean with its interval. ``low`` and ``high`` are NaN where none exists; so is ``mean`` when n = 0."""

    mean: float
    low: float
    high: float
    n: int                                         # values it comes from (seeds or test cases)
    undefined: int = 0                             # values left out because they were undefined
    method: str = NONE

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2

    @property
    def exists(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)

    def overlaps(self, other: Interval) -> bool:
        """Whether both exist and share a point."""
        return self.exists and other.exists and self.low <= other.high and other.low <= self.high


def mean_interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Student-t interval of the mean of independent values (one per seed).

    Undefined values are left out and counted. One value has a mean and no interval (NaN).
    """
    values = list(values)
    if len(values) == 1 and math.isfinite(values[0]):  # by far the most, where every arm ran once
        return Interval(float(values[0]), math.nan, math.nan, 1)
    values = np.asarray(values, dtype=float)
    defined = values[np.isfinite(values)]
    n, undefined = len(defined), len(values) - len(defined)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, undefined)
    mean = float(defined.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, undefined)
    half = float(_t_quantile(0.5 + level / 2, n - 1) * defined.std(ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n, undefined, SEEDS)


@lru_cache(maxsize=1024)
def _t_quantile(p: float, freedom: int) -> float:
    return float(stats.t.ppf(p, freedom))          # 0.1 ms; a report asks for the same one thousands of times


def bootstrap_interval(case_values, level: float = LEVEL, *, resamples: int = 1000, seed: int = 0) -> Interval:
    """Bootstrap interval over test cases: BCa, or percentile where BCa is degenerate.

    ``case_values`` (cases,) or (cases, classes), NaN where undefined. The statistic is the mean over
    classes of each class's mean over the cases that define it. Whole cases are drawn, so that the classes
    of an image stay together. Cases with no defined value are left out and counted.
    Source: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13-14.
    """
    table = np.asarray(case_values, dtype=float)
    table = table.reshape(len(table), -1)
    kept = table[np.isfinite(table).any(axis=1)]
    n, undefined = len(kept), len(table) - len(kept)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0, undefined)
    mean = float(_macro_mean(kept))
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, undefined)
    if np.ptp(kept, axis=0).max() == 0:            # equal cases: nothing to resample
        return Interval(mean, mean, mean, n, undefined, CASES)

    # BCa counts ties, which few cases give often and rounding decides: those stay with the plain sum
    statistic = _drawn_mean if n >= MANY else lambda table, index: _macro_mean(table[index])

    def interval(method):
        found = stats.bootstrap((np.arange(n),), lambda index, axis: statistic(kept, index), vectorized=True,
                                n_resamples=resamples, confidence_level=level, method=method,
                                rng=np.random.default_rng(seed)).confidence_interval
        return float(found.low), float(found.high)

    with warnings.catch_warnings():                # scipy warns and returns NaN where BCa is degenerate
        warnings.simplefilter("ignore")
        low, high = interval("BCa")
        if not (math.isfinite(low) and math.isfinite(high)):
            low, high = interval("percentile")
    return Interval(mean, low, high, n, undefined, CASES)


def _drawn_mean(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """``_macro_mean(table[index])`` of cases (..., draws) drawn by number, ten times as fast: by how often each was."""
    n, defined = len(table), np.isfinite(table)
    drawn = index.reshape(-1, index.shape[-1])
    times = np.bincount((drawn + n * np.arange(len(drawn))[:, None]).ravel(), minlength=n * len(drawn))
    times = times.reshape(len(drawn), n).astype(float)
    count = times @ defined
    by_class = times @ np.where(defined, table, 0) / np.maximum(count, 1)
    return ((by_class * (count > 0)).sum(axis=-1) / (count > 0).sum(axis=-1)).reshape(index.shape[:-1])


def _macro_mean(table: np.ndarray) -> np.ndarray:
    """(..., cases, classes) -> (...): mean over classes of the mean over cases, each over what is defined."""
    defined = np.isfinite(table)
    count = defined.sum(axis=-2)
    by_class = np.where(defined, table, 0).sum(axis=-2) / np.maximum(count, 1)
    return (by_class * (count > 0)).sum(axis=-1) / (count > 0).sum(axis=-1)
