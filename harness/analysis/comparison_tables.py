"""A comparison -> its tables: summary, every metric, by class, cost, runs that did not finish. No torch import."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from harness import suites
from harness.analysis.comparison import Arm, Column, Group, code_versions
from harness.analysis.table import Cell, Heading, Table
from harness.data_notes import notes as data_notes
from harness.formatting import DASH, SCALED, format_cost, format_interval, format_value, listed
from harness.measurement.processor import ENOUGH
from harness.stats.intervals import CASES, SEEDS

ARROWS = {"higher": "\N{NO-BREAK SPACE}↑", "lower": "\N{NO-BREAK SPACE}↓", "none": ""}
DETAIL = ("flops", "step_ms")                      # follow from MACs and throughput: full cost table and CSV only
QUALITY = "Quality on the test data"               # what metrics are where their suite does not say
NAMED = 24                                         # arms in one note


def make_table(group: Group, columns: Sequence[Column], title: str, name: Callable[[Column], str] | None = None,
               colours: Mapping[str, str] | None = None) -> Table:
    """Make a row per arm, best headline first, and what real data score at the foot.

    ``name`` overrides a column's label; ``colours`` are those of the arms.
    """
    kinds = [column.kind for column in columns]
    headings = [Heading("variant", words=True), Heading("runs"),
                *(_heading(group, column, name(column) if name else column.label, edge=kinds[:i][-1:] == ["metrics"]
                           and column.kind == "cost") for i, column in enumerate(columns))]
    best = {column: _best(group, column) for column in columns}
    rows = tuple((Cell(arm.label, colour=(colours or {}).get(arm.label, "")), Cell(_run_count(arm), len(arm.finished)),
                  *(_cell(group, arm, column, best[column]) for column in columns)) for arm in group.arms)
    real_scores = [_range([score for metric in _metrics(group, column)
                           if (score := metric.real_data_reference) is not None]) for column in columns]
    foot = ((Cell("real data"), Cell(""), *(Cell(text or DASH) for text in real_scores)),) if any(real_scores) else ()
    return Table(title, tuple(headings), rows, foot=foot)


def prefixed(column: Column) -> bool:
    """Whether the prefix of its unit follows a value's size. A pure number's does only where it is a cost."""
    return column.metric.unit in SCALED and (column.metric.unit != "" or column.kind == "cost")


def of_suite(group: Group, constant: str) -> Any:
    """What the comparison's suite says about itself; None where it is silent, or is not here."""
    return _suite_constant(group.runs[0].record.spec.suite, constant) if group.runs else None


@lru_cache(maxsize=256)
def _suite_constant(suite: str, constant: str) -> Any:
    return suites.registry.constant(suite, constant) if suite in suites.registry.names() else None


def caption_of(group: Group) -> str:
    return of_suite(group, "CAPTION") or QUALITY


def summarised(group: Group) -> list[Column]:
    """The metrics that the first table and the figures show: all, or those that the suite names in ``SUMMARY``."""
    chosen = of_suite(group, "SUMMARY")
    return [column for column in group.select("metrics") if chosen is None or column.key in chosen]


def summary_table(group: Group, colours: Mapping[str, str] | None = None) -> Table:
    """Make the comparison's first table: quality, then cost; notes say how to read it."""
    costs = [column for column in group.select("cost") if column.key not in DETAIL]
    columns = summarised(group) + costs
    return replace(make_table(group, columns, group.title, colours=colours), notes=tuple(_notes(group, columns)))


def metrics_table(group: Group, colours: Mapping[str, str] | None = None) -> Table | None:
    """Make the table of all metrics, where :func:`summary_table` leaves some out."""
    columns = group.select("metrics")
    return make_table(group, columns, "All measurements", colours=colours) if columns != summarised(group) else None


def cost_table(group: Group, colours: Mapping[str, str] | None = None) -> Table | None:
    """Make the table of every cost; None where none was measured."""
    columns = group.select("cost")
    return make_table(group, columns, "Cost", colours=colours) if columns else None


def per_class_tables(group: Group, colours: Mapping[str, str] | None = None) -> list[Table]:
    """Make one table for each metric that is known by class: arms down, classes across."""
    by_stem: dict[tuple[str, str], list[Column]] = {}
    for column in group.select("metrics", per_class=True):
        by_stem.setdefault((column.key.partition("/")[0], column.mark), []).append(column)
    tables = []
    for (stem, mark), columns in by_stem.items():
        name = columns[0].metric.label.replace(columns[0].key.partition("/")[2], "").strip(" ,:;-/()")
        tables.append(make_table(group, columns, f"{name or stem} by class {mark}".strip(),
                                 name=lambda column: column.key.partition("/")[2], colours=colours))
    return tables


def failures(group: Group) -> Table | None:
    """Make the table of the runs that did not finish; None where all did."""
    rows = [(Cell(arm.label), Cell(str(run.record.spec.seeds.init), run.record.spec.seeds.init),
             Cell(run.record.status, tone="bad"), Cell(" ".join((run.record.error or "no reason recorded").split())))
            for arm in group.arms for run in arm.runs if run.record.status != "ok"]
    headings = (Heading("variant", words=True), Heading("seed"), Heading("status", words=True),
                Heading("reason", words=True))
    return Table("Runs that did not finish", headings, tuple(rows)) if rows else None


