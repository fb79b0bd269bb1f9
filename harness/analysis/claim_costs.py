"""Kinds of test of a claim about cost: counted exactly on the meta device, or measured by the efficiency suite.

Nothing is trained. Only :meth:`Cost.find` imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.analysis.claim_tests import Finding, Word
from harness.analysis.scaling import FOLLOWED, Condition, Curve, Scaling, side_of
from harness.errors import InputError
from harness.formatting import number, scale
from harness.spec import Frozen
from harness.stats.intervals import LEVEL, Interval
from harness.stats.power_law import EXACT, power_law

RUN = "python bench.py --suite efficiency --profile standard"
LABELS = {"step_ms": "training step", "forward_ms": "forward pass", "memory_bytes": "training memory",
          "memory_inference_bytes": "inference memory", "memory_activations_bytes": "activations", "macs": "MACs",
          "parameters": "parameters"}
FEWEST = {"exponent": 3, "local_exponent": 2, "ratio": 1}      # sizes; a fit has an interval from three on
MEASURES = {"exponent": "an exponent", "local_exponent": "an exponent between the two largest sizes",
            "ratio": "a ratio"}


class Network(Frozen):
    """A variant or a preset, as ``inspect`` takes it."""

    network: str
    options: dict[str, Any] = Field(default_factory=dict)    # arguments of its build
    size: int | None = None                        # side of the image in pixels, where it is not the test's


class Cost(Frozen):
    """The tested network's count over each reference's, at the last of ``sizes``; it must hold against them all."""

    kind: Literal["cost"]
    quantity: Literal["parameters", "macs"]
    tested: Network
    references: dict[str, Network] = Field(min_length=1)
    sizes: tuple[int, ...] = ()                    # sides in pixels, growing; all are shown, the last decides
    at_least: float = 0.0                          # of the ratio tested / reference
    at_most: float | None = None

    def find(self) -> Finding:
        """Raises InputError for a network that does not exist or refuses its options."""
        sides, numbers = {True: [], False: []}, []
        for name, reference in self.references.items():
            for size in self.sizes or (None,):
                ours, theirs = self.count(self.tested, size), self.count(reference, size)
                at = f" at {size} px" if size else ""
                numbers.append(f"{_large(ours)} against {_large(theirs)} of {name}{at} (ratio {ours / theirs:.4g})")
            sides[self.at_least <= ours / theirs <= (math.inf if self.at_most is None else self.at_most)].append(name)
        told = f"Counted exactly, {LABELS[self.quantity]} of {self.tested.network}: {'; '.join(numbers)}"
        if all(sides.values()):
            why = f"it holds against {' and '.join(sides[True])}, not against {' and '.join(sides[False])}"
            return Finding("inconclusive", why, told)
        return Finding("supported" if sides[True] else "contradicted", "", told)

    def count(self, network: Network, size: int | None) -> int:
        from harness.measurement import costs
        from harness.measurement.network import subject
        try:
            found = subject(network.network, network.size or size, network.options)
            if self.quantity == "parameters":
                return int(costs.count_parameters(found.network).value)
            return int(costs.count_macs(found.network, *found.inputs)["macs"].value)
        except (ValueError, RuntimeError) as error:            # in its forward pass
            raise InputError(f"{network.network}: {' '.join(str(error).split())}") from error

    def asked(self) -> str:
        return f"a ratio of {_limits(self.at_least or None, self.at_most, '{:.4g}'.format)}"


def _large(value: float) -> str:
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}"
    return f"{value:g}"


def _limits(at_least: float | None, at_most: float | None, shown: Callable[[float], str]) -> str:
    return " and ".join(f"{name} {shown(bar)}" for name, bar in (("at least", at_least), ("at most", at_most))
                        if bar is not None)


class Subject(Frozen):
    """A variant as it was run: by its name, and those of its options that matter here."""

    variant: str
    options: dict[str, Any] = Field(default_factory=dict)

    def told(self, parameters: float | None = None) -> str:
        facts = [f"{key} = {value}" for key, value in self.options.items()]
        facts += [f"{parameters / 1e6:.3g} M parameters"] if parameters else []
        return self.variant + (f" ({', '.join(facts)})" if facts else "")

    def of(self, condition: Condition) -> Curve:
        """Its curve, at the sides at which it is one network. Raises InputError where there is none, or several."""
        found = [curve for curve in condition.curves if curve.variant == self.variant
                 and all(curve.options.get(key) == value for key, value in self.options.items())]
        if not found:
            raise InputError(f"not run: {self.told()}")
        if len(found) > 1:
            raise InputError(f"{self.told()} was run as {len(found)} networks, and the claim is about one: "
                             f"{', '.join(curve.label for curve in found)}")
        return found[0].same_network()


@dataclass(frozen=True)
class Measurement:
    """What one condition says: of a ratio, the interval is that of its logarithm."""

    interval: Interval
    what: str
    value: str
    method: str                                    # and what must be said with it
    n: int                                         # runs (seeds) behind each number: the fewest


class ScalingClaim(Frozen):
    """How a cost of ``tested`` grows, by itself or against ``reference``'s; or their ratio at the largest size.

    ``exponent`` is that of pixels (1 = in proportion, 2 = with their square), fitted over all sizes that both were
    measured at; with a reference, it is the difference of the two. ``local_exponent`` is between the two largest.
    ``ratio`` is of the costs at the largest common side, the reference's at a side ``smaller`` times smaller.
    """

    kind: Literal["scaling"]
    measure: Literal["exponent", "local_exponent", "ratio"]
    metric: Literal["step_ms", "forward_ms", "memory_bytes", "memory_inference_bytes", "memory_activations_bytes",
                    "macs"]
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

    def find(self, scaling: Scaling) -> Finding:
        """The verdict on which all conditions agree that say something; one that says nothing is named, not counted."""
        found: dict[str, Measurement] = {}
        silent = {}
        for condition in scaling.conditions:
            try:
                found[condition.title] = self.measured(condition)
            except InputError as missing:
                silent[condition.title] = str(missing)
        if not found:
            return Finding("inconclusive", _grouped(silent) or f"not run: {RUN}")
        same: dict[tuple[str, str], list[str]] = {}          # what several conditions share is said once
        for title, one in found.items():
            same.setdefault((one.what, one.method), []).append(f"{one.value} at {title}")
        numbers = "; ".join(f"{what} {'; '.join(its)} {method}" for (what, method), its in same.items())
        decided = {title: self._decide(one.interval) for title, one in found.items()}
        verdict, *others = {verdict for verdict, _ in decided.values()}
        whys = [f"nothing is known otherwise ({_grouped(silent)})"] if silent else []
        if others or verdict == "inconclusive":
            verdict = "inconclusive"
            whys.insert(0, _grouped({title: why or word for title, (word, why) in decided.items()}))
        return Finding(verdict, "; ".join(whys), numbers, min(one.n for one in found.values()))

    def measured(self, condition: Condition) -> Measurement:
        """What one condition says. Raises InputError where it says nothing about the claim."""
        ours, theirs = (subject.of(condition) for subject in (self.tested, self.reference or self.tested))
        other = theirs.points(self.metric)
        sides = sorted(side for side in ours.points(self.metric) if side / self.smaller in other)
        beside = _beside(ours, theirs, sides)
        label = LABELS[self.metric]
        if not sides:
            who = " over ".join(subject.told() for subject, _ in self.subjects())
            raise InputError(f"too few sizes: {label} of {who} was measured at none to compare{beside}")
        side, across = sides[-1], sides[-1] // self.smaller
        if side < self.min_side:
            raise InputError(f"wrong scale: the largest size is {side} px, and the claim needs {self.min_side}{beside}")
        if len(sides) < FEWEST[self.measure]:
            raise InputError(f"too few sizes: {_sizes(sides)}, and it takes {FEWEST[self.measure]}{beside}")
        found, where, values = (self._ratio(ours, theirs, side, across) if self.measure == "ratio" else
                                self._exponent(ours, theirs, sides))
        shown = (lambda log: number(math.exp(log))) if self.measure == "ratio" else number
        value, method = shown(found.mean), found.method
        if found.exists and method not in (EXACT, FOLLOWED):
            value, method = f"{value} [{shown(found.low)}, {shown(found.high)}]", f"{100 * LEVEL:.3g} %, {method}"
        who = " over ".join(subject.told(curve.parameters.get(side))
                            for (subject, _), curve in zip(self.subjects(), (ours, theirs)))
        n = min(len(ours.metrics(self.metric, side)), len(theirs.metrics(self.metric, across)))
        return Measurement(found, f"{label[0].upper()}{label[1:]} of {who}, {where}", value + values,
                           f"({method}){beside}", n)

    def _exponent(self, ours: Curve, theirs: Curve, sides: list[int]) -> tuple[Interval, str, str]:
        """(interval, at which sizes it was measured, the two that it is the difference of)."""
        if self.measure == "exponent":
            where, pixels = _sizes(sides), [side * side for side in sides]
            mine, other = ([curve.points(self.metric)[side] for side in sides] for curve in (ours, theirs))
            alone = [power_law(pixels, costs).exponent for costs in (mine, other)]
            apart = power_law(pixels, [one / two for one, two in zip(mine, other, strict=True)]).exponent
        else:
            where = f"from {sides[-2]} to {sides[-1]} px"
            one, two = alone = [curve.between(self.metric, *sides[-2:]) for curve in (ours, theirs)]
            half, mean = math.hypot(one.half_width, two.half_width), one.mean - two.mean       # as errors add
            apart = Interval(mean, mean - half, mean + half, min(one.n, two.n), 0, one.method)
        if self.reference is None:
            return alone[0], f"{where}: exponent", ""
        return apart, f"{where}: exponent larger by", f", {' over '.join(number(one.mean) for one in alone)},"

    def _ratio(self, ours: Curve, theirs: Curve, side: int, across: int) -> tuple[Interval, str, str]:
        """(interval of the logarithm, at which sizes it was measured, the two costs)."""
        costs = []
        for curve, at in ((ours, side), (theirs, across)):
            metric = next(iter(curve.metrics(self.metric, at).values()))
            factor, unit = scale(value := curve.points(self.metric)[at], metric.unit)
            value *= factor
            costs.append(f"{value:,.0f} {unit}" if value >= 1000 else f"{number(value)} {unit}")
        where = f"at {side} px over {across} px: ratio" if self.smaller > 1 else f"at {side} px: ratio"
        return ours.over(self.metric, side, theirs, across), where, f", {' over '.join(costs)},"

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
        more = " of the difference" if self.reference and self.measure != "ratio" else ""
        return f"{MEASURES[self.measure]}{more} of {_limits(self.at_least, self.at_most, number)}"


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


def _grouped(told: Mapping[str, str]) -> str:
    """Text by condition -> "text (conditions)", each text once; without conditions where all say the same."""
    by_text: dict[str, list[str]] = {}
    for title, text in told.items():
        by_text.setdefault(text, []).append(title)
    if len(by_text) == 1:
        return next(iter(by_text))
    return "; ".join(f"{' / '.join(titles)}: {text}" for text, titles in by_text.items())
