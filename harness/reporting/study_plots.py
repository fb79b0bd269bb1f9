"""A part of a study -> its figures: differences to the base with intervals; test cases against the base's. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.analysis.cases import Cases
from harness.analysis.study_parts import StudyPart
from harness.analysis.study_result import PartResult
from harness.formatting import MINUS, bounds, fixed, format_p, shared_decimals, short
from harness.reporting.plots import INK, Plot, Style, figure_settings, inline_svg, new_figure

FAINT = {"undecided": 0.45}                        # what is not decided stands back


def write_forest(folder: Path, part: StudyPart, styles: dict[str, Style], smallest: float | None = None) -> list[Plot]:
    """Write ``SLUG-differences.png`` into ``folder``; none where no arm can be compared.

    ``smallest`` is the smallest difference that matters (a claim's), in the metric's unit; drawn as a band.
    """
    if part.result is None or part.group is None:
        return []
    return write_figure(folder, part.group.slug, "differences", lambda: forest(part.result, styles, smallest))


def write_case_plot(folder: Path, slug: str, cases: Cases, styles: dict[str, Style]) -> list[Plot]:
    """Write ``SLUG-cases.png`` into ``folder``."""
    return write_figure(folder, slug, "cases", lambda: draw_cases(cases, styles))


def write_figure(folder: Path, slug: str, kind: str, draw: Callable[[], tuple[Figure, str] | None]) -> list[Plot]:
    """Write ``SLUG-KIND.png`` of what ``draw`` gives with its caption into ``folder``; nothing where it gives None."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({**sns.axes_style("ticks"), **sns.plotting_context("paper"), **figure_settings()}):
        found = draw()
        if found is None:
            return []
        figure, caption = found
        path = folder / f"{slug}-{kind}.png"
        figure.savefig(path, dpi=150, facecolor="white")
        return [Plot(kind, caption, path, inline_svg(figure, f"{slug}-{kind}", caption))]


def forest(result: PartResult, styles: dict[str, Style], smallest: float | None = None) -> tuple[Figure, str] | None:
    """Difference of each arm to the base with its interval; a dot per seed; a band of what is too small to matter."""
    arms = [arm for arm in result.arms if arm.comparison is not None and math.isfinite(arm.comparison.interval.mean)]
    if not arms:
        return None
    figure = new_figure(9, 0.9 + 0.34 * len(arms))
    axes = figure.add_subplot()
    if smallest:
        axes.axvspan(-smallest, smallest, color=INK, alpha=0.08, lw=0)
    axes.axvline(0, color=INK, lw=1, alpha=0.8)
    reach = [0.0]
    for y, arm in enumerate(arms):
        interval, values = arm.comparison.interval, arm.comparison.pairs.values
        colour = styles[arm.arm.name].colour
        axes.plot(values, y + np.linspace(-0.22, 0.22, len(values)) * (len(values) > 1), "o", ms=2.6, mec="none",
                  color=colour, alpha=0.45, zorder=2)
        if interval.exists:
            axes.plot([interval.low, interval.high], [y, y], color=INK, lw=1.8, solid_capstyle="butt",
                      alpha=FAINT.get(arm.verdict, 1), zorder=3)
        axes.plot(interval.mean, y, styles[arm.arm.name].marker, ms=7, color=colour, mec=INK, mew=0.7, zorder=4)
        reach += [*values, *([interval.low, interval.high] if interval.exists else [])]
    low, high = min(reach), max(reach)
    room = 0.04 * (high - low) or 1
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(arms) - 0.4, -0.6)
    axes.set_yticks(range(len(arms)), [short(arm.arm.name, 30) for arm in arms])
    axes.xaxis.set_major_locator(MaxNLocator(7))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", MINUS)))
    unit = f" ({result.metric.unit})" if result.metric.unit else ""
    base = result.part.base.name
    axes.set_xlabel(f"difference in {result.metric.label}{unit} to {short(base, 30)} · ← worse · better →")
    axes.grid(axis="x", alpha=0.15, color=INK, lw=0.6)
    axes.tick_params(axis="y", length=0)
    decimals = shared_decimals(arm.comparison.interval for arm in arms)
    beside = axes.twinx()                          # its tick labels are the column of numbers at the right
    beside.set_ylim(axes.get_ylim())
    beside.set_yticks(range(len(arms)), [_numbers(arm, decimals) for arm in arms])
    beside.tick_params(axis="y", length=0, labelsize=8.5)
    beside.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["left"].set_visible(False)
    words = "small dots are seeds. At the right: difference, interval, p after Holm."
    if smallest:
        words += f" Grey band: differences below {smallest:.3g}, the smallest that a claim asks for."
    return figure, f"Difference of each arm to {base} with its interval, paired by seed; {words}"


def _numbers(arm, decimals: int) -> str:
    interval = arm.comparison.interval
    return (f"{fixed(interval.mean, decimals, sign=True)}  {bounds(interval, decimals)}  "
            f"p {format_p(arm.adjusted_p)}")


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
        axes.set_title(short(name, 30), fontsize=9)
        axes.tick_params(labelsize=7.5)
        axes.locator_params(nbins=4)
    figure.supxlabel(f"{cases.label}, {base}", fontsize=9, color=INK)
    figure.supylabel(f"{cases.label}, arm", fontsize=9, color=INK)
    return figure, (f"Each dot is a test case: {cases.label} of {base} across, of the arm up. The arm is better "
                    f"{better} the line.")
