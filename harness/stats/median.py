"""The median of a few repeated measurements, with an interval. No torch import.

Times on a machine that does other things as well have a long tail: one stall moves a mean by as much as the
effect that is looked for, and a median not at all. Source: Conover, Practical Nonparametric Statistics, 3rd ed.
1999, section 3.2 (the interval of a median by the sign test).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from harness.stats.intervals import LEVEL, NONE, mean_interval

SIGN_TEST, STUDENT = "sign test", "Student t"
STUDENT_FROM = 3                                   # values; an interval of two is 25 times as wide as they are apart


@dataclass(frozen=True)
class Median:
    """A median with its interval; ``low`` and ``high`` are NaN where none exists, and so is ``value`` when n = 0."""

    value: float
    low: float
    high: float
    n: int                                         # values it comes from
    undefined: int = 0                             # values left out because they were NaN or infinite
    method: str = NONE


def median_interval(values: Iterable[float], level: float = LEVEL) -> Median:
    """The median, between the values that a two-sided sign test does not reject as one.

    It assumes nothing of the values but that they are independent and alike, and covers the median at least
    ``level`` of the time. It takes 6 values at 95 %. Of 3 to 5 there is Student's interval of the mean, which is
    the median where the values are spread evenly to both sides; it always holds the values' median, too.
    """
    values = np.asarray(list(values), dtype=float)
    defined = np.sort(values[np.isfinite(values)])
    n, undefined = len(defined), len(values) - len(defined)
    median = float(np.median(defined)) if n else math.nan
    if n < STUDENT_FROM:
        return Median(median, math.nan, math.nan, n, undefined)
    beyond = int(stats.binom.ppf((1 - level) / 2, n, 0.5))       # how many values may be left out at each end:
    if stats.binom.cdf(beyond, n, 0.5) > (1 - level) / 2:        # P(at most so many below the median) <= 2.5 %
        beyond -= 1
    if beyond < 0:
        found = mean_interval(defined, level)
        return Median(median, found.low, found.high, n, undefined, STUDENT)
    return Median(median, float(defined[beyond]), float(defined[n - 1 - beyond]), n, undefined, SIGN_TEST)


def median_ratio(above: Iterable[float], below: Iterable[float], level: float = LEVEL) -> Median:
    """The median of ``above[i] / below[i]``, positive values measured side by side, and its interval.

    It is computed on logarithms, so that a / b and b / a say the same.
    """
    logs = [math.log(a / b) for a, b in zip(above, below, strict=True)]
    found = median_interval(logs, level)
    return Median(*(math.exp(x) for x in (found.value, found.low, found.high)), found.n, found.undefined, found.method)
