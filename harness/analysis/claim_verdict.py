"""What a test of a claim finds: a verdict with its reason and its numbers, from one interval. No torch import."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.formatting import number, signed
from harness.stats.intervals import Interval
from harness.stats.power import smallest_n

Word = Literal["supported", "contradicted", "inconclusive"]


class Missing(Exception):
    """What was run does not hold what a claim is about; the text says what is missing."""


@dataclass(frozen=True)
class Finding:
    verdict: Word
    why: str                                       # always for "inconclusive"; otherwise what else is to be said
    numbers: str
    n: int                                         # seeds; 0 where nothing is random


def decide(interval: Interval, p: float, bar: float, top: float | None, level: float, shown: Callable[[float], str],
           what: str) -> Finding:
    """The verdict of one ``interval`` (positive is as claimed) about the smallest effect that matters, ``bar``.

    ``top`` is the upper end of a stated range: a larger effect supports the claim and is said to lie above it.
    ``shown`` writes a value for people, ``p`` is against no effect at all, ``what`` begins the numbers.
    """
    n, needed = interval.n, smallest_n(1 - level)
    numbers = f"{what} {shown(interval.mean)}" if n else f"{what} (no value)"
    if interval.exists:
        numbers += (f" [{shown(interval.low)}, {shown(interval.high)}] ({100 * level:.3g} % interval, n = {n}, "
                    f"p = {number(p)})")
    elif n:
        numbers += f" (n = {n}, no interval)"
    if interval.undefined:                         # an arm that collapsed must not look better for it
        all_seeds = n + interval.undefined
        return Finding("inconclusive", f"undefined on {interval.undefined} of {all_seeds} seeds", numbers, n)
    if n < needed:
        return Finding("inconclusive", f"too few seeds (n = {n}, {needed} needed)", numbers, n)
    if not interval.exists:
        return Finding("inconclusive", "there is no interval", numbers, n)
    if interval.low >= bar and (interval.low > 0 or bar < 0):                     # equal is not better
        above = top is not None and interval.low > top
        return Finding("supported", "the interval lies wholly above the stated range" if above else "", numbers, n)
    if interval.high < bar:
        side = "the effect is there, but smaller" if interval.low > 0 else (
            "it goes the other way" if interval.high < 0 else "no effect of that size")
        return Finding("contradicted", side, numbers, n)
    sign = "; the sign is as stated" if interval.low > 0 else ""
    return Finding("inconclusive", f"the interval spans the smallest effect that matters ({shown(bar)}){sign}",
                   numbers, n)


def scale(direction: str) -> tuple[Callable[[float], float], Callable[[float], str]]:
    """(percent -> log ratio, log ratio -> text); positive is better. A score rises by x %, a distance falls by x %."""
    sign = 1 if direction == "higher" else -1

    def bar(share: float) -> float:
        inner = 1 + sign * share / 100
        return sign * math.log(inner) if inner > 0 else math.inf

    def shown(log: float) -> str:
        return signed(sign * 100 * math.expm1(min(sign * log, 700))) + " %"       # beyond 700 it would overflow

    return bar, shown


def percent(log: float) -> str:
    """Of a log ratio of a score."""
    return scale("higher")[1](log)


def wanted(at_least: float, at_most: float | None, unit: str, verb: str) -> str:
    """What a claim asks for: "better by at least 15 % (stated: 15 to 25 %)"."""
    if at_least < 0:
        return f"not worse by more than {number(-at_least)}{unit}"
    stated = f" (stated: {number(at_least)} to {number(at_most)}{unit})" if at_most is not None else ""
    return f"{verb} at least {number(at_least)}{unit}{stated}"
