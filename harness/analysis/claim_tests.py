"""What decides a claim: kinds of test over the runs of a study, each a few entries of the claim's file.

Every test names the smallest effect that matters. *Supported* is a claim whose interval lies at or beyond that,
*contradicted* one whose interval lies wholly short of it; between them the data cannot tell. Claims are tested
one by one, each at 5 %: nothing here is corrected for how many claims there are. No torch import.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from harness import suites
from harness.analysis.claim_verdict import Finding, Missing, decide, percent, scale, wanted
from harness.analysis.study_result import PartResult
from harness.analysis.study_runs import curves, one_protocol, values
from harness.formatting import number, signed
from harness.record import Metric
from harness.spec import Frozen
from harness.stats.factorial import factorial_effects
from harness.stats.hypothesis_tests import holm, sign_flip_test
from harness.stats.paired import PairedComparison, compare_paired
from harness.stats.time_to_quality import time_to_quality


@dataclass(frozen=True)
class Evidence:
    """The runs of one part of a study, and the level of the intervals that they allow."""

    result: PartResult
    level: float = 0.95

    def runs(self, arm: str) -> dict:
        """Seed -> run. Raises Missing where the study that was run has no such arm."""
        found = next((its.runs for its in self.result.arms if its.arm.name == arm), None)
        if found is None:
            raise Missing(f"the study that was run has no arm {arm!r}")
        return found

    def metric(self, key: str) -> Metric:
        """One of its values, for label, unit and direction. Raises Missing where no run has it."""
        found = one_protocol(self.result.part, {arm.arm.name: arm.runs for arm in self.result.arms}, key)
        if found is None or found.direction == "none":
            raise Missing(f"no finished run has a {key} to compare")
        return found

    def compare(self, arm: str, reference: str, key: str, by: str) -> PairedComparison:
        """In the metric's unit, or with ``by="ratio"`` of its logarithm; positive is better."""
        def of(name):
            found = values(self.runs(name), key)
            return {seed: _log(value) for seed, value in found.items()} if by == "ratio" else found
        return compare_paired(of(reference), of(arm), direction=self.metric(key).direction, level=self.level)

    def mean(self, arm: str, key: str) -> str:
        found = [value for value in values(self.runs(arm), key).values() if math.isfinite(value)]
        return number(sum(found) / len(found)) if found else "undefined"


def _log(value: float) -> float:
    return math.log(value) if value > 0 else math.nan


class Pair(Frozen):
    """Two arms and a metric ("" = the study's outcome)."""

    arm: str
    reference: str
    metric: str = ""

    def arms(self) -> Iterator[tuple[str, tuple]]:
        """Every arm with its place in the test's entry."""
        yield from ((self.arm, ("arm",)), (self.reference, ("reference",)))

    def metrics(self) -> Iterator[tuple[str, tuple]]:
        if self.metric:
            yield self.metric, ("metric",)


class Gain(Pair):
    """How much better the arm is."""

    at_least: float                                # negative = may be so much worse
    at_most: float | None = None                   # the upper end of a stated range, where one is stated

    def finding(self, evidence: Evidence, by: str, bar: Callable[[float], float], shown: Callable) -> Finding:
        metric = evidence.metric(key := self.metric or evidence.result.part.outcome)
        found = evidence.compare(self.arm, self.reference, key, by)
        what = (f"{metric.label}: {self.arm} {evidence.mean(self.arm, key)}, "
                f"{self.reference} {evidence.mean(self.reference, key)}; better by")
        top = None if self.at_most is None else bar(self.at_most)
        return decide(found.interval, found.test.p, bar(self.at_least), top, evidence.level, shown, what)


class Ratio(Gain):
    """By how many percent the arm is better: of a score, how much higher; of a distance, how much lower."""

    kind: Literal["ratio"]

    def find(self, evidence: Evidence) -> Finding:
        direction = evidence.metric(self.metric or evidence.result.part.outcome).direction
        return self.finding(evidence, "ratio", *scale(direction))

    def asked(self) -> str:
        return wanted(self.at_least, self.at_most, " %", "better by")


