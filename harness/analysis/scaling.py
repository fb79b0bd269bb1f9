"""Records of the efficiency suite -> cost against resolution, and how it grows: cost ~ pixels ** exponent.

A *condition* is everything that must be equal for costs at several sizes to be one curve: batch, precision,
compiled or not, the machine. A *curve* is one network in one condition, a run (or one per seed) at each side.
No torch import.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from harness.analysis.comparison import arm_labels, network_of
from harness.record import Metric, Record
from harness.run_files import Run
from harness.spec import canonical_json
from harness.stats.intervals import LEVEL, Interval, mean_interval
from harness.stats.power_law import PowerLaw, Timed, log_ratio, power_law

SUITE = "efficiency"
TABLE = "scaling.csv"                              # what a report of such runs writes: by it they are found
QUANTITIES = ("step_ms", "forward_ms", "memory_bytes", "macs")
COUNTED = ("parameters", "macs", "flops")          # the same whenever and wherever they are counted
FOLLOWED = "allocations followed in one run"       # method: no noise moves them, so that one run is enough
SPREADS = {"step_ms": "step_iqr_ms", "forward_ms": "forward_iqr_ms"}  # a median -> its interquartile range
NO_MATTER = ("image_size", "repeats", "warmup")    # settings in which the points of one curve may differ
WORDS = {"compile": ("not compiled", "compiled"), "channels_last": ("channels first", "channels last"),
         "fused": ("eager", "fused"), "time": ("told no time step", "told a time step")}


@dataclass(frozen=True)
class Curve:
    """One network in one condition. ``finished`` and ``lost`` hold the latest run of each side and seed."""

    label: str
    variant: str
    options: dict[str, Any] = field(compare=False)
    finished: dict[int, list[Run]] = field(compare=False)    # side in pixels, growing -> its runs that ended well
    lost: list[Run] = field(compare=False)                   # those that did not
    left_out: tuple[int, ...] = ()                           # sides at which it is another network (same_network)

    def metrics(self, key: str, side: int) -> dict[Any, Metric]:
        """Seeds -> the value of each run at ``side`` that has a defined and positive one."""
        found = {}
        for run in self.finished.get(side, ()):
            metric = metric_of(run.record, key)
            if metric is not None and math.isfinite(metric.value) and metric.value > 0:
                found[run.record.spec.seeds] = metric
        return found

    def points(self, key: str) -> dict[int, float]:
        """Side -> mean over its seeds."""
        found = {side: [metric.value for metric in self.metrics(key, side).values()] for side in self.finished}
        return {side: math.fsum(values) / len(values) for side, values in found.items() if values}

    def fit(self, key: str, level: float = LEVEL) -> PowerLaw:
        """cost ~ pixels ** exponent over all its sides. The interval is the fit's, not over seeds."""
        points = self.points(key)
        return power_law([side * side for side in points], list(points.values()), level)

    def ends(self, key: str) -> tuple[int, int] | None:
        """Its two largest sides; None below two."""
        sides = sorted(self.points(key))
        return (sides[-2], sides[-1]) if len(sides) > 1 else None

    def local(self, key: str, level: float = LEVEL) -> Interval:
        """The exponent between its two largest sides."""
        ends = self.ends(key)
        return self.between(key, *ends, level) if ends else mean_interval(())

    def between(self, key: str, low: int, high: int, level: float = LEVEL) -> Interval:
        """The exponent between two sides; its interval is that of :meth:`over`."""
        found, pixels = self.over(key, high, self, low, level), 2 * math.log(high / low)
        return replace(found, mean=found.mean / pixels, low=found.low / pixels, high=found.high / pixels)

    def over(self, key: str, side: int, other: Curve, other_side: int, level: float = LEVEL) -> Interval:
        """Logarithm of this cost at ``side`` over the other's at ``other_side``.

        Over seeds, paired, where both have two or more; else over the timed calls of the one run. Exact where the
        cost is counted, and of one run where its allocations were followed. Anything else has no interval.
        """
        ours, theirs = self.metrics(key, side), other.metrics(key, other_side)
        both = [seed for seed in ours if seed in theirs]
        if not both:
            return mean_interval(())
        if key in COUNTED or (key.startswith("memory_") and len(both) == 1):
            found = log_ratio(*(Timed(found[both[0]].value) for found in (ours, theirs)), level)
            return found if key in COUNTED else replace(found, method=FOLLOWED)
        if len(both) > 1 or key not in SPREADS:
            return mean_interval([math.log(ours[seed].value / theirs[seed].value) for seed in both], level)
        spreads = self.metrics(SPREADS[key], side), other.metrics(SPREADS[key], other_side)
        return log_ratio(*(Timed(found[both[0]].value, spread[both[0]].value if both[0] in spread else math.nan,
                                 found[both[0]].n) for found, spread in zip((ours, theirs), spreads)), level)

    @cached_property
    def parameters(self) -> dict[int, float]:
        """Side -> parameters; a network whose default depth, patch or attention follows the size has several."""
        return self.points("parameters")

    @property
    def one_network(self) -> bool:
        return len(set(self.parameters.values())) <= 1

    def same_network(self) -> Curve:
        """Only the sides at which it is the network that it is at its largest side, by its number of parameters."""
        largest = self.parameters.get(max(self.parameters, default=0))
        kept = {side: runs for side, runs in self.finished.items() if self.parameters.get(side) == largest}
        return replace(self, finished=kept, left_out=tuple(side for side in self.finished if side not in kept))


