"""How a cost grows: exponents of power laws, and ratios of medians of timed calls. No torch import.

A fitted exponent's interval says how well one power law describes the points; it knows nothing of how the points
would scatter if they were measured again. A ratio's interval says how far the timed calls of one process scatter;
it knows nothing of other processes. Each says so by its ``method``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.stats.intervals import LEVEL, NONE, Interval

FIT = "Student t on the residuals of a straight line in log-log"
CALLS = "Student t over the timed calls of one run"
EXACT = "counted exactly"


@dataclass(frozen=True)
class PowerLaw:
    """y = scale * x ** exponent, by least squares in log-log. ``exponent.n`` is the number of points."""

    exponent: Interval                             # without bounds where fewer than 3 points are left
    scale: float

    def at(self, x: float) -> float:
        return self.scale * x**self.exponent.mean


def power_law(x: Sequence[float], y: Sequence[float], level: float = LEVEL) -> PowerLaw:
    """The power law through the points ``x`` (n,), ``y`` (n,).

    Points without a logarithm (zero, negative, NaN) are left out and counted. Three points or more give an
    interval: Student's t with n - 2 degrees of freedom on the residuals. Points that lie on a curve widen it as
    scatter does. Fewer than two different ``x`` give NaN.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    good = np.isfinite(x) & np.isfinite(y) & (x > 0) & (y > 0)
    logs, values = np.log(x[good]), np.log(y[good])
    n, undefined = int(good.sum()), int((~good).sum())
    if n < 2 or np.ptp(logs) == 0:
        return PowerLaw(Interval(math.nan, math.nan, math.nan, n, undefined), math.nan)
    across = logs - logs.mean()
    slope = float(across @ values / (across @ across))
    scale = math.exp(values.mean() - slope * logs.mean())
    if n == 2:
        return PowerLaw(Interval(slope, math.nan, math.nan, n, undefined, NONE), scale)
    residuals = values - values.mean() - slope * across
    error = math.sqrt(float(residuals @ residuals) / (n - 2) / float(across @ across))
    half = float(stats.t.ppf(0.5 + level / 2, n - 2)) * error
    return PowerLaw(Interval(slope, slope - half, slope + half, n, undefined, FIT), scale)


@dataclass(frozen=True)
class Timed:
    """A median of ``n`` timed calls and their interquartile range, in one unit. ``iqr`` 0 and ``n`` 0: exact."""

    median: float
    iqr: float = 0.0
    n: int = 0

    @property
    def error(self) -> float:
        """Standard error of the median's logarithm; NaN below two calls.

        Source: McGill, Tukey & Larsen, Variations of box plots, The American Statistician 32(1), 1978:
        1.25 R / (1.35 sqrt(N)), with R the interquartile range.
        """
        if self.n == 0:
            return 0.0
        return 1.25 * self.iqr / (1.35 * math.sqrt(self.n)) / self.median if self.n > 1 else math.nan


def log_ratio(a: Timed, b: Timed, level: float = LEVEL) -> Interval:
    """The logarithm of ``a`` / ``b``, with an interval from the scatter of their calls; exact where both are.

    Student's t with the degrees of freedom of the fewer calls: a little wide rather than narrow. The calls are
    taken as independent. Without a logarithm in either the mean is NaN and n = 0.
    """
    if not (a.median > 0 and b.median > 0 and math.isfinite(a.median) and math.isfinite(b.median)):
        return Interval(math.nan, math.nan, math.nan, 0, 1)
    mean = math.log(a.median / b.median)
    calls = [timed.n for timed in (a, b) if timed.n]
    if not calls:
        return Interval(mean, mean, mean, 1, 0, EXACT)
    error = math.hypot(a.error, b.error)
    if not math.isfinite(error):
        return Interval(mean, math.nan, math.nan, 1)
    half = float(stats.t.ppf(0.5 + level / 2, min(calls) - 1)) * error
    return Interval(mean, mean - half, mean + half, min(calls), 0, CALLS)
