"""Kinds of test of a claim, each a few entries of its file, over the runs of a study. No torch import.

Every test names the smallest effect that matters. *Supported* is a claim whose interval lies at or beyond that,
*contradicted* one whose interval lies wholly short of it; between them the data cannot tell. Claims are tested
one by one, each at 5 %: nothing here is corrected for how many claims there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from harness import suites
from harness.analysis.study_result import PartResult
from harness.analysis.study_runs import curves, one_protocol, values
from harness.errors import InputError
from harness.formatting import number, signed
from harness.record import Metric
from harness.spec import Frozen
from harness.stats.factorial import factorial_effects
from harness.stats.hypothesis_tests import holm, sign_flip_test
from harness.stats.intervals import Interval, mean_interval
from harness.stats.paired import PairedComparison, compare_paired
from harness.stats.power import smallest_n
from harness.stats.time_to_quality import time_to_quality

Word = Literal["supported", "contradicted", "inconclusive"]
Named = list[tuple[str, tuple]]                    # a name, and its place in the test's entry
WANTED = {"ratio": ("better by", " %"), "difference": ("better by", ""), "ratio_of_ratios": ("more by", " %"),
          "speed": ("faster by", " times"), "interaction": ("more by", "")}     # kind -> verb, unit of at_least


@dataclass(frozen=True)
class Finding:
    verdict: Word
    why: str = ""                                  # always for "inconclusive"; otherwise what else is to be said
    numbers: str = ""
    n: int = 0                                     # seeds; 0 where nothing is random


@dataclass(frozen=True)
class Scale:
    """``tested``: an effect of the claim's file -> the quantity that is tested; ``shown``: that quantity in words."""

    tested: Callable[[float], float]
    shown: Callable[[float], str]


def percent(direction: str = "higher") -> Scale:
    """Test percent as log ratios, positive is better: a score rises by x %, a distance falls by x %."""
    sign = 1 if direction == "higher" else -1

    def tested(share: float) -> float:
        inner = 1 + sign * share / 100
        return sign * math.log(inner) if inner > 0 else math.inf

    def shown(log: float) -> str:
        return signed(sign * 100 * math.expm1(min(sign * log, 700))) + " %"       # beyond 700 it would overflow

    return Scale(tested, shown)


def in_unit(unit: str) -> Scale:
    """Test an effect in its metric's unit."""
    return Scale(float, lambda value: signed(value, unit))


TIMES = Scale(math.log, lambda log: f"{number(math.exp(log))} times")


@dataclass(frozen=True)
class Evidence:
    """The runs of one part of a study, and the level of the intervals that they allow. A metric "" is its outcome."""

    result: PartResult
    level: float

    def runs(self, arm: str) -> dict:
        """Seed -> run. Raises InputError where the study that was run has no such arm."""
        found = next((its.runs for its in self.result.arms if its.arm.name == arm), None)
        if found is None:
            raise InputError(f"the study that was run has no arm {arm!r}")
        return found

    def values(self, arm: str, key: str) -> dict[int, float]:
        return values(self.runs(arm), key or self.result.part.outcome)

    def metric(self, key: str = "") -> Metric:
        """One of its values, for label, unit and direction. Raises InputError where no run has it."""
        key = key or self.result.part.outcome
        found = one_protocol(self.result.part, {arm.arm.name: arm.runs for arm in self.result.arms}, key)
        if found is None or found.direction == "none":
            raise InputError(f"no finished run has a {key} to compare")
        return found

    def compare(self, arm: str, reference: str, key: str, *, logs: bool = True) -> PairedComparison:
        """Compare two arms by seed, in logarithms or in the metric's unit; positive is better."""
        base, own = self.values(reference, key), self.values(arm, key)
        if logs:
            base, own = ({seed: _log(value) for seed, value in its.items()} for its in (base, own))
        return compare_paired(base, own, direction=self.metric(key).direction, level=self.level)

    def mean(self, arm: str, key: str) -> str:
        return number(mean_interval(self.values(arm, key).values()).mean)

    def decide(self, interval: Interval, p: float, scale: Scale, what: str, at_least: float,
               at_most: float | None = None) -> Finding:
        """Set an ``interval``, positive as claimed, against the smallest effect that matters, ``at_least``.

        ``at_most`` is the upper end of a stated range: a larger effect supports the claim and is said to lie above
        it. ``p`` is against no effect at all, ``what`` begins the numbers.
        """
        n, needed, shown = interval.n, smallest_n(1 - self.level), scale.shown
        bar, top = scale.tested(at_least), math.inf if at_most is None else scale.tested(at_most)
        numbers = f"{what} {shown(interval.mean)}" if n else f"{what} (no value)"
        if interval.exists:
            numbers += (f" [{shown(interval.low)}, {shown(interval.high)}] ({100 * self.level:.3g} % interval, "
                        f"n = {n}, p = {number(p)})")
        elif n:
            numbers += f" (n = {n}, no interval)"
        verdict: Word = "inconclusive"
        if interval.undefined:                     # an arm that collapsed must not look better for it
            why = f"undefined on {interval.undefined} of {n + interval.undefined} seeds"
        elif n < needed:
            why = f"too few seeds (n = {n}, {needed} needed)"
        elif not interval.exists:
            why = "there is no interval"
        elif interval.low >= bar and (interval.low > 0 or bar < 0):               # equal is not better
            verdict, why = "supported", "the interval lies wholly above the stated range" if interval.low > top else ""
        elif interval.high < bar:
            verdict, why = "contradicted", ("the effect is there, but smaller" if interval.low > 0 else
                                            "it goes the other way" if interval.high < 0 else "no effect of that size")
        else:
            sign = "; the sign is as stated" if interval.low > 0 else ""
            why = f"the interval spans the smallest effect that matters ({shown(bar)}){sign}"
        return Finding(verdict, why, numbers, n)


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


