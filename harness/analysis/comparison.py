"""Records -> comparisons: groups, their arms, columns that may be compared, means with intervals.

A *group* is one comparison: runs that differ only in variant, options and seeds, on the same data.
An *arm* is one variant with one set of options. A *column* is one number under one protocol: the same
metric measured in two ways is two columns. No torch import.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePath
from typing import Any

from harness.errors import InputError
from harness.formatting import listed
from harness.record import Metric, Record
from harness.run_files import Run, case_table, read_rows
from harness.spec import Seeds, canonical_json, digest
from harness.stats.intervals import Interval, bootstrap_interval, mean_interval

CASES_READ = 200                                   # test cases of more runs would take a report a minute


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

    @cached_property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if run.record.status == "ok"]

    @cached_property
    def _measured(self) -> dict[Column, list[Metric]]:
        return {}

    def metrics(self, column: Column) -> list[Metric]:
        """This column's number of each finished run that measured it, in order of seed."""
        if column not in self._measured:           # tables and plots ask for the same again and again
            found = map(column.of, self.finished)
            self._measured[column] = [metric for metric in found if metric is not None]
        return self._measured[column]

    def values(self, column: Column) -> list[float]:
        """This column's value of each finished run that measured it."""
        return [metric.value for metric in self.metrics(column)]


@dataclass
class Group:
    """One comparison. ``intervals`` holds, per arm label and column, the mean and its interval."""

    id: str
    title: str
    arms: list[Arm]                                # best headline first; those without one last
    columns: list[Column]
    intervals: dict[tuple[str, Column], Interval]
    problems: list[str]                            # files of its runs that could not be read
    notes: list[str] = field(default_factory=list)  # what is not shown of it, and why

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
        unassigned_runs = family.pop("", []) if len(family) > 1 else []
        for i, found in enumerate(family.values()):
            members.append(found + unassigned_runs if i == 0 else found)
    titles = _titles([found[0].record for found in members])
    groups = [_group(found, title) for found, title in zip(members, titles, strict=True)]
    alone = {group.id: [arm for arm in group.arms if len(arm.finished) == 1
                        and arm.finished[0].has("cases.csv")] for group in groups}
    share = len(runs) if sum(map(len, alone.values())) <= CASES_READ else CASES_READ // len(groups)
    for group in groups:
        _over_cases(group, alone[group.id][:share], len(alone[group.id]))
    return groups


def _group(runs: list[Run], title: str) -> Group:
    by_arm: dict[str, list[Run]] = defaultdict(list)
    labels = arm_labels(runs)
    for run in runs:
        by_arm[labels[network_of(run)]].append(run)
    arms = []
    for label, found in by_arm.items():
        latest = {}                                # two runs of one seed are not two seeds: the later one counts
        for run in sorted(found, key=lambda run: run.record.started):
            latest[run.record.spec.seeds] = run
        kept = sorted(latest.values(), key=lambda run: tuple(run.record.spec.seeds.model_dump().values()))
        counted = {id(run) for run in kept}
        arms.append(Arm(label, kept, [run for run in found if id(run) not in counted]))
    columns = _columns([run for arm in arms for run in arm.finished])
    first = runs[0].record
    group = Group(digest([first.spec.group_id(), first.data.get("fingerprint", "")])[:8], title, arms, columns,
                  {(arm.label, column): mean_interval(arm.values(column)) for arm in arms for column in columns}, [])
    _rank(group)
    return group


def code_versions(records: Iterable[Record]) -> dict[str, set[str]]:
    """Variant -> fingerprints of the code of its runs, where they have several; each network has one of its own."""
    found: dict[str, set[str]] = defaultdict(set)
    for record in records:
        found[record.spec.variant].add(record.code)
    return {variant: codes for variant, codes in found.items() if len(codes) > 1}


def with_figures(groups: Sequence[Group], most: int = 12) -> set[str]:
    """Ids of the comparisons that get figures: of more than ``most``, the largest. The others say so in a note."""
    drawn = {group.id for group in sorted(groups, key=lambda group: -len(group.runs))[:most]}
    for group in groups:
        if group.id not in drawn:
            group.notes.append(f"No figures: of {len(groups)} comparisons the {most} with most runs have them.")
    return drawn