class Difference(Gain):
    """By how much the arm is better, in the metric's unit."""

    kind: Literal["difference"]

    def find(self, evidence: Evidence) -> Finding:
        unit = evidence.metric(self.metric or evidence.result.part.outcome).unit
        return self.finding(evidence, "difference", float, lambda value: signed(value, unit))

    def asked(self) -> str:
        return wanted(self.at_least, self.at_most, "", "better by")


class RatioOfRatios(Pair):
    """By how many percent of itself the arm gains more in one metric than in another; both higher is better."""

    kind: Literal["ratio_of_ratios"]
    against: str                                   # the other metric
    at_least: float                                # %

    def metrics(self):
        yield from super().metrics()
        yield self.against, ("against",)

    def find(self, evidence: Evidence) -> Finding:
        keys = (self.metric or evidence.result.part.outcome, self.against)
        labels = [evidence.metric(key).label for key in keys]
        gains = [evidence.compare(self.arm, self.reference, key, "ratio") for key in keys]
        first, second = (dict(zip(gain.pairs.seeds, gain.pairs.values, strict=True)) for gain in gains)
        found = compare_paired(second, first, level=evidence.level)
        undefined = len(gains[0].pairs.values) + gains[0].pairs.undefined - found.interval.n
        interval = replace(found.interval, undefined=max(0, undefined))
        each = ", ".join(f"{label} {percent(gain.test.mean)}" for label, gain in zip(labels, gains, strict=True))
        return decide(interval, found.test.p, math.log1p(self.at_least / 100), None, evidence.level, percent,
                      f"{self.arm} over {self.reference}: {each}; the first gains more by")

    def asked(self) -> str:
        return wanted(self.at_least, None, " %", "more by")


class Speed(Pair):
    """How many times faster the arm reaches the reference's final quality on the validation curve."""

    kind: Literal["speed"]
    axis: Literal["steps", "seconds"] = "steps"
    at_least: float                                # times
    at_most: float | None = None

    def find(self, evidence: Evidence) -> Finding:
        part = evidence.result.part
        if not part.curve:
            raise Missing("the study that was run keeps no validation curve")
        direction = suites.registry.constant(part.suite, "CURVES")[part.curve]
        found = time_to_quality(curves(evidence.runs(self.reference), part.curve),
                                curves(evidence.runs(self.arm), part.curve), direction, level=evidence.level)
        speed = getattr(found, self.axis)
        n, what = speed.ratio.n, f"{part.curve}: {self.arm} reaches the final quality of {self.reference}"
        if found.never:
            return Finding("inconclusive", f"on {found.never} of {len(found.targets)} seeds {self.arm} never got there",
                           f"{what} on {n} seeds", n)
        low, mean, high = (-_log(value) for value in (speed.ratio.high, speed.ratio.mean, speed.ratio.low))
        logs = replace(speed.ratio, low=low, mean=mean, high=high, undefined=speed.ratio.undefined + found.undefined)
        return decide(logs, speed.p, math.log(self.at_least), None if self.at_most is None else math.log(self.at_most),
                      evidence.level, lambda log: f"{number(math.exp(log))} times", f"{what} in fewer {self.axis}, by")

    def asked(self) -> str:
        return wanted(self.at_least, self.at_most, " times", "faster by")


