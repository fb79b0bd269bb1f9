"""One arm in two sets of results -> what moved in it, and how sure that is. No torch import.

:mod:`harness.analysis.result_sets` finds the arms that two sets share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from harness.analysis.comparison import require_one_protocol
from harness.record import Metric
from harness.run_files import Run
from harness.stats.hypothesis_tests import holm
from harness.stats.intervals import LEVEL, NONE, Interval, mean_interval
from harness.stats.paired import compare_paired, difference_interval
from harness.stats.power import ALPHA, smallest_n

EXACT = ("parameters", "macs")                     # counted: the same network gives the same number
DERIVED = ("flops",)                               # follow from those
WELCH = "Welch t, no seed in common"

Verdict = Literal["better", "worse", "changed", "not beyond noise", "within", "cannot tell", "equal", "same run"]
SeedRuns = Mapping[tuple, Run]                     # (init, data, sampling) -> the latest run


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
    exact: dict[str, tuple[list[float], list[float]]]       # counted costs that changed: their values in A and B
    ratios: dict[str, tuple[Metric, Interval]]     # measured costs: B / A
    lost: list[str]                                # what A has and B lost: runs that fail, headlines undefined
    notes: list[str]                               # seeds of one side only, runs that now work

    @property
    def worse(self) -> list[str]:
        """Every regression, in words."""
        found = [f"{change.metric.label} worse" for change in (self.headline, *self.others)
                 if change is not None and change.verdict == "worse"]
        found += [f"{key} higher" for key, (old, new) in self.exact.items() if max(new) > max(old)]
        return [f"{self.arm}: {words}" for words in (*found, *self.lost)]


def ok(runs: SeedRuns) -> dict[tuple, Run]:
    return {seed: run for seed, run in runs.items() if run.record.status == "ok"}


def twins(a: SeedRuns, b: SeedRuns) -> set[tuple]:
    """Seeds whose run is the very same in both sets."""
    return {seed for seed in a.keys() & b.keys() if a[seed].record.run_id == b[seed].record.run_id
            and a[seed].record.model_dump_json() == b[seed].record.model_dump_json()}


def changes_of(a: SeedRuns, b: SeedRuns) -> dict[str, Change]:
    """Every quality metric that both have, classes apart, not tested yet.

    Raises InputError where a metric was measured in different ways.
    """
    a, b = ok(a), ok(b)
    runs = (*a.values(), *b.values())
    keys = dict.fromkeys(key for run in runs for key in run.record.metrics if "/" not in key)
    found = {}
    for key in keys:
        before, after = ({seed: run.record.metrics[key] for seed, run in runs.items() if key in run.record.metrics}
                         for runs in (a, b))
        if before and after:
            require_one_protocol({f"{side}, seed {seed[0]}": metric for side, its in (("A", before), ("B", after))
                                  for seed, metric in its.items()})
            found[key] = _change(key, next(iter(after.values())), {seed: m.value for seed, m in before.items()},
                                 {seed: m.value for seed, m in after.items()}, twins(a, b))
    return found


def _change(key: str, metric: Metric, before: dict, after: dict, same: set) -> Change:
    shared = before.keys() & after.keys()
    if not shared:
        return Change(key, metric, mean_interval(before.values()), mean_interval(after.values()),
                      *_unpaired(before, after))
    intervals = [mean_interval(values[seed] for seed in sorted(shared)) for values in (before, after)]
    moved = shared - same                          # a run that is in both sets says nothing of what changed
    found = compare_paired({seed: before[seed] for seed in moved}, {seed: after[seed] for seed in moved})
    values, n = found.pairs.values, found.interval.n
    if not moved or (n and not values.any() and not found.pairs.undefined):
        n = n or len(shared)
        return Change(key, metric, *intervals, Interval(0.0, 0.0, 0.0, n), True, math.nan,
                      verdict="equal" if moved else "same run")
    return Change(key, metric, *intervals, found.interval, True, found.test.p,
                  note=f"{len(shared & same)} more are the same runs" if shared & same else "")


def _unpaired(before: dict, after: dict) -> tuple[Interval, bool, float]:
    """B - A of seeds that have nothing in common. Source: Welch, Biometrika 34:28-35, 1947."""
    old, new = (np.array([value for value in its.values() if math.isfinite(value)]) for its in (before, after))
    if not len(old) or not len(new):
        return Interval(math.nan, math.nan, math.nan, 0), False, math.nan
    mean, n = float(new.mean() - old.mean()), min(len(old), len(new))
    if n < 2 or (np.ptp(old) == 0 and np.ptp(new) == 0):
        return Interval(mean, math.nan, math.nan, n, method=NONE), False, math.nan
    test = stats.ttest_ind(new, old, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Interval(mean, float(low), float(high), n, method=WELCH), False, float(test.pvalue)


def with_verdicts(changes: Sequence[Change], min_effect: float = 0.0) -> list[Change]:
    """The verdict on each of a family of changes, after Holm's correction over those that could be tested."""
    adjusted = holm(change.p for change in changes)
    tests = sum(not math.isnan(change.p) for change in changes)
    return [change if change.verdict in ("equal", "same run") else _judged(change, float(p), tests, min_effect)
            for change, p in zip(changes, adjusted, strict=True)]