def _rank(group: Group) -> None:
    if group.headline is not None:
        sign = -1 if group.headline.metric.direction == "higher" else 1
        means = {arm.label: group.intervals[arm.label, group.headline].mean for arm in group.arms}
        group.arms.sort(key=lambda arm: (math.isnan(means[arm.label]), sign * means[arm.label], arm.label))


def _over_cases(group: Group, arms: Sequence[Arm], of: int) -> None:
    """Give these arms, the best ``of`` those with one seed, intervals over test cases where these reproduce a value."""
    for arm in arms:
        cases = read_rows(arm.finished[0], "cases.csv", group.problems)
        for column in group.select("metrics") if cases is not None else ():
            table = case_table(cases, column.key, column.metric.protocol.get("classes"))
            if table is not None and arm.values(column):
                interval = bootstrap_interval(table)
                # a value pooled in another way than the mean of its cases has no interval from them
                if math.isclose(interval.mean, arm.values(column)[0], rel_tol=1e-5):
                    group.intervals[arm.label, column] = interval
    if len(arms) < of:
        which = f"the best {len(arms)}" if arms else "none"
        group.notes.append(f"Of {of} arms with one seed, {which} got intervals over test cases: a report reads the "
                           f"cases of at most {CASES_READ} runs.")
    _rank(group)


def network_of(run: Run) -> tuple[str, str]:
    """The variant and its options: what makes an arm."""
    return run.record.spec.variant, canonical_json(run.record.spec.options)


def arm_labels(runs: list[Run]) -> dict[tuple[str, str], str]:
    """The variant's name; where one ran with several sets of options, also those in which they differ."""
    found: dict[str, dict[str, dict]] = defaultdict(dict)
    for run in runs:
        variant, options = network_of(run)
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


def require_one_protocol(metrics: Mapping[str, Metric], allowed: Collection[str] = ()) -> None:
    """Refuse to set numbers beside each other that were measured in different ways.

    ``metrics`` holds one value per arm or set of runs, by its name. ``allowed`` names entries of the protocol
    that may differ, such as those a study varies on purpose; a name covers what is nested under it.

    Raises
    ------
    InputError
        Saying the metric, what differs, and which arms have which.
    """
    def fixed(metric: Metric) -> dict[str, Any]:
        entries = {"label": metric.label, "unit": metric.unit, **dict(_flatten(metric.protocol))}
        return {key: value for key, value in entries.items()
                if not any(key == name or key.startswith(f"{name}.") for name in allowed)}

    ways: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for name, metric in metrics.items():
        entries = fixed(metric)
        ways.setdefault(canonical_json(entries), (entries, []))[1].append(name)
    if len(ways) > 1:
        notes = differences([entries for entries, _ in ways.values()])
        told = "; ".join(f"{note} ({listed(names, 4)})"
                         for note, (_, names) in zip(notes, ways.values(), strict=True))
        label = next(iter(metrics.values())).label
        raise InputError(f"{label} was measured in {len(ways)} ways, which cannot stand in one table: {told}")


def _flatten(value: Any, prefix: str = ""):
    if isinstance(value, dict) and (value or not prefix):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _titles(firsts: list[Record]) -> list[str]:
    """ "Generation on digits", with what differs where two groups would read the same."""
    same: dict[str, list[int]] = defaultdict(list)
    for i, record in enumerate(firsts):
        same[f"{record.spec.suite.capitalize()} on {data_name(record)}"].append(i)
    titles = [""] * len(firsts)
    for title, places in same.items():
        identities = [{**firsts[i].spec.model_copy(update={"variant": "", "options": {}, "seeds": Seeds()}).complete(),
                       "data content": firsts[i].data.get("fingerprint")} for i in places]
        for i, note in zip(places, differences(identities), strict=True):
            titles[i] = f"{title} ({note})" if note else title
    return titles


def data_name(record: Record) -> str:
    """The data set's name; for anyone's own folder, the folder's."""
    data = record.spec.data
    return PurePath(data.root).name if data.name == "folder" and data.root else data.name
