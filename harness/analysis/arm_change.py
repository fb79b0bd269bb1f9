"""One arm in two sets of results -> what moved in it, and how sure that is. No torch import.

:mod:`harness.analysis.result_sets` finds the arms that two sets share.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy import stats

from harness.analysis.comparison import require_one_protocol
from harness.record import Metric, Record
from harness.run_files import Run
from harness.stats.hypothesis_tests import holm
from harness.stats.intervals import LEVEL, NONE, Interval, mean_interval
from harness.stats.paired import compare_paired, difference_interval
from harness.stats.power import ALPHA, smallest_n

EXACT = ("parameters", "macs")                     # counted: the same network gives the same number
DERIVED = ("flops",)                               # follow from those
WELCH = "Welch t, no seed in common"

Verdict = Literal["better", "worse", "changed", "not beyond noise", "within", "cannot tell", "equal", "same run"]
Seed = tuple                                       # (init, data, sampling)
Measured = dict[str, dict[Seed, Metric]]           # metric or cost -> its values by seed


@dataclass(frozen=True)
class Change:
    """One quality metric of one arm, A against B."""

    key: str
    metric: Metric                                 # one of its values: label, unit, direction
    before: Interval                               # of A, over the seeds that both have, or all where they share none
    after: Interval
    difference: Interval                           # B - A in the metric's unit; n = seeds in common
    paired: bool
    p: float                                       # NaN where there is nothing to test
    adjusted_p: float = math.nan                   # Holm
    verdict: Verdict = "cannot tell"
    note: str = ""


@dataclass(frozen=True)
class ArmChange:
    """What moved in one arm."""

    arm: str
    headline: Change | None                        # None where no run of either set has a value
    others: list[Change]
    exact: dict[str, dict[str, list[float]]]       # counted costs that changed -> set -> its values
    ratios: dict[str, dict[str, Any]]              # measured costs -> a metric of B, and the ratio B / A
    lost: list[str]                                # what A has and B lost: runs that fail, headlines undefined
    notes: list[str]                               # seeds of one side only, runs that now work

    @property
    def worse(self) -> list[str]:
        """Every regression, in words."""
        found = [f"{change.metric.label} worse" for change in (self.headline, *self.others)
                 if change is not None and change.verdict == "worse"]
        found += [f"{key} higher" for key, its in self.exact.items() if max(its["b"]) > max(its["a"])]
        return [f"{self.arm}: {words}" for words in (*found, *self.lost)]


@dataclass
class ArmPair:
    """One arm before it is compared: its latest run of each seed in either set."""

    label: str
    outcome: str = ""                              # metric key, of a study; "" = the first metric of its runs
    a: dict[Seed, Run] = field(default_factory=dict)
    b: dict[Seed, Run] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        return self.outcome or next((key for runs in (self.a, self.b) for run in runs.values()
                                     for key in run.record.metrics), "")

    @cached_property
    def repeated(self) -> set[Seed]:
        """Seeds whose runs are of the same code, spec and data."""
        return {seed for seed in self.a.keys() & self.b.keys()
                if self.a[seed].record.run_id == self.b[seed].record.run_id}

    @cached_property
    def same_runs(self) -> set[Seed]:
        """Those of them whose run is the very same in both sets."""
        return {seed for seed in self.repeated
                if self.a[seed].record.model_dump_json() == self.b[seed].record.model_dump_json()}

    def measured(self, kind: Literal["metrics", "cost"]) -> tuple[Measured, Measured]:
        """Values of the runs that finished, in A and in B."""
        found = defaultdict(dict), defaultdict(dict)
        for side, runs in zip(found, (self.a, self.b), strict=True):
            for seed, run in runs.items():
                if run.record.status == "ok":
                    for key, metric in getattr(run.record, kind).items():
                        side[key][seed] = metric
        return found

    def changes(self) -> dict[str, Change]:
        """Every quality metric that both have, classes apart, not tested yet.

        Raises InputError where a metric was measured in different ways.
        """
        (a, b), found = self.measured("metrics"), {}
        for key in a:
            if key in b and "/" not in key:
                require_one_protocol({f"{side}, seed {seed[0]}": metric for side, its in (("A", a), ("B", b))
                                      for seed, metric in its[key].items()})
                before, after = ({seed: metric.value for seed, metric in its[key].items()} for its in (a, b))
                found[key] = _change(key, next(iter(b[key].values())), before, after, self.same_runs)
        return found

    def exact_costs(self) -> dict[str, dict[str, list[float]]]:
        """Counted costs whose values are not the same in both."""
        found = {}
        for key in EXACT:
            old, new = (sorted({run.record.cost[key].value for run in runs.values() if key in run.record.cost})
                        for runs in (self.a, self.b))
            if old and new and old != new:
                found[key] = {"a": old, "b": new}
        return found

    def cost_ratios(self) -> dict[str, dict[str, Any]]:
        """Measured costs as B / A: the geometric mean over seeds with its t interval. Two sessions: no verdict."""
        (a, b), found = self.measured("cost"), {}
        for key in [key for key in a if key not in (*EXACT, *DERIVED)]:
            its = [{seed: metric for seed, metric in side[key].items()
                    if seed not in self.same_runs and metric.value > 0} for side in (a, b)]
            if not all(its) or len({metric.fingerprint for side in its for metric in side.values()}) > 1:
                continue                           # of another batch or precision: no ratio of like with like
            old, new = ({seed: math.log(metric.value) for seed, metric in side.items()} for side in its)
            shared = sorted(old.keys() & new.keys())
            logs = (difference_interval([new[seed] - old[seed] for seed in shared], method="t") if shared
                    else _unpaired(old, new)[0])
            found[key] = {"metric": next(iter(its[1].values())), "ratio": replace(
                logs, mean=math.exp(logs.mean), low=math.exp(logs.low), high=math.exp(logs.high))}
        return found

    def runs_moved(self) -> tuple[list[str], list[str]]:
        """(what was lost, what else differs between the runs), a line each."""
        lost, notes, key = [], [], self.headline
        for seed in sorted(self.a.keys() & self.b.keys()):
            old, new = self.a[seed].record, self.b[seed].record
            if old.status == "ok" != new.status:
                lost.append(f"seed {seed[0]} was ok, now {new.status}: {new.error or 'no reason recorded'}")
            elif old.status != new.status:
                notes.append(f"seed {seed[0]} was {old.status}, now {new.status}")
            elif _defined(old, key) and not _defined(new, key):
                lost.append(f"seed {seed[0]}: {key} is undefined now")
        if again := self.repeated - self.same_runs:
            notes.append(f"{_seeds(len(again))} ran twice from the same code, spec and data")
        for side, only in (("A", self.a.keys() - self.b.keys()), ("B", self.b.keys() - self.a.keys())):
            if only:
                words = ", ".join(str(seed[0]) for seed in sorted(only))
                notes.append(f"only in {side}: seed{'s' * (len(only) > 1)} {words}")
        new = [(seed[0], self.b[seed].record) for seed in sorted(self.b.keys() - self.a.keys())]
        notes += [f"seed {seed}, only in B, {record.status}: {record.error}" for seed, record in new
                  if record.status != "ok"]
        return lost, notes


def _seeds(n: int) -> str:
    return f"{n} seed{'s' * (n != 1)}"


def _defined(record: Record, key: str) -> bool:
    return key in record.metrics and math.isfinite(record.metrics[key].value)


def _change(key: str, metric: Metric, before: dict[Seed, float], after: dict[Seed, float], same: set) -> Change:
    shared = before.keys() & after.keys()
    if not shared:
        difference, p = _unpaired(before, after)
        return Change(key, metric, mean_interval(before.values()), mean_interval(after.values()), difference, False, p)
    old, new = (mean_interval(values[seed] for seed in sorted(shared)) for values in (before, after))
    moved = shared - same                          # a run that is in both sets says nothing of what changed
    found = compare_paired(*({seed: values[seed] for seed in moved} for values in (before, after)))
    n = found.interval.n
    if not moved or (n and not found.pairs.values.any() and not found.pairs.undefined):
        return Change(key, metric, old, new, Interval(0.0, 0.0, 0.0, n or len(shared)), True, math.nan,
                      verdict="equal" if moved else "same run")
    return Change(key, metric, old, new, found.interval, True, found.test.p,
                  note=f"{len(shared & same)} more are the same runs" if shared & same else "")


def _unpaired(before: dict[Seed, float], after: dict[Seed, float]) -> tuple[Interval, float]:
    """B - A of seeds that have nothing in common, and its p. Source: Welch, Biometrika 34:28-35, 1947."""
    old, new = (np.array([value for value in its.values() if math.isfinite(value)]) for its in (before, after))
    if not len(old) or not len(new):
        return Interval(math.nan, math.nan, math.nan, 0), math.nan
    mean, n = float(new.mean() - old.mean()), min(len(old), len(new))
    if n < 2 or (np.ptp(old) == 0 and np.ptp(new) == 0):
        return Interval(mean, math.nan, math.nan, n, method=NONE), math.nan
    test = stats.ttest_ind(new, old, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Interval(mean, float(low), float(high), n, method=WELCH), float(test.pvalue)


def with_verdicts(changes: Mapping[Hashable, Change], min_effect: float = 0.0) -> dict[Hashable, Change]:
    """The verdict on each of a family of changes, after Holm's correction over those that could be tested."""
    adjusted = holm(change.p for change in changes.values())
    tests = sum(not math.isnan(change.p) for change in changes.values())
    return {name: change if change.verdict in ("equal", "same run") else _decided(change, float(p), tests, min_effect)
            for (name, change), p in zip(changes.items(), adjusted, strict=True)}


