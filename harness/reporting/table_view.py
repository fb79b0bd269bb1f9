"""What a comparison's tables say: text in cells, made once, so that every writer shows the same.

No torch import. How tables are written is in ``harness/reporting/tables.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from harness import suites
from harness.analysis.comparison import Arm, Column, Group
from harness.measurement.processor import ENOUGH
from harness.stats.intervals import CASES, SEEDS, Interval

ARROWS = {"higher": "\N{NO-BREAK SPACE}↑", "lower": "\N{NO-BREAK SPACE}↓", "none": ""}
DETAIL = ("flops", "step_ms")                      # follow from MACs and throughput: full cost table and CSV only
SCALED = ("", "B", "MAC", "FLOP", "FLOP/s")        # units whose prefix follows their size, in the cell
QUALITY = "Quality on the test data"               # what metrics are where their suite does not say
DASH = "–"
NAMED = 24                                         # arms in one note


@dataclass(frozen=True)
class Cell:
    text: str
    n: str = ""                                    # "(3)": seeds, or cases where there is one seed
    best: bool = False
    usual: bool = True                             # n is what the runs column or the heading says already
    value: float = math.nan                        # what it is sorted by, in full precision

    @property
    def full(self) -> str:
        """The text, followed by n where that is not said elsewhere in the table."""
        return self.text if self.usual else f"{self.text} {self.n}"


@dataclass(frozen=True)
class Header:
    title: str                                     # label, unit and arrow (kept beside its word)
    kind: str                                      # "metrics" or "cost"
    n: str = ""                                    # "n = 1000": samples or test cases of one run's value


@dataclass(frozen=True)
class Row:
    label: str
    runs: str                                      # "3", or "2/3" finished; "" for the floor
    cells: list[Cell]
    floor: bool = False


@dataclass(frozen=True)
class Table:
    title: str
    headers: list[Header]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    failures: list[tuple[str, str, str, str]] = field(default_factory=list)  # arm, seed, status, reason


def scale(value: float, unit: str) -> tuple[float, str]:
    """The factor and unit in which a cost reads best: bytes in KiB ... TiB, counts in k, M, G, T.

    >>> scale(1_234_000, "MAC")
    (1e-06, 'MMAC')
    """
    if unit not in SCALED or not math.isfinite(value):
        return 1.0, unit
    base, prefixes = (1024, ("", "Ki", "Mi", "Gi", "Ti")) if unit == "B" else (1000, ("", "k", "M", "G", "T", "P"))
    power = min(int(math.log(max(abs(value), 1), base) + 1e-9), len(prefixes) - 1)
    return 1.0 / base**power, prefixes[power] + unit


def format_value(value: float, half_width: float = math.nan) -> str:
    """A number for people: as many digits as its interval supports, three significant ones without.

    The half-width keeps two significant digits where its first is 1 or 2, else one (the Particle Data
    Group's rule), and no second one beyond three significant digits of the value. Undefined is a dash.
    """
    if not math.isfinite(value):
        return DASH
    decimals = decimals_of(value, half_width)
    interval = f" ± {half_width:.{decimals}f}" if math.isfinite(half_width) else ""
    return f"{value:.{decimals}f}{interval}"


def decimals_of(value: float, half_width: float) -> int:
    """Decimals that :func:`format_value` gives a number."""
    size = math.floor(math.log10(abs(value))) if value else 0
    decimals = 2 - size
    if half_width > 0:
        first = -math.floor(math.log10(half_width))
        second = first + (half_width < 3 * 10.0**-first)
        decimals = min(max(first, min(second, decimals)), 4 - size)  # seeds that agree need no 17 digits
    return max(0, decimals)


def format_interval(interval: Interval) -> str:
    """``mean ± half-width`` over seeds, ``mean [low, high]`` over cases (not symmetric), or the mean alone."""
    if interval.method == CASES:
        decimals = decimals_of(interval.mean, interval.half_width)
        return f"{interval.mean:.{decimals}f} [{interval.low:.{decimals}f}, {interval.high:.{decimals}f}]"
    return format_value(interval.mean, interval.half_width)


def format_cost(interval: Interval, unit: str) -> str:
    """As ``format_interval``, with the prefix of its size: "34.1 MMAC", "148 ± 3 MiB"."""
    factor, shown_unit = scale(interval.mean, unit)
    exact = interval.low == interval.high          # counted, not measured: the same for every seed
    text = format_value(interval.mean * factor, math.nan if exact else interval.half_width * factor)
    return f"{text} {shown_unit}".strip() if unit in SCALED else text


def make_table(group: Group, columns: Sequence[Column], title: str,
               name: Callable[[Column], str] | None = None) -> Table:
    """One row per arm, best headline first, then the floor; ``name`` overrides a column's label."""
    headers = [_header(group, column, name(column) if name else column.label) for column in columns]
    best = {column: _best(group, column) for column in columns}
    rows = [Row(arm.label, _run_count(arm), [_cell(group, arm, column, best[column]) for column in columns])
            for arm in group.arms]
    floors = [_range([m.floor for m in _metrics(group, column) if m.floor is not None]) for column in columns]
    if any(floors):
        rows.append(Row("real data (floor)", "", [Cell(text or DASH) for text in floors], floor=True))
    return Table(title, headers, rows)


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


def summary_table(group: Group) -> Table:
    """The comparison in one table: quality, then cost; notes say how to read it; failed runs are rows."""
    costs = [column for column in group.select("cost") if column.key not in DETAIL]
    columns = summarised(group) + costs
    table = make_table(group, columns, group.title)
    return Table(table.title, table.headers, table.rows, _notes(group, columns), failures(group))


def metrics_table(group: Group) -> Table:
    """All metrics, where :func:`summary_table` leaves some out; else an empty one."""
    columns = group.select("metrics")
    return make_table(group, columns if columns != summarised(group) else [], "All measurements")


def cost_table(group: Group) -> Table:
    return make_table(group, group.select("cost"), "Cost")


def per_class_tables(group: Group) -> list[Table]:
    """One table for each metric that is known by class: arms down, classes across."""
    by_stem: dict[tuple[str, str], list[Column]] = {}
    for column in group.select("metrics", per_class=True):
        by_stem.setdefault((column.key.partition("/")[0], column.mark), []).append(column)
    tables = []
    for (stem, mark), columns in by_stem.items():
        name = columns[0].metric.label.replace(columns[0].key.partition("/")[2], "").strip(" ,:;-/()")
        tables.append(make_table(group, columns, f"{name or stem} by class {mark}".strip(),
                                 name=lambda column: column.key.partition("/")[2]))
    return tables


def failures(group: Group) -> list[tuple[str, str, str, str]]:
    """(arm, seed, status, reason) of every run that did not finish."""
    return [(arm.label, str(run.record.spec.seeds.init), run.record.status,
             " ".join((run.record.error or "no reason recorded").split()))
            for arm in group.arms for run in arm.runs if run.record.status != "ok"]


def _metrics(group: Group, column: Column):
    return [metric for arm in group.arms for metric in arm.metrics(column)]


def _header(group: Group, column: Column, label: str) -> Header:
    metric = column.metric
    unit = "" if not metric.unit or prefixed(column) else f" ({metric.unit})"
    counts = _range([m.n for m in _metrics(group, column)], str)
    return Header(f"{label}{unit}{ARROWS[metric.direction]}", column.kind,
                  f"n = {counts}" if column.kind == "metrics" else "")


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
        return Cell(DASH)
    over_cases, exact = interval.method == CASES, column.kind == "cost" and interval.low == interval.high
    in_cost = column.kind == "cost" or prefixed(column)
    text = format_cost(interval, column.metric.unit) if in_cost else format_interval(interval)
    n = "" if exact else f"({interval.n} cases)" if over_cases else f"({interval.n})"
    usual = exact or over_cases or interval.n == len(arm.finished)
    return Cell(text, n, interval.mean == best, usual, interval.mean)


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
    if any(metric.floor is not None for column in columns for metric in _metrics(group, column)):
        notes.append("real data (floor): what held-out real data scores under the same protocol.")
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
    notes += group.notes
    older = sum(len(arm.superseded) for arm in group.arms)
    if older:
        notes.append(f"{older} older run{'s' * (older > 1)} of a seed that ran again later "
                     f"{'are' if older > 1 else 'is'} in table.csv and not counted here.")
    if len({run.record.code for run in group.runs}) > 1:
        notes.append("The runs were made by different versions of the code (column code of table.csv).")
    return notes


def _undefined(arm: Arm, column: Column) -> str:
    """ "3 of 60" (cases, or cases and classes) or "1 of 3 seeds"; "" where all is defined."""
    found = arm.metrics(column)
    seeds, cases = sum(math.isnan(m.value) for m in found), sum(m.undefined for m in found)
    if seeds:
        return f"{seeds} of {len(found)} seeds"
    return f"{cases} of {sum(m.n for m in found)}" if cases else ""