@dataclass(frozen=True)
class Condition:
    """Curves that may stand in one figure."""

    title: str                                     # "batch 16, bf16", with what else tells it from the others
    device: str                                    # the processor's name
    curves: tuple[Curve, ...]

    @property
    def arms(self) -> tuple[Curve, ...]:
        """As a comparison names them, for their colours."""
        return self.curves

    @property
    def sides(self) -> list[int]:
        """At which any run was asked for, finished or not."""
        return sorted({side_of(run.record) for curve in self.curves for run in curve.lost}
                      | {side for curve in self.curves for side in curve.finished})

    @property
    def lost(self) -> list[tuple[str, int, Run]]:
        """(network, side, run) of every run that did not end well, smallest side first."""
        found = [(curve.label, side_of(run.record), run) for curve in self.curves for run in curve.lost]
        return sorted(found, key=lambda one: one[1])

    def metric(self, key: str) -> Metric | None:
        """One of its values, for label and unit."""
        return next((metric for curve in self.curves for side in curve.finished
                     for metric in curve.metrics(key, side).values()), None)


@dataclass(frozen=True)
class Scaling:
    """The efficiency runs of a results folder. ``problems`` are runs that cannot be placed, a line each."""

    conditions: tuple[Condition, ...]
    problems: tuple[str, ...] = ()

    @property
    def sides(self) -> list[int]:
        return sorted({side for condition in self.conditions for side in condition.sides})


def metric_of(record: Record, key: str) -> Metric | None:
    return record.metrics.get(key, record.cost.get(key))


def side_of(record: Record) -> int:
    """Of the image, in pixels; 0 where the record does not say."""
    side = record.spec.settings.get("image_size")
    return side if isinstance(side, int) and side > 0 else 0


def scaling_of(runs: Sequence[Run]) -> Scaling | None:
    """The conditions and curves among ``runs``; None where none is of the efficiency suite."""
    ours = [run for run in runs if run.record.spec.suite == SUITE]
    if not ours:
        return None
    placed = [run for run in ours if side_of(run.record)]
    problems = [f"{run.record.run_id}: an efficiency run whose settings have no image_size" for run in ours
                if not side_of(run.record)]
    groups: dict[str, dict[str, list[Run]]] = {}             # of equal settings -> machine -> runs
    for run in placed:
        settings = groups.setdefault(canonical_json(_settings(run.record)), {})
        settings.setdefault(canonical_json(_machine(run.record)), []).append(run)
    parts = [part for found in groups.values() for part in _by_machine(found)]
    facts = [{**_settings(part[0].record), **_machine(part[0].record)} for part in parts]
    labels = arm_labels(placed)
    return Scaling(tuple(Condition(title, _device(part[0].record), tuple(_curves(part, labels)))
                         for title, part in zip(_titles(facts), parts, strict=True)), tuple(problems))


def _settings(record: Record) -> dict[str, Any]:
    spec = record.spec
    rest = {key: value for key, value in spec.settings.items() if key not in NO_MATTER}
    return {"batch": spec.train.batch_size, "precision": spec.train.precision, "compile": spec.train.compile,
            "device": spec.device, **rest}


def _machine(record: Record) -> dict[str, Any]:
    return {"processor": _device(record), "threads": record.env.get("threads")}


def _device(record: Record) -> str:
    return str(record.env.get("gpu") or record.env.get("cpu") or "unknown processor")


def _by_machine(found: dict[str, list[Run]]) -> list[list[Run]]:
    """A part for each machine on which a run ended well. The others may not know theirs: they go with the first."""
    well = {machine: runs for machine, runs in found.items() if any(run.record.status == "ok" for run in runs)}
    others = [run for machine, runs in found.items() if machine not in well for run in runs]
    first, *more = well.values() or [[]]
    return [[*first, *others], *more]


def _titles(facts: list[dict[str, Any]]) -> list[str]:
    keys = [key for key in dict.fromkeys(key for one in facts for key in one) if key not in ("batch", "precision")
            and len({canonical_json(one.get(key)) for one in facts}) > 1]

    def words(key: str, value: Any) -> str:
        return WORDS[key][value] if key in WORDS and isinstance(value, bool) else f"{key} {value}"

    return [", ".join([f"batch {one['batch']}", one["precision"], *(words(key, one.get(key)) for key in keys)])
            for one in facts]


def _curves(runs: Sequence[Run], labels: dict[tuple[str, str], str]) -> Iterator[Curve]:
    by_network: dict[tuple[str, str], dict[tuple, Run]] = {}
    for run in sorted(runs, key=lambda run: run.record.started):       # the latest run of a side and seed counts
        at = side_of(run.record), tuple(run.record.spec.seeds.model_dump().values())
        by_network.setdefault(network_of(run), {})[at] = run
    for network, found in by_network.items():
        finished: dict[int, list[Run]] = {}
        for (side, _), run in sorted(found.items(), key=lambda one: one[0]):
            if run.record.status == "ok":
                finished.setdefault(side, []).append(run)
        lost = [run for run in found.values() if run.record.status != "ok"]
        options = next(iter(found.values())).record.spec.options
        yield Curve(labels[network], network[0], options, finished, lost)
