"""When an arm first reaches the base's final quality: in steps, and in seconds. No torch import.

An arm that never does has no time (NaN) and is counted as never reached: its time is censored, known only to
be longer than its run. A mean over the seeds that did reach would flatter it, so with any censored seed the
ratio is a median over all pairs, with those seeds counted as infinitely slow.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.errors import InputError, unknown
from harness.stats.hypothesis_tests import sign_flip_test
from harness.stats.intervals import LEVEL, NONE, Interval
from harness.stats.paired import difference_interval


@dataclass(frozen=True)
class Curve:
    """One run's validation curve, in order of step; value NaN where undefined."""

    steps: Sequence[float]
    seconds: Sequence[float]                       # of training so far
    values: Sequence[float]


@dataclass(frozen=True)
class Reached:
    """The first recorded point at or beyond a target; NaN where there is none."""

    step: float
    seconds: float

    @property
    def ever(self) -> bool:
        return math.isfinite(self.step)


@dataclass(frozen=True)
class Speed:
    """An arm's time to quality over the base's, paired by seed. Below 1 = faster than the base."""

    ratio: Interval                                # geometric mean over seeds; no interval with censored seeds
    median: float                                  # over all pairs, censored ones as infinite; inf = half or more
    p: float                                       # two-sided sign-flip test of the log ratio; NaN with censored ones


@dataclass(frozen=True)
class TimeToQuality:
    steps: Speed
    seconds: Speed
    arm: dict[Hashable, Reached]                   # per seed: when the arm reached the target
    base: dict[Hashable, Reached]                  # per seed: when the base itself first did
    targets: dict[Hashable, float]                 # per seed: the base's final quality
    never: int                                     # seeds on which the arm did not reach it (censored)
    undefined: int                                 # seeds with both runs but no defined final quality of the base


def running_mean(values: Sequence[float], window: int) -> np.ndarray:
    """(n,) -> (n,): mean of each value and the ``window - 1`` before it; NaN until there are that many.

    It looks back only, so smoothing may delay a crossing but never moves it before the data that make it.
    """
    values = np.asarray(values, dtype=float)
    if window < 1:
        raise InputError(f"a running mean takes a window of 1 or more, not {window}")
    if window == 1:
        return values
    smooth = np.full(len(values), math.nan)
    if len(values) >= window:
        smooth[window - 1:] = np.lib.stride_tricks.sliding_window_view(values, window).mean(axis=1)
    return smooth


def first_reach(curve: Curve, target: float, direction: str = "higher", *, window: int = 1) -> Reached:
    """When ``curve``, smoothed over ``window`` points, is first at ``target`` or better.

    Resolution is that of the recorded points: nothing is interpolated. An undefined value reaches nothing.
    """
    smooth = running_mean(curve.values, window)
    if direction not in ("higher", "lower"):
        raise unknown("direction", direction, ("higher", "lower"))
    met = smooth >= target if direction == "higher" else smooth <= target
    if not met.any():
        return Reached(math.nan, math.nan)
    at = int(np.argmax(met))
    return Reached(float(curve.steps[at]), float(curve.seconds[at]))


def time_to_quality(base: Mapping[Hashable, Curve], arm: Mapping[Hashable, Curve], direction: str = "higher", *,
                    window: int = 1, level: float = LEVEL) -> TimeToQuality:
    """Steps and seconds at which ``arm`` first reaches the final quality of ``base``, as ratios, paired by seed.

    The target of a seed is the base's last value (smoothed over ``window`` points, as both curves are), and
    the base's own time is when its curve first met that, which may be before its end. Curves map seed to
    :class:`Curve`. The interval is of the mean log ratio (:func:`harness.stats.paired.difference_interval`), turned
    back into a ratio.
    """
    targets, undefined = {}, 0
    for seed in sorted(base.keys() & arm.keys()):
        smooth = running_mean(base[seed].values, window)
        if len(smooth) and math.isfinite(smooth[-1]):
            targets[seed] = float(smooth[-1])
        else:
            undefined += 1
    arm_reached = {seed: first_reach(arm[seed], target, direction, window=window) for seed, target in targets.items()}
    base_reached = {seed: first_reach(base[seed], target, direction, window=window) for seed, target in targets.items()}
    never = sum(not reached.ever for reached in arm_reached.values())
    speeds = {axis: _speed([getattr(arm_reached[seed], axis) for seed in targets],
                           [getattr(base_reached[seed], axis) for seed in targets], level)
              for axis in ("step", "seconds")}
    return TimeToQuality(speeds["step"], speeds["seconds"], arm_reached, base_reached, targets, never, undefined)


def _speed(arm: Sequence[float], base: Sequence[float], level: float) -> Speed:
    ratios = np.array([a / b if b > 0 else math.nan for a, b in zip(arm, base, strict=True)], dtype=float)
    never = ~np.isfinite(np.asarray(arm, dtype=float))
    known = ratios[np.isfinite(ratios) & (ratios > 0)]
    filled = np.where(never, math.inf, ratios)
    counted = filled[~np.isnan(filled)]
    # the upper of the middle two, so that a median between a number and infinity is not a number made up
    median = float(np.sort(counted)[len(counted) // 2]) if len(counted) else math.nan
    logs = difference_interval(np.log(known), level)
    with np.errstate(over="ignore"):               # two seeds may have an interval that is infinite for all purposes
        mean, low, high = (float(value) for value in np.exp([logs.mean, logs.low, logs.high]))
    ratio = Interval(mean, low, high, logs.n, len(ratios) - len(known), logs.method)
    if never.any():
        return Speed(replace(ratio, low=math.nan, high=math.nan, method=NONE), median, math.nan)
    return Speed(ratio, median, sign_flip_test(np.log(known)).p)