def _decided(change: Change, p: float, tests: int, min_effect: float) -> Change:
    found, needed = change.difference, smallest_n(ALPHA, comparisons=max(tests, 1))
    why, inside, verdict = "", "", "cannot tell"
    if p <= ALPHA and abs(found.mean) >= min_effect:
        sign = {"higher": 1, "lower": -1, "none": 0}[change.metric.direction]
        verdict = "changed" if not sign else "better" if sign * found.mean > 0 else "worse"
    elif change.paired and found.n < needed:
        why = f"{_seeds(found.n)}; {needed} needed" + (f" for {tests} tests" if tests > 1 else "")
    elif math.isnan(p):
        why = "no value" if not found.n else "one seed" if found.n < 2 else "no spread to measure by"
    elif min_effect and (p <= ALPHA or (found.exists and max(abs(found.low), abs(found.high)) < min_effect)):
        verdict, inside = "within", f"moved by less than {min_effect:g}"
    else:
        verdict = "not beyond noise"
    welch = ""
    if not change.paired and found.exists:
        welch = f"Welch; the two intervals {'overlap' if change.before.overlaps(change.after) else 'do not overlap'}"
    return replace(change, adjusted_p=p, verdict=verdict,
                   note="; ".join(filter(None, [why, change.note, inside, welch])))