class StudyTest(Frozen):
    """What all kinds share: the arms and metrics that they name, and the effect that they ask for."""

    def arms(self) -> Named:
        return [(getattr(self, field), (field,)) for field in ("arm", "reference") if hasattr(self, field)]

    def metrics(self) -> Named:
        return [(name, (field,)) for field in ("metric", "against") if (name := getattr(self, field, ""))]

    def asked(self) -> str:
        """Write what a claim asks for: "better by at least 15 % (stated: 15 to 25 %)"."""
        (verb, unit), low, high = WANTED[self.kind], self.at_least, getattr(self, "at_most", None)
        if low < 0:
            return f"not worse by more than {number(-low)}{unit}"
        return f"{verb} at least {number(low)}{unit}" + (
            "" if high is None else f" (stated: {number(low)} to {number(high)}{unit})")


class Pair(StudyTest):
    """Two arms and a metric ("" = the study's outcome)."""

    arm: str
    reference: str
    metric: str = ""
    at_least: float


class Gain(Pair):
    """How much better the arm is: of a ratio, by how many percent; of a difference, in the metric's unit."""

    kind: Literal["ratio", "difference"]
    at_least: float                                # negative = may be so much worse
    at_most: float | None = None                   # the upper end of a stated range, where one is stated

    def find(self, evidence: Evidence) -> Finding:
        metric, relative = evidence.metric(self.metric), self.kind == "ratio"
        found = evidence.compare(self.arm, self.reference, self.metric, logs=relative)
        each = ", ".join(f"{arm} {evidence.mean(arm, self.metric)}" for arm in (self.arm, self.reference))
        return evidence.decide(found.interval, found.test.p, percent(metric.direction) if relative else
                               in_unit(metric.unit), f"{metric.label}: {each}; better by", self.at_least, self.at_most)


class RatioOfRatios(Pair):
    """By how many percent of itself the arm gains more in one metric than in another; both higher is better."""

    kind: Literal["ratio_of_ratios"]
    against: str                                   # the other metric

    def find(self, evidence: Evidence) -> Finding:
        labels = [evidence.metric(key).label for key in (self.metric, self.against)]
        gains = [evidence.compare(self.arm, self.reference, key) for key in (self.metric, self.against)]
        first, second = (dict(zip(gain.pairs.seeds, gain.pairs.values, strict=True)) for gain in gains)
        found = compare_paired(second, first, level=evidence.level)
        undefined = len(gains[0].pairs.values) + gains[0].pairs.undefined - found.interval.n
        each = ", ".join(f"{label} {percent().shown(gain.test.mean)}" for label, gain in zip(labels, gains))
        return evidence.decide(replace(found.interval, undefined=max(0, undefined)), found.test.p, percent(),
                               f"{self.arm} over {self.reference}: {each}; the first gains more by", self.at_least)


