"""Test case by test case: where an arm gains and where it loses against the base. No torch import."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from harness.analysis.comparison import Group
from harness.analysis.comparison_tables import ARROWS
from harness.analysis.table import Cell, Heading, Table
from harness.formatting import DASH, decimals_of, fixed, number
from harness.run_files import read_rows
from harness.stats.hypothesis_tests import holm
from harness.stats.paired import PairedComparison, compare_paired

MOST_ARMS = 8
OVER_CASES = ("Intervals (bootstrap) and p (sign flips, Holm over the arms) are over test cases, paired: they hold for "
              "these predictions on other cases, and say nothing of how far another seed would land.")
MOST_RUNS = 128                                    # whose cases.csv are read for one comparison


@dataclass(frozen=True)
class Cases:
    """The headline of each test case, mean over the classes it has and over seeds; the first arm is the base."""

    label: str
    direction: str
    values: dict[str, pd.Series]                   # arm -> case -> value
    seeds: dict[str, int]                          # arm -> how many


def read_cases(group: Group, base: str | None = None) -> Cases | None:
    """Cases of the arms of ``group`` against the arm ``base`` (its first); None where there is nothing to compare.

    Reports of very many runs have none: reading a file per run would take minutes.
    """
    column = group.headline
    if column is None or column.metric.direction == "none" or sum(len(arm.runs) for arm in group.arms) > MOST_RUNS:
        return None
    arms = sorted(group.arms, key=lambda arm: arm.label != (base or group.arms[0].label))[:MOST_ARMS]
    classes, found, seeds = column.metric.protocol.get("classes"), {}, {}
    for arm in arms:
        tables = [cases for run in arm.finished if (cases := _of_run(group, run, column.key, classes)) is not None]
        if tables:
            found[arm.label] = pd.concat(tables, axis=1).mean(axis=1)
            seeds[arm.label] = len(tables)
    if len(found) < 2 or arms[0].label not in found:
        return None
    return Cases(column.label, column.metric.direction, found, seeds)


def _of_run(group: Group, run, key: str, classes: list | None) -> pd.Series | None:
    """Case -> mean over its classes; None where the run has no such cases."""
    rows = read_rows(run, "cases.csv", group.problems)
    if rows is None:
        return None
    if classes is not None:
        rows = rows[rows["class"].astype(str).isin([str(name) for name in classes])]
    for name in (key, key.removesuffix("_macro")):
        found = rows[rows["metric"] == name]
        if len(found):
            return found.groupby("case")["value"].mean()
    return None


def cases_table(cases: Cases) -> Table:
    """One row per arm: its hardest and its best case, and where it gains and loses most against the base."""
    base = next(iter(cases.values))
    sign = 1 if cases.direction == "higher" else -1
    # with several seeds the test is over these, in another table
    over_cases = set(cases.seeds.values()) == {1}
    tested = (Heading("mean", "difference"), Heading("95 % interval"), Heading("p", "Holm")) if over_cases else ()
    headings = (Heading("arm", words=True), *tested,
                Heading("cases better", f"than {base}"), Heading("median", "difference"),
                Heading("most lost", "difference"), Heading("in", words=True), Heading("most gained", "difference"),
                Heading("in", words=True), Heading("hardest", cases.label + ARROWS[cases.direction], edge=True),
                Heading("in", words=True), Heading("easiest", cases.label), Heading("in", words=True))
    rows = []
    decimals = _decimals(cases)
    by_case = {name: values.to_dict() for name, values in cases.values.items()} if over_cases else {}
    paired = {name: compare_paired(by_case[base], values, direction=cases.direction, method="bootstrap")
              for name, values in by_case.items() if name != base}
    adjusted = dict(zip(paired, holm([found.test.p for found in paired.values()]), strict=True))
    for name, values in cases.values.items():
        gaps = (sign * (values - cases.values[base])).dropna()
        own = (sign * values).dropna()
        ends = [_end(own, 0, sign, decimals, False), _end(own, -1, sign, decimals, False)]
        if name == base:
            against = [Cell("–", math.nan)] * 4
            first = [*[Cell("–", math.nan)] * len(tested), Cell("base", math.nan), Cell("–", math.nan)]
        else:
            first = [*(_paired_cells(paired[name], adjusted[name], decimals) if over_cases else ()),
                     Cell(f"{int((gaps > 0).sum())} of {len(gaps)}", float((gaps > 0).mean())),
                     Cell(fixed(float(gaps.median()), decimals, sign=True), float(gaps.median()))]
            against = [*_end(gaps, 0, 1, decimals, True), *_end(gaps, -1, 1, decimals, True)]
        rows.append((Cell(name), *first, *against, *ends[0], *ends[1]))
    counts = set(cases.seeds.values())
    over = f"{counts.pop()}" if len(counts) == 1 else f"{min(counts)}–{max(counts)}"
    notes = (f"A case's value: mean over the classes it has and over {over} seed{'s' * (over != '1')}. Positive "
             "differences are better. With many cases the extremes are partly luck.",
             *([OVER_CASES] if over_cases else []))
    return Table("Case by case", headings, tuple(rows), notes)


def _paired_cells(found: PairedComparison, p: float, decimals: int) -> list[Cell]:
    """The mean difference over cases, its interval, and p."""
    interval = found.interval
    low, high = (fixed(end, decimals, sign=True) for end in (interval.low, interval.high))
    return [Cell(fixed(interval.mean, decimals, sign=True), interval.mean),
            Cell(f"[{low}, {high}]" if interval.exists else DASH, math.nan), Cell(number(p), p)]


def _decimals(cases: Cases) -> int:
    spread = pd.concat(cases.values.values()).std()
    return decimals_of(float(pd.concat(cases.values.values()).abs().max()), float(spread) / 10)


def _end(values: pd.Series, at: int, sign: int, decimals: int, signed: bool) -> list[Cell]:
    """The value and the name of the least (0) or greatest (-1) case."""
    if not len(values):
        return [Cell("–", math.nan), Cell("–")]
    ordered = values.sort_values(kind="stable")
    value = sign * float(ordered.iloc[at])
    return [Cell(fixed(value, decimals, sign=signed), value), Cell(str(ordered.index[at]))]
