"""Test case by test case: where an arm gains and where it loses against the base. No torch import."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.analysis.comparison import Group
from harness.analysis.run_files import read_rows
from harness.reporting.grid import Entry, Grid, Heading, fixed
from harness.reporting.plots import INK, Style, new_figure
from harness.reporting.table_view import ARROWS, decimals_of

MOST_ARMS = 8
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


def cases_grid(cases: Cases) -> Grid:
    """One row per arm: its hardest and its best case, and where it gains and loses most against the base."""
    base = next(iter(cases.values))
    sign = 1 if cases.direction == "higher" else -1
    headings = (Heading("arm", words=True), Heading("cases better", f"than {base}"), Heading("median", "difference"),
                Heading("most lost", "difference"), Heading("in", words=True), Heading("most gained", "difference"),
                Heading("in", words=True), Heading("hardest", cases.label + ARROWS[cases.direction], edge=True),
                Heading("in", words=True), Heading("easiest", cases.label), Heading("in", words=True))
    rows = []
    decimals = _decimals(cases)
    for name, values in cases.values.items():
        gaps = (sign * (values - cases.values[base])).dropna()
        own = (sign * values).dropna()
        ends = [_end(own, 0, sign, decimals, False), _end(own, -1, sign, decimals, False)]
        if name == base:
            against = [Entry("–", math.nan)] * 4
            first = [Entry("base", math.nan), Entry("–", math.nan)]
        else:
            first = [Entry(f"{int((gaps > 0).sum())} of {len(gaps)}", float((gaps > 0).mean())),
                     Entry(fixed(float(gaps.median()), decimals, sign=True), float(gaps.median()))]
            against = [*_end(gaps, 0, 1, decimals, True), *_end(gaps, -1, 1, decimals, True)]
        rows.append((Entry(name), *first, *against, *ends[0], *ends[1]))
    counts = set(cases.seeds.values())
    over = f"{counts.pop()}" if len(counts) == 1 else f"{min(counts)}–{max(counts)}"
    notes = (f"A case's value: mean over the classes it has and over {over} seed{'s' * (over != '1')}. Positive "
             "differences are better. With many cases the extremes are partly luck.",)
    return Grid("Case by case", headings, tuple(rows), notes)


def _decimals(cases: Cases) -> int:
    spread = pd.concat(cases.values.values()).std()
    return decimals_of(float(pd.concat(cases.values.values()).abs().max()), float(spread) / 10)


def _end(values: pd.Series, at: int, sign: int, decimals: int, signed: bool) -> list[Entry]:
    """The value and the name of the least (0) or greatest (-1) case."""
    if not len(values):
        return [Entry("–", math.nan), Entry("–")]
    ordered = values.sort_values(kind="stable")
    value = sign * float(ordered.iloc[at])
    return [Entry(fixed(value, decimals, sign=signed), value), Entry(str(ordered.index[at]))]


def draw_cases(cases: Cases, styles: dict[str, Style]) -> tuple[Figure, str]:
    """A panel per arm: each test case, the base's value across and the arm's up."""
    base, *others = cases.values
    across = min(4, len(others))
    down = math.ceil(len(others) / across)
    figure = new_figure(2.3 * across + 0.6, 2.35 * down + 0.3)
    every = np.concatenate([values.to_numpy() for values in cases.values.values()])
    low, high = np.nanmin(every), np.nanmax(every)
    room = 0.05 * (high - low) or 0.1
    better = "above" if cases.direction == "higher" else "below"
    for i, name in enumerate(others):
        axes = figure.add_subplot(down, across, i + 1)
        pairs = pd.concat([cases.values[base], cases.values[name]], axis=1).dropna().to_numpy()
        axes.plot([low - room, high + room], [low - room, high + room], color=INK, lw=0.8, alpha=0.5)
        axes.scatter(pairs[:, 0], pairs[:, 1], s=9, color=styles[name].colour, lw=0, alpha=0.7)
        axes.set_xlim(low - room, high + room)
        axes.set_ylim(low - room, high + room)
        axes.set_aspect("equal")
        axes.set_title(name if len(name) < 30 else f"{name[:14]}…{name[-14:]}", fontsize=9)
        axes.tick_params(labelsize=7.5)
        axes.locator_params(nbins=4)
    figure.supxlabel(f"{cases.label}, {base}", fontsize=9, color=INK)
    figure.supylabel(f"{cases.label}, arm", fontsize=9, color=INK)
    return figure, (f"Each dot is a test case: {cases.label} of {base} across, of the arm up. The arm is better "
                    f"{better} the line.")
