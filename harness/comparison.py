"""Records -> comparisons: groups, their arms, columns that may be compared, means with intervals.

A *group* is one comparison: runs that differ only in variant, options and seeds, on the same data.
An *arm* is one variant with one set of options. A *column* is one number under one protocol: the same
metric measured in two ways is two columns. No torch import.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from harness.record import Metric, Record
from harness.spec import Seeds, canonical_json, digest
from harness.stats.intervals import Interval, bootstrap_interval, mean_interval


@dataclass(frozen=True)
class Run:
    """A record and the folder it was read from (where its curves, cases and pictures lie)."""

    record: Record
    folder: Path


@dataclass(frozen=True)
class Column:
    """One number under one protocol. ``note`` says what differs where a metric has several protocols."""

    kind: str                                      # "metrics" (quality) or "cost"
    key: str
    fingerprint: str
    metric: Metric = field(compare=False)          # one of its values; for label, unit, direction, protocol
    mark: str = ""                                 # "[a]", "[b]" ... where the metric has several columns
    note: str = ""

    @property
    def label(self) -> str:
        return f"{self.metric.label} {self.mark}".strip()

    @property
    def per_class(self) -> bool:
        return "/" in self.key

    def of(self, run: Run) -> Metric | None:
        found = getattr(run.record, self.kind).get(self.key)
        return found if found is not None and found.fingerprint == self.fingerprint else None


@dataclass(frozen=True)
class Arm:
    """One variant with one set of options: one run per seed."""

    label: str
    runs: list[Run] = field(compare=False)         # the latest run of each seed, in order of seed
    superseded: list[Run] = field(compare=False)   # older runs of the same seeds (code or data changed)

    @property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.record.status == "ok"]

    def values(self, column: Column) -> list[float]:
        """This column's value of each finished run that measured it."""
        found = (column.of(run) for run in self.finished)
        return [metric.value for metric in found if metric is not None]


@dataclass
class Group:
    """One comparison. ``intervals`` holds, per arm label and column, the mean and its interval."""

    id: str
    title: str
    arms: list[Arm]                                # best headline first; those without one last
    columns: list[Column]
    intervals: dict[tuple[str, Column], Interval]
    problems: list[str]                            # files of its runs that could not be read

    @property
    def runs(self) -> list[Run]:
        return [run for arm in self.arms for run in arm.runs]

    @property
    def slug(self) -> str:
        """A file name for its plots, unlike any other comparison's."""
        record = self.runs[0].record
        name = re.sub(r"[^A-Za-z0-9_.]+", "-", f"{record.spec.suite}-{data_name(record)}").strip("-.")
        return f"{name}-{self.id}"

    @property
    def headline(self) -> Column | None:
        return next((column for column in self.columns if column.kind == "metrics"), None)

    def select(self, kind: str, *, per_class: bool = False) -> list[Column]:
        return [column for column in self.columns if column.kind == kind and column.per_class == per_class]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Runs -> comparisons, in order of their first run.

    Runs share a group where their specs share ``group_id`` and their data has the same content. A run that
    ended before its data was read goes with the first group of its spec.
    """
    families: dict[str, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        families[run.record.spec.group_id()][run.record.data.get("fingerprint", "")].append(run)
    members = []
    for family in families.values():
        homeless = family.pop("", []) if len(family) > 1 else []
        for i, found in enumerate(family.values()):
            members.append(found + homeless if i == 0 else found)
    titles = _titles([found[0].record for found in members])
    return [_group(found, title) for found, title in zip(members, titles, strict=True)]


def _group(runs: list[Run], title: str) -> Group:
    by_arm: dict[str, list[Run]] = defaultdict(list)
    labels = _labels(runs)
    for run in runs:
        by_arm[labels[_arm_key(run)]].append(run)
    arms = []
    for label, found in by_arm.items():
        latest = {}                                # two runs of one seed are not two seeds: the later one counts
        for run in sorted(found, key=lambda run: run.record.started):
            latest[run.record.spec.seeds] = run
        kept = sorted(latest.values(), key=lambda run: tuple(run.record.spec.seeds.model_dump().values()))
        arms.append(Arm(label, kept, [run for run in found if not any(run is other for other in kept)]))
    columns = _columns([run for arm in arms for run in arm.finished])
    intervals, problems = {}, []
    for arm in arms:
        cases = read_rows(arm.finished[0], "cases.csv", problems) if len(arm.finished) == 1 else None
        for column in columns:
            intervals[arm.label, column] = _interval(arm, column, cases)
    first = runs[0].record
    group = Group(digest([first.spec.group_id(), first.data.get("fingerprint", "")])[:8], title, arms, columns,
                  intervals, problems)
    if group.headline is not None:
        sign = -1 if group.headline.metric.direction == "higher" else 1
        means = {arm.label: intervals[arm.label, group.headline].mean for arm in arms}
        arms.sort(key=lambda arm: (math.isnan(means[arm.label]), sign * means[arm.label], arm.label))
    return group


def _interval(arm: Arm, column: Column, cases: pd.DataFrame | None) -> Interval:
    """Over seeds; where there is one seed and its test cases reproduce the value, over those."""
    values = arm.values(column)
    if cases is not None and column.kind == "metrics" and not column.per_class and len(values) == 1:
        table = case_table(cases, column.key, column.metric.protocol.get("classes"))
        if table is not None:
            interval = bootstrap_interval(table)
            # a value pooled in another way than the mean of its cases has no interval from them
            if math.isclose(interval.mean, values[0], rel_tol=1e-5):
                return interval
    return mean_interval(values)


def case_table(cases: pd.DataFrame, key: str, classes: Sequence[str] | None = None) -> np.ndarray | None:
    """(cases, classes) of the metric ``key``, or for ``x_macro`` of ``x`` by class; None where there is none.

    ``classes`` are those that the metric averages over; None = all.
    """
    cases = cases.assign(**{"class": cases["class"].astype(str)})
    if classes is not None:
        cases = cases[cases["class"].isin([str(name) for name in classes])]
    for name in (key, key.removesuffix("_macro")):
        found = cases[cases["metric"] == name]
        if len(found):
            return found.pivot_table(index="case", columns="class", values="value", dropna=False).to_numpy(float)
    return None


def read_rows(run: Run, name: str, problems: list[str]) -> pd.DataFrame | None:
    """A run's ``curves.csv`` or ``cases.csv``; None where there is none, or where it is bad (then named)."""
    expected = {"curves.csv": ["step", "name", "value"], "cases.csv": ["case", "metric", "class", "value"]}
    path = run.folder / name
    if not path.exists():
        return None
    try:
        rows = pd.read_csv(path, usecols=expected[name])
        return rows.assign(value=pd.to_numeric(rows["value"]))
    except (OSError, ValueError) as error:         # pandas' parser errors are ValueErrors
        problems.append(f"unreadable {path.parent.name}/{name}: {str(error).splitlines()[0]}")
        return None