class Speed(Pair):
    """How many times faster the arm reaches the reference's final quality on the validation curve."""

    kind: Literal["speed"]
    axis: Literal["steps", "seconds"] = "steps"
    at_most: float | None = None

    def find(self, evidence: Evidence) -> Finding:
        part = evidence.result.part
        if not part.curve:
            raise InputError("the study that was run keeps no validation curve")
        direction = suites.registry.constant(part.suite, "CURVES")[part.curve]
        found = time_to_quality(curves(evidence.runs(self.reference), part.curve),
                                curves(evidence.runs(self.arm), part.curve), direction, level=evidence.level)
        ratio, p = getattr(found, self.axis).ratio, getattr(found, self.axis).p
        what = f"{part.curve}: {self.arm} reaches the final quality of {self.reference}"
        if found.never:
            return Finding("inconclusive", f"on {found.never} of {len(found.targets)} seeds {self.arm} never got there",
                           f"{what} on {ratio.n} seeds", ratio.n)
        low, mean, high = (-_log(value) for value in (ratio.high, ratio.mean, ratio.low))
        logs = replace(ratio, low=low, mean=mean, high=high, undefined=ratio.undefined + found.undefined)
        return evidence.decide(logs, p, TIMES, f"{what} in fewer {self.axis}, by", self.at_least, self.at_most)


class Interaction(StudyTest):
    """How much more one factor's level gains at another's level than at that one's first: of a full factorial."""

    kind: Literal["interaction"]
    effect: dict[str, str]                         # axis -> level
    at_least: float                                # in the outcome's unit

    def find(self, evidence: Evidence) -> Finding:
        part, metric = evidence.result.part, evidence.metric()
        if not part.axes or evidence.result.effects is None:
            raise InputError("the study that was run is not factorial")
        cells = {tuple(arm.arm.levels[axis] for axis in part.axes): values(arm.runs, part.outcome)
                 for arm in evidence.result.arms}
        effects = factorial_effects(cells, part.axes, order=len(self.effect), direction=metric.direction,
                                    level=evidence.level).effects
        found = next((one for one in effects if dict(zip(one.term, one.levels, strict=True)) == self.effect), None)
        if found is None:
            raise InputError(f"the study that was run has no effect {self.effect}")
        whole = [[its[seed] for its in cells.values()] for seed in set.intersection(*map(set, cells.values()))]
        undefined = sum(not all(map(math.isfinite, row)) for row in whole)
        firsts = " x ".join(f"{axis} = {part.axes[axis][0]}" for axis in self.effect)
        return evidence.decide(replace(found.interval, undefined=undefined), found.p, in_unit(metric.unit),
                               f"{metric.label}: {found.label} gains more than over {firsts} by", self.at_least)


class Order(StudyTest):
    """Arms from best to worst: every arm is better than the next one of its chain."""

    kind: Literal["order"]
    chains: tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = Field(min_length=1)
    metric: str = ""
    at_least: float = 0.0                          # % by which each is to be better than the next

    def arms(self) -> Named:
        return [(arm, ("chains", i, j)) for i, chain in enumerate(self.chains) for j, arm in enumerate(chain)]

    def find(self, evidence: Evidence) -> Finding:
        metric = evidence.metric(self.metric)
        scale, pairs = percent(metric.direction), [pair for chain in self.chains for pair in zip(chain, chain[1:])]
        found = [evidence.compare(*pair, self.metric) for pair in pairs]
        each = [evidence.decide(one.interval, one.test.p, scale, f"{arm} over {other}", self.at_least)
                for one, (arm, other) in zip(found, pairs, strict=True)]
        numbers = f"{metric.label}: " + "; ".join(finding.numbers for finding in each)
        n = min(finding.n for finding in each)
        # all must hold, so none needs a correction to support; any may fail, so those need Holm's to contradict
        bar = scale.tested(self.at_least)
        reverse = holm(sign_flip_test(one.pairs.values, alternative="less", threshold=bar).p
                       if one.test.n and not one.pairs.undefined else 1.0 for one in found)
        wrong = [f"{other} is better than {arm}" if self.at_least <= 0 else f"{arm} is not so much better than {other}"
                 for (arm, other), p in zip(pairs, reverse, strict=True) if p <= (1 - evidence.level) / 2]
        if wrong:
            return Finding("contradicted", "; ".join(wrong), numbers, n)
        undecided = [f"{arm} over {other}" for (arm, other), finding in zip(pairs, each, strict=True)
                     if finding.verdict != "supported"]
        if not undecided:
            return Finding("supported", f"all {len(pairs)} steps of the order hold", numbers, n)
        whys = {finding.why for finding in each}
        why = f"{len(undecided)} of {len(pairs)} steps of the order are undecided: {', '.join(undecided)}"
        return Finding("inconclusive", whys.pop() if len(undecided) == len(each) and len(whys) == 1 else why, numbers,
                       n)

    def asked(self) -> str:
        return "; ".join(" better than ".join(chain) for chain in self.chains) + (
            f", each by at least {number(self.at_least)} %" if self.at_least else "")


STUDY_TESTS = {"ratio": Gain, "difference": Gain, "ratio_of_ratios": RatioOfRatios, "speed": Speed,
               "interaction": Interaction, "order": Order}