def _judged(change: Change, p: float, tests: int, min_effect: float) -> Change:
    found, needed = change.difference, smallest_n(ALPHA, comparisons=max(tests, 1))
    note = [change.note] if change.note else []
    if p <= ALPHA and abs(found.mean) >= min_effect:
        up = {"higher": "better", "lower": "worse", "none": "changed"}[change.metric.direction]
        down = {"higher": "worse", "lower": "better", "none": "changed"}[change.metric.direction]
        verdict = up if found.mean > 0 else down
    elif change.paired and found.n < needed:
        verdict = "cannot tell"
        note.insert(0, f"{found.n} seed{'s' * (found.n != 1)}; {needed} needed"
                       + (f" for {tests} tests" if tests > 1 else ""))
    elif math.isnan(p):
        verdict = "cannot tell"
        note.insert(0, "no value" if not found.n else "one seed" if found.n < 2 else "no spread to measure by")
    else:
        inside = min_effect and found.exists and max(abs(found.low), abs(found.high)) < min_effect
        small = min_effect and p <= ALPHA
        verdict = "within" if inside or small else "not beyond noise"
        note += [f"moved by less than {min_effect:g}"] if inside or small else []
    if not change.paired and found.exists:
        overlap = change.before.overlaps(change.after)
        note.append(f"Welch; the two intervals {'overlap' if overlap else 'do not overlap'}")
    return replace(change, adjusted_p=p, verdict=verdict, note="; ".join(note))


def exact_costs(a: SeedRuns, b: SeedRuns) -> dict[str, tuple[list[float], list[float]]]:
    """Counted costs whose values are not the same in both."""
    found = {}
    for key in EXACT:
        old, new = (sorted({run.record.cost[key].value for run in runs.values() if key in run.record.cost})
                    for runs in (a, b))
        if old and new and old != new:
            found[key] = old, new
    return found


def cost_ratios(a: SeedRuns, b: SeedRuns) -> dict[str, tuple[Metric, Interval]]:
    """Measured costs as B / A: the geometric mean over seeds with its t interval. Two sessions: no verdict."""
    a, b, same = ok(a), ok(b), twins(ok(a), ok(b))
    keys = dict.fromkeys(key for runs in (a, b) for run in runs.values() for key in run.record.cost)
    found = {}
    for key in keys:
        sides = [{seed: run.record.cost[key] for seed, run in runs.items() if key in run.record.cost
                  and seed not in same and run.record.cost[key].value > 0} for runs in (a, b)]
        if key in (*EXACT, *DERIVED) or not all(sides):
            continue
        if len({metric.fingerprint for side in sides for metric in side.values()}) > 1:
            continue                               # another batch or precision: not a ratio of like with like
        old, new = ({seed: math.log(metric.value) for seed, metric in side.items()} for side in sides)
        shared = old.keys() & new.keys()
        interval = (difference_interval([new[seed] - old[seed] for seed in sorted(shared)], method="t") if shared
                    else _unpaired(old, new)[0])
        found[key] = next(iter(sides[1].values())), replace(
            interval, mean=math.exp(interval.mean), low=math.exp(interval.low), high=math.exp(interval.high))
    return found


def runs_moved(a: SeedRuns, b: SeedRuns, headline: str) -> tuple[list[str], list[str]]:
    """(what was lost, what else differs between the runs), a line each."""
    lost, notes = [], []
    for seed in sorted(a.keys() & b.keys()):
        old, new = a[seed].record, b[seed].record
        if old.status == "ok" != new.status:
            lost.append(f"seed {seed[0]} was ok, now {new.status}: {new.error or 'no reason recorded'}")
        elif old.status != "ok" == new.status:
            notes.append(f"seed {seed[0]} was {old.status}, now ok")
        elif old.status != new.status:
            notes.append(f"seed {seed[0]} was {old.status}, now {new.status}")
        elif _defined(old, headline) and not _defined(new, headline):
            lost.append(f"seed {seed[0]}: {headline} is undefined now")
    again = [seed for seed in a.keys() & b.keys() - twins(a, b) if a[seed].record.run_id == b[seed].record.run_id]
    if again:
        notes.append(f"{len(again)} seed{'s' * (len(again) > 1)} ran twice from the same code, spec and data")
    for side, only in (("A", a.keys() - b.keys()), ("B", b.keys() - a.keys())):
        if only:
            words = ", ".join(str(seed[0]) for seed in sorted(only))
            notes.append(f"only in {side}: seed{'s' * (len(only) > 1)} {words}")
    bad = [seed for seed in sorted(b.keys() - a.keys()) if b[seed].record.status != "ok"]
    notes += [f"seed {seed[0]}, only in B, {b[seed].record.status}: {b[seed].record.error}" for seed in bad]
    return lost, notes


def _defined(record, key: str) -> bool:
    return key in record.metrics and math.isfinite(record.metrics[key].value)
