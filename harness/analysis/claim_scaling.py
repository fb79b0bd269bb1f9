"""Claims about how cost grows with resolution, decided from records of the efficiency suite. No torch import.

A claim is tested in every condition that was measured (batch, precision, compiled or not). It is *supported* or
*contradicted* where all of them agree; where they do not, or one cannot tell, it is *inconclusive*. An exponent is
that of pixels: 1 = in proportion, 2 = with their square.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.analysis.claim_verdict import Finding, Missing, Word
from harness.analysis.scaling import FOLLOWED, Condition, Curve, Scaling, side_of
from harness.formatting import number, scale
from harness.spec import Frozen
from harness.stats.intervals import LEVEL, Interval
from harness.stats.power_law import EXACT, power_law

RUN = "python bench.py --suite efficiency --profile standard"
FEWEST = 3                                         # sizes of a fit that has an interval
LABELS = {"step_ms": "training step", "forward_ms": "forward pass", "memory_bytes": "training memory",
          "memory_inference_bytes": "inference memory", "memory_activations_bytes": "activations", "macs": "MACs"}
Metric = Literal["step_ms", "forward_ms", "memory_bytes", "memory_inference_bytes", "memory_activations_bytes", "macs"]


class Subject(Frozen):
    """A variant as it was run: by its name, and those of its options that matter here."""

    variant: str
    options: dict[str, Any] = Field(default_factory=dict)

    def told(self, parameters: float | None = None) -> str:
        facts = [f"{key} = {value}" for key, value in self.options.items()]
        facts += [f"{parameters / 1e6:.3g} M parameters"] if parameters else []
        return self.variant + (f" ({', '.join(facts)})" if facts else "")

    def of(self, condition: Condition) -> Curve:
        """Its curve, at the sides at which it is one network. Raises Missing where there is none, or several."""
        found = [curve for curve in condition.curves if curve.variant == self.variant
                 and all(curve.options.get(key) == value for key, value in self.options.items())]
        if not found:
            raise Missing(f"not run: {self.told()}")
        if len(found) > 1:
            raise Missing(f"{self.told()} was run as {len(found)} networks, and the claim is about one: "
                          f"{', '.join(curve.label for curve in found)}")
        return found[0].same_network()


@dataclass(frozen=True)
class Measurement:
    """What one condition says: of a ratio, the interval is that of its logarithm."""

    interval: Interval
    what: str
    value: str
    method: str
    beside: str                                    # what must be said with it
    n: int                                         # runs (seeds) behind each number: the fewest


class ScalingClaim(Frozen):
    """How a cost of ``tested`` grows, by itself or against ``reference``'s; or their ratio at the largest size.

    ``exponent`` is fitted over all sizes that both were measured at; with a reference, it is the difference of the
    two. ``local_exponent`` is between the two largest. ``ratio`` is of the costs at the largest common side, the
    reference's at a side ``smaller`` times smaller.
    """

    kind: Literal["scaling"]
    measure: Literal["exponent", "local_exponent", "ratio"]
    metric: Metric
    tested: Subject
    reference: Subject | None = None
    smaller: int = Field(1, ge=1)                  # of a ratio
    min_side: int = Field(0, ge=0)                 # pixels; a largest common side below it says nothing
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _is_a_question(self):
        if self.at_least is None and self.at_most is None:
            raise ValueError("a claim needs a bar: at_least, at_most or both")
        if self.smaller > 1 and self.measure != "ratio":
            raise ValueError("smaller is for measure: ratio")
        if self.measure == "ratio" and self.reference is None and self.smaller == 1:
            raise ValueError("a ratio needs a reference, or a side that is smaller by a factor, or both")
        return self

    def subjects(self) -> Iterator[tuple[Subject, str]]:
        """Each network with the entry that names it."""
        yield self.tested, "tested"
        if self.reference is not None:
            yield self.reference, "reference"

    def find(self, scaling: Scaling, level: float = LEVEL) -> Finding:
        """The verdict of a results folder's efficiency runs; a condition that says nothing is named and not counted."""
        found: dict[str, Measurement] = {}
        silent = {}
        for condition in scaling.conditions:
            try:
                ours = self.tested.of(condition)
                theirs = self.reference.of(condition) if self.reference else ours
                found[condition.title] = self._measured(ours, theirs, level)
            except Missing as missing:
                silent[condition.title] = str(missing)
        if not found:
            return Finding("inconclusive", _grouped(silent) or f"not run: {RUN}", "", 0)
        verdicts = {title: self._decide(one.interval) for title, one in found.items()}
        numbers, n = _told(found), min(one.n for one in found.values())
        words = {word for word, _ in verdicts.values()}
        aside = f"nothing is known otherwise ({_grouped(silent)})" if silent else ""
        if words in ({"supported"}, {"contradicted"}):
            return Finding(words.pop(), aside, numbers, n)
        whys = {title: why or word for title, (word, why) in verdicts.items()}
        return Finding("inconclusive", "; ".join(filter(None, [_grouped(whys), aside])), numbers, n)

    def _measured(self, ours: Curve, theirs: Curve, level: float) -> Measurement:
        """Of one condition. Raises Missing where it says nothing about the claim."""
        mine, other = ours.points(self.metric), theirs.points(self.metric)
        sides = sorted(side for side in mine if side / self.smaller in other)
        beside = _beside(ours, theirs, sides)
        if not sides:
            who = " over ".join(subject.told() for subject, _ in self.subjects())
            raise Missing(f"too few sizes: {LABELS[self.metric]} of {who} was measured at none to compare{beside}")
        if sides[-1] < self.min_side:
            raise Missing(f"wrong scale: the largest size is {sides[-1]} px, and the claim needs {self.min_side}"
                          + beside)
        least = {"exponent": FEWEST, "local_exponent": 2, "ratio": 1}[self.measure]
        if len(sides) < least:
            raise Missing(f"too few sizes: {_sizes(sides)}, and it takes {least}{beside}")
        interval, where, values = getattr(self, f"_{self.measure}")(ours, theirs, sides, level)
        shown = (lambda log: number(math.exp(log))) if self.measure == "ratio" else number
        value, method = shown(interval.mean), interval.method
        if interval.exists and method not in (EXACT, FOLLOWED):
            value, method = f"{value} [{shown(interval.low)}, {shown(interval.high)}]", f"{100 * level:.3g} %, {method}"
        who = " over ".join(subject.told(curve.parameters.get(sides[-1]))
                            for (subject, _), curve in zip(self.subjects(), (ours, theirs)))
        n = min(len(curve.metrics(self.metric, side)) for curve, side in
                ((ours, sides[-1]), (theirs, sides[-1] // self.smaller)))
        label = LABELS[self.metric]
        return Measurement(interval, f"{label[0].upper()}{label[1:]} of {who}, {where}", value + values, method, beside,
                           n)

    def _exponent(self, ours: Curve, theirs: Curve, sides: list[int], level: float) -> tuple[Interval, str, str]:
        def fitted(*costs: dict[int, float]) -> Interval:
            values = [costs[0][side] / (costs[1][side] if costs[1:] else 1) for side in sides]
            return power_law([side * side for side in sides], values, level).exponent

        mine, other, where = ours.points(self.metric), theirs.points(self.metric), f"{_sizes(sides)}: exponent"
        if self.reference is None:
            return fitted(mine), where, ""
        return (fitted(mine, other), f"{where} larger by",
                f", {number(fitted(mine).mean)} over {number(fitted(other).mean)},")

    def _local_exponent(self, ours: Curve, theirs: Curve, sides: list[int], level: float) -> tuple[Interval, str, str]:
        low, high = sides[-2:]
        found, where = ours.between(self.metric, low, high, level), f"from {low} to {high} px: exponent"
        if self.reference is None:
            return found, where, ""
        other = theirs.between(self.metric, low, high, level)
        half, mean = math.hypot(found.half_width, other.half_width), found.mean - other.mean   # as errors add
        return (Interval(mean, mean - half, mean + half, min(found.n, other.n), 0, found.method),
                f"{where} larger by", f", {number(found.mean)} over {number(other.mean)},")

    def _ratio(self, ours: Curve, theirs: Curve, sides: list[int], level: float) -> tuple[Interval, str, str]:
        def cost(curve: Curve, at: int) -> str:
            (metric, *_), value = curve.metrics(self.metric, at).values(), curve.points(self.metric)[at]
            factor, unit = scale(value, metric.unit)
            return f"{value * factor:,.0f} {unit}" if value * factor >= 1000 else f"{number(value * factor)} {unit}"

        side, across = sides[-1], sides[-1] // self.smaller
        return (ours.over(self.metric, side, theirs, across, level),
                f"at {side} px over {across} px: ratio" if self.smaller > 1 else f"at {side} px: ratio",
                f", {cost(ours, side)} over {cost(theirs, across)},")

    def _decide(self, found: Interval) -> tuple[Word, str]:
        """The verdict on one condition, and why where it is none."""
        if not found.exists:
            return "inconclusive", "measured once, so that there is no interval"
        scaled = math.log if self.measure == "ratio" else float
        low = -math.inf if self.at_least is None else scaled(self.at_least)
        high = math.inf if self.at_most is None else scaled(self.at_most)
        if low <= found.low and found.high <= high:
            return "supported", ""
        if found.high < low or high < found.low:
            return "contradicted", ""
        crossed = [number(bar) for bar, at in ((self.at_least, low), (self.at_most, high))
                   if found.low <= at <= found.high]
        return "inconclusive", f"the interval spans the bar ({' and '.join(crossed)})"

    def asked(self) -> str:
        limits = [f"at least {number(self.at_least)}" if self.at_least is not None else "",
                  f"at most {number(self.at_most)}" if self.at_most is not None else ""]
        what = {"exponent": "an exponent", "local_exponent": "an exponent between the two largest sizes",
                "ratio": "a ratio"}[self.measure]
        more = " of the difference" if self.reference and self.measure != "ratio" else ""
        return f"{what}{more} of {' and '.join(filter(None, limits))}"


def _sizes(sides: list[int]) -> str:
    return f"{len(sides)} sizes from {sides[0]} to {sides[-1]} px" if len(sides) > 1 else f"one size, {sides[0]} px"


def _beside(ours: Curve, theirs: Curve, sides: list[int]) -> str:
    """What must be said with the numbers: what ended badly beyond the sizes compared, and what was another network."""
    curves = {curve.label: curve for curve in (ours, theirs)}
    bad = [f"{label} at {side} px ({run.record.status})" for label, curve in curves.items() for run in curve.lost
           if (side := side_of(run.record)) > max(sides, default=0)]
    other = [f"{label} at {', '.join(map(str, curve.left_out))} px" for label, curve in curves.items()
             if curve.left_out]
    return "".join([f"; did not finish: {', '.join(bad)}" if bad else "",
                    f"; left out as another network, by its parameters: {', '.join(other)}" if other else ""])


def _told(found: dict[str, Measurement]) -> str:
    """What was measured, with its value in each condition; once where conditions share it."""
    same: dict[tuple[str, str, str], list[str]] = {}
    for title, one in found.items():
        same.setdefault((one.what, one.method, one.beside), []).append(f"{one.value} at {title}")
    return "; ".join(f"{what} {'; '.join(values)} ({method}){beside}"
                     for (what, method, beside), values in same.items())


def _grouped(told: dict[str, str]) -> str:
    """Text by condition -> "text (conditions)", each text once; without conditions where all say the same."""
    by_text: dict[str, list[str]] = {}
    for title, text in told.items():
        by_text.setdefault(text, []).append(title)
    if len(by_text) == 1:
        return next(iter(by_text))
    return "; ".join(f"{' / '.join(titles)}: {text}" for text, titles in by_text.items())