class Interaction(Frozen):
    """How much more one factor's level gains at another's level than at that one's first: of a full factorial."""

    kind: Literal["interaction"]
    effect: dict[str, str]                         # axis -> level
    at_least: float                                # in the outcome's unit

    def arms(self):
        return iter(())

    def metrics(self):
        return iter(())

    def find(self, evidence: Evidence) -> Finding:
        part, metric = evidence.result.part, evidence.metric(evidence.result.part.outcome)
        if not part.axes or evidence.result.effects is None:
            raise Missing("the study that was run is not factorial")
        cells = {tuple(arm.arm.levels[axis] for axis in part.axes): values(arm.runs, part.outcome)
                 for arm in evidence.result.arms}
        effects = factorial_effects(cells, part.axes, order=len(self.effect), direction=metric.direction,
                                    level=evidence.level).effects
        found = next((one for one in effects if dict(zip(one.term, one.levels, strict=True)) == self.effect), None)
        if found is None:
            raise Missing(f"the study that was run has no effect {self.effect}")
        whole = [[its[seed] for its in cells.values()] for seed in set.intersection(*map(set, cells.values()))]
        undefined = sum(not all(map(math.isfinite, row)) for row in whole)
        return decide(replace(found.interval, undefined=undefined), found.p, self.at_least, None, evidence.level,
                      lambda value: signed(value, metric.unit), f"{metric.label}: {found.label} gains more than over "
                      f"{' x '.join(f'{axis} = {part.axes[axis][0]}' for axis in self.effect)} by")

    def asked(self) -> str:
        return wanted(self.at_least, None, "", "more by")


class Order(Frozen):
    """Arms from best to worst: every arm is better than the next one of its chain."""

    kind: Literal["order"]
    chains: tuple[Annotated[tuple[str, ...], Field(min_length=2)], ...] = Field(min_length=1)
    metric: str = ""
    at_least: float = 0.0                          # % by which each is to be better than the next

    def arms(self):
        yield from ((arm, ("chains", i, j)) for i, chain in enumerate(self.chains) for j, arm in enumerate(chain))

    def metrics(self):
        if self.metric:
            yield self.metric, ("metric",)

    def find(self, evidence: Evidence) -> Finding:
        metric = evidence.metric(key := self.metric or evidence.result.part.outcome)
        bar, shown = scale(metric.direction)
        pairs = [pair for chain in self.chains for pair in zip(chain, chain[1:])]
        found = [evidence.compare(*pair, key, "ratio") for pair in pairs]
        each = [decide(one.interval, one.test.p, bar(self.at_least), None, evidence.level, shown, f"{arm} over {other}")
                for one, (arm, other) in zip(found, pairs, strict=True)]
        numbers = f"{metric.label}: " + "; ".join(finding.numbers for finding in each)
        n = min(finding.n for finding in each)
        # all must hold, so none needs a correction to support; any may fail, so those need Holm's to contradict
        reverse = holm(sign_flip_test(one.pairs.values, alternative="less", threshold=bar(self.at_least)).p
                       if one.test.n and not one.pairs.undefined else 1.0 for one in found)
        wrong = [f"{other} is better than {arm}" if self.at_least <= 0 else f"{arm} is not so much better than {other}"
                 for (arm, other), p in zip(pairs, reverse, strict=True) if p <= (1 - evidence.level) / 2]
        if wrong:
            return Finding("contradicted", "; ".join(wrong), numbers, n)
        undecided = [finding for finding in each if finding.verdict != "supported"]
        if not undecided:
            return Finding("supported", f"all {len(pairs)} steps of the order hold", numbers, n)
        if len(undecided) == len(each) and len({finding.why for finding in each}) == 1:
            return Finding("inconclusive", each[0].why, numbers, n)
        open_pairs = [f"{arm} over {other}" for (arm, other), finding in zip(pairs, each, strict=True)
                      if finding.verdict != "supported"]
        return Finding("inconclusive", f"{len(open_pairs)} of {len(pairs)} steps of the order are undecided: "
                       f"{', '.join(open_pairs)}", numbers, n)

    def asked(self) -> str:
        return "; ".join(" better than ".join(chain) for chain in self.chains) + (
            f", each by at least {number(self.at_least)} %" if self.at_least else "")


KINDS = {"ratio": Ratio, "difference": Difference, "ratio_of_ratios": RatioOfRatios, "speed": Speed,
         "interaction": Interaction, "order": Order}