def _metrics(group: Group, column: Column):
    return [metric for arm in group.arms for metric in arm.metrics(column)]


def _heading(group: Group, column: Column, label: str, *, edge: bool) -> Heading:
    metric = column.metric
    unit = "" if not metric.unit or prefixed(column) else f" ({metric.unit})"
    counts = _range([m.n for m in _metrics(group, column)], str)
    return Heading(f"{label}{unit}{ARROWS[metric.direction]}", f"n = {counts}" if column.kind == "metrics" else "",
                   edge=edge)


def _range(values: Sequence[float], show: Callable[[float], str] = format_value) -> str:
    if not values:
        return ""
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low}{DASH}{high}"


def _run_count(arm: Arm) -> str:
    done, all_runs = len(arm.finished), len(arm.runs)
    return str(done) if done == all_runs else f"{done}/{all_runs}"


def _best(group: Group, column: Column) -> float | None:
    means = [group.intervals[arm.label, column].mean for arm in group.arms]
    means = [mean for mean in means if math.isfinite(mean)]
    if column.kind != "metrics" or column.metric.direction == "none" or len(means) < 2:
        return None
    return max(means) if column.metric.direction == "higher" else min(means)


def _cell(group: Group, arm: Arm, column: Column, best: float | None) -> Cell:
    interval = group.intervals[arm.label, column]
    if interval.n == 0:
        return Cell(DASH, math.nan)
    over_cases, exact = interval.method == CASES, column.kind == "cost" and interval.low == interval.high
    in_cost = column.kind == "cost" or prefixed(column)
    text = format_cost(interval, column.metric.unit) if in_cost else format_interval(interval)
    n = "" if exact else f"({interval.n} cases)" if over_cases else f"({interval.n})"
    usual = exact or over_cases or interval.n == len(arm.finished)
    return Cell(text if usual else f"{text} {n}", interval.mean, strong=interval.mean == best)


def _notes(group: Group, columns: Sequence[Column]) -> list[str]:
    shown = {column: [group.intervals[arm.label, column] for arm in group.arms] for column in columns}
    methods = {interval.method for intervals in shown.values() for interval in intervals if interval.n}
    quality = [interval for column in summarised(group) for interval in shown[column] if interval.n]
    notes = []
    if SEEDS in methods:
        notes.append("a ± b: mean and half-width of the 95 % Student-t interval over seeds; n is the number of "
                     "finished runs, or stands behind in brackets.")
    if CASES in methods:
        notes.append("a [b, c]: one seed; 95 % bootstrap interval over its test cases. It says nothing of how far "
                     "another seed would land.")
    if any(not interval.exists for interval in quality):
        notes.append("A value without ± or brackets comes from one seed and has no interval.")
    if any(_best(group, column) is not None for column in columns):
        notes.append("Bold: best mean of the column. Where intervals overlap, bold does not mean better.")
    if any(metric.real_data_reference is not None for column in columns for metric in _metrics(group, column)):
        notes.append("real data: what held-out real data scores under the same protocol.")
    for column in columns:
        if column.note:
            notes.append(f"{column.label}: {column.note}.")
        lost = [f"{arm.label} {missing}" for arm in group.arms if (missing := _undefined(arm, column))]
        each = {(m.undefined, m.n, math.isnan(m.value)) for m in _metrics(group, column)}
        if lost and len(each) == 1 and not math.isnan(_metrics(group, column)[0].value):
            undefined, n, _ = each.pop()
            lost = [f"{undefined} of {n} in every run"]
        if lost:
            more = [f"{len(lost) - NAMED} more arms"] if len(lost) > NAMED else []
            notes.append(f"{column.label}: undefined values left out and counted: {', '.join(lost[:NAMED] + more)}.")
    busy = [f"{column.label} of {arm.label} {min(shares):.2f}" for column in columns for arm in group.arms
            if (shares := [share for metric in arm.metrics(column)
                           if (share := metric.processor_share) is not None and share < ENOUGH])]
    if busy:
        more = [f"{len(busy) - NAMED} more"] if len(busy) > NAMED else []
        notes.append("Timed while the machine was busy, with this share of the processor time asked for: "
                     f"{', '.join(busy[:NAMED] + more)}. Do not compare these.")
    if len(summarised(group)) < len(group.select("metrics")):
        notes.append("More measurements: in the report under each comparison, and in table.csv.")
    notes += dict.fromkeys(note for run in group.runs for note in data_notes(run.record.data))
    notes += group.notes
    older = sum(len(arm.superseded) for arm in group.arms)
    if older:
        notes.append(f"{older} older run{'s' * (older > 1)} of a seed that ran again later "
                     f"{'are' if older > 1 else 'is'} in table.csv and not counted here.")
    changed = code_versions(run.record for run in group.runs)
    if changed:
        notes.append(f"Runs of {listed([*changed])} were made by different versions of the code (column code of "
                     "table.csv).")
    return notes


def _undefined(arm: Arm, column: Column) -> str:
    """ "3 of 60" (cases, or cases and classes) or "1 of 3 seeds"; "" where all is defined."""
    found = arm.metrics(column)
    seeds, cases = sum(math.isnan(m.value) for m in found), sum(m.undefined for m in found)
    if seeds:
        return f"{seeds} of {len(found)} seeds"
    return f"{cases} of {sum(m.n for m in found)}" if cases else ""