def _arm_key(run: Run) -> tuple[str, str]:
    return run.record.spec.variant, canonical_json(run.record.spec.options)


def _labels(runs: list[Run]) -> dict[tuple[str, str], str]:
    """The variant's name; where one ran with several sets of options, also those in which they differ."""
    found: dict[str, dict[str, dict]] = defaultdict(dict)
    for run in runs:
        variant, options = _arm_key(run)
        found[variant][options] = run.record.spec.options
    return {(variant, key): f"{variant} ({note})" if note else variant
            for variant, options in found.items()
            for key, note in zip(options, differences(list(options.values())), strict=True)}


def _columns(runs: list[Run]) -> list[Column]:
    found: dict[tuple[str, str], dict[str, Metric]] = {}
    for kind in ("metrics", "cost"):
        for run in runs:
            for key, metric in getattr(run.record, kind).items():
                found.setdefault((kind, key), {}).setdefault(metric.fingerprint, metric)
    columns = []
    for (kind, key), metrics in found.items():
        notes = differences([{"label": m.label, "unit": m.unit, **m.protocol} for m in metrics.values()])
        for i, ((fingerprint, metric), note) in enumerate(zip(metrics.items(), notes, strict=True)):
            several = len(metrics) > 1
            columns.append(Column(kind, key, fingerprint, metric, f"[{_letter(i)}]" if several else "",
                                  note if several else ""))
    return columns


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else str(i + 1)


def differences(protocols: Sequence[dict[str, Any]]) -> list[str]:
    """For each mapping, the (dotted) entries in which it differs from any other: "samples = 500"."""
    flat = [dict(_flatten(protocol)) for protocol in protocols]
    keys = [key for key in dict.fromkeys(key for entries in flat for key in entries)
            if len({canonical_json(entries.get(key)) for entries in flat}) > 1]
    return [", ".join(f"{key} = {entries.get(key, 'none')}" for key in keys) for entries in flat]


def _flatten(value: Any, prefix: str = ""):
    if isinstance(value, dict) and (value or not prefix):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _titles(firsts: list[Record]) -> list[str]:
    """ "Generation on digits", with what differs where two groups would read the same."""
    plain = [f"{record.spec.suite.capitalize()} on {data_name(record)}" for record in firsts]
    titles = []
    for record, title in zip(firsts, plain, strict=True):
        same = [other for other, its in zip(firsts, plain, strict=True) if its == title]
        identities = [{**other.spec.model_copy(update={"variant": "", "options": {}, "seeds": Seeds()}).identity(),
                       "data content": other.data.get("fingerprint")} for other in same]
        note = differences(identities)[next(i for i, other in enumerate(same) if other is record)]
        titles.append(f"{title} ({note})" if note else title)
    return titles


def data_name(record: Record) -> str:
    """The data set's name; for anyone's own folder, the folder's."""
    data = record.spec.data
    return PurePath(data.root).name if data.name == "folder" and data.root else data.name
