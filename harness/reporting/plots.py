"""Comparisons -> figures: quality against cost, bars with intervals, training curves. No torch import.

Figures are made without pyplot, so nothing global is left behind. One arm has one colour and marker in
every figure of a report. Each figure is a PNG on white and an SVG whose ink follows the page's text colour.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from harness.analysis.comparison import Arm, Column, Group
from harness.analysis.comparison_tables import caption_of, of_suite, prefixed, summarised
from harness.formatting import scale, short
from harness.reporting.caption_words import cut_words, interval_words, real_data_score, real_data_words
from harness.reporting.label_placement import place_labels, spread
from harness.run_files import read_columns

INK = "#1f2329"                                    # replaced by currentColor in the SVG
# Okabe & Ito 2008 (safe for colour blindness) without yellow, which no white page carries; then Tol's wine, olive
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c8c", "#aa3377", "#999933")
MARKERS = "osD^vPX*"
SHOWN = 24                                         # arms in one figure; more cannot be told apart
BINS = 100                                         # points of a drawn curve
BETTER = {"higher": "higher is better →", "lower": "← lower is better", "none": ""}


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str


@dataclass(frozen=True)
class Plot:
    """A written figure: where its PNG lies and the SVG to set into a page."""

    kind: str                                      # "quality_cost", "bars" or "curves"
    caption: str
    path: Path
    svg: str


def arm_styles(groups: Sequence[Group]) -> dict[str, Style]:
    """A colour and a marker for each arm of a report, the same in every figure and independent of rank."""
    labels = sorted({arm.label for group in groups for arm in group.arms})
    return {label: Style(COLOURS[i % len(COLOURS)], MARKERS[(i % len(COLOURS) + i // len(COLOURS)) % len(MARKERS)])
            for i, label in enumerate(labels)}


def write_plots(folder: Path, group: Group, styles: dict[str, Style]) -> list[Plot]:
    """Write this comparison's figures into ``folder``; those its records have nothing for are left out.

    Curves that cannot be read are named in ``group.problems``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    plots = []
    with matplotlib.rc_context({**sns.axes_style("ticks"), **sns.plotting_context("paper"), **figure_settings()}):
        for kind, draw in (("quality_cost", quality_cost), ("bars", bars), ("curves", curves)):
            drawn = draw(group, styles)
            if drawn is None:
                continue
            (figure, caption), path = drawn, folder / f"{group.slug}-{kind}.png"
            figure.savefig(path, dpi=150, facecolor="white")
            figure.set_layout_engine("none")       # the SVG keeps the PNG's layout, which took longest to find
            plots.append(Plot(kind, caption, path, inline_svg(figure, f"{group.slug}-{kind}", caption)))
    return plots


def figure_settings() -> dict:
    """matplotlib's parameters of every figure here."""
    ink = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    # names of variants are data: a "$" in one must not start a formula
    return {**ink, "text.parse_math": False, "svg.hashsalt": "bench", "axes.linewidth": 0.8, "font.size": 9,
            "axes.labelsize": 9, "axes.titlesize": 10, "axes.spines.top": False, "axes.spines.right": False,
            "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "axes.facecolor": "none"}


def new_figure(width: float, height: float) -> Figure:
    """A figure (inches) with its own canvas, known to no window system."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def quality_cost(group: Group, styles: dict[str, Style]) -> tuple[Figure, str] | None:
    """The headline against MACs per forward pass (parameters where MACs are unknown), one point per arm."""
    quality = group.headline
    costs = {column.key: column for column in reversed(group.select("cost"))}
    cost = costs.get("macs", costs.get("parameters"))
    if quality is None or cost is None:
        return None
    found = group.intervals
    points = [(arm, found[arm.label, cost].mean, found[arm.label, quality]) for arm in group.arms]
    points = [(arm, x, y) for arm, x, y in points if x > 0 and math.isfinite(x) and math.isfinite(y.mean)][:SHOWN]
    if not points:
        return None
    figure = new_figure(7, 4.4)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    xs, means = [x for _, x, _ in points], [y.mean for _, _, y in points]
    real_score = real_data_score(group, quality)
    _quality_limits(axes, quality, means + ([] if real_score is None else [real_score]))
    axes.set_xlim(min(xs) / 1.35, max(xs) * 1.35)
    for arm, x, y in points:
        style = styles[arm.label]
        if y.exists:
            reach = [[y.mean - y.low], [y.high - y.mean]]
            axes.errorbar(x, y.mean, yerr=reach, color=style.colour, capsize=3, lw=1.3)
        axes.plot(x, y.mean, style.marker, color=style.colour, ms=7, mec="none")
    if real_score is not None:
        axes.axhline(real_score, color=INK, lw=1, ls="--", alpha=0.7)
        axes.annotate("real data", (1, real_score), (-2, 3), xycoords=("axes fraction", "data"), ha="right",
                      textcoords="offset points", fontsize=8, alpha=0.8)
    _cost_axis(axes, cost)
    axes.set_ylabel(axis_label(quality) + (" · log" if axes.get_yscale() == "log" else ""))
    axes.grid(alpha=0.15, color=INK, lw=0.6)
    place_labels(axes, [(x, y.mean, short(arm.label)) for arm, x, y in points],
                 [(x, y.low, y.high) for _, x, y in points if y.exists])
    words = interval_words({y.method for *_, y in points}) + real_data_words([real_score])
    return figure, f"{quality.label} against {cost.label}. {words}{cut_words(len(points), group)}"


def bars(group: Group, styles: dict[str, Style]) -> tuple[Figure, str] | None:
    """One panel per quality metric: a bar per arm with its interval, and a dot per seed."""
    columns, arms = summarised(group), [arm for arm in group.arms if arm.finished][:SHOWN]
    if not columns or not arms:
        return None
    across = min(3, len(columns))
    down = math.ceil(len(columns) / across)
    figure = new_figure(9, down * (0.95 + 0.26 * len(arms)))
    for i, column in enumerate(columns):
        axes = figure.add_subplot(down, across, i + 1)
        _bar_panel(axes, group, arms, column, styles)
        axes.set_yticks(range(len(arms)), [short(arm.label) for arm in arms] if i % across == 0 else [])
    words = interval_words({group.intervals[arm.label, column].method for arm in arms for column in columns})
    words += real_data_words([real_data_score(group, column) for column in columns])
    return figure, f"{caption_of(group)}. A dot is one seed. {words}{cut_words(len(arms), group)}"


def _bar_panel(axes: Axes, group: Group, arms: list[Arm], column: Column, styles: dict[str, Style]) -> None:
    real_score, unit, factor = real_data_score(group, column), column.metric.unit, 1.0
    if prefixed(column):                           # one prefix for all bars
        means = [group.intervals[arm.label, column].mean for arm in arms]
        factor, unit = scale(max(filter(math.isfinite, means), default=math.nan), unit)
    largest, widest = real_score or 0.0, 0.0
    for y, arm in enumerate(arms):
        interval, values = group.intervals[arm.label, column], [factor * value for value in arm.values(column)]
        low, mean, high = (factor * value for value in (interval.low, interval.mean, interval.high))
        axes.barh(y, mean, height=0.68, fc=styles[arm.label].colour, ec="none", alpha=0.75)
        if interval.exists:
            axes.plot([max(0, low), high], [y, y], color=INK, lw=1.4)
        axes.plot(values, y + np.linspace(-0.2, 0.2, len(values)) * (len(values) > 1), "o", ms=2.8, color=INK,
                  mec="none", alpha=0.55)
        largest = max([largest, *(value for value in values if math.isfinite(value))])
        widest = max(widest, high if interval.exists else 0)
    if real_score is not None:
        axes.axvline(real_score, color=INK, lw=1, ls="--", alpha=0.7)
    # the wide interval of two seeds is cut rather than all bars made short
    axes.set_xlim(0, max(1.06 * largest, min(1.03 * widest, 1.3 * largest)) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_ylim(len(arms) - 0.45, -0.55)
    axes.set_xlabel(axis_label(column, unit))
    axes.grid(axis="x", alpha=0.15, color=INK, lw=0.6)
    axes.tick_params(axis="y", length=0)


def curves(group: Group, styles: dict[str, Style]) -> tuple[Figure, str] | None:
    """One panel per curve name: mean over seeds, band from the lowest to the highest seed. None of timed calls."""
    if of_suite(group, "CURVES") == {}:
        return None
    found: dict[str, list] = {"step": [], "name": [], "value": [], "arm": [], "seed": []}
    arms = [arm for arm in group.arms if arm.finished]
    for arm in arms[:SHOWN]:
        for run in arm.finished:
            columns = read_columns(run, "curves.csv", group.problems)
            if columns is not None:
                for key, cells in columns.items():
                    found[key].extend(cells)
                found["arm"] += [arm.label] * len(columns["value"])
                found["seed"] += [run.record.run_id] * len(columns["value"])
    points = pd.DataFrame(found).replace([np.inf, -np.inf], np.nan).dropna(subset="value")
    if not len(points):
        return None
    names = list(points["name"].unique())
    across = min(2, len(names))
    figure = new_figure(4.6 * across, 3.1 * math.ceil(len(names) / across))
    for i, name in enumerate(names):
        axes = figure.add_subplot(math.ceil(len(names) / across), across, i + 1)
        _curve_panel(axes, points[points["name"] == name], str(name), styles)
    words = f"a curve of more than {BINS} points is averaged over {BINS} stretches of steps."
    return figure, (f"Training curves: mean over seeds, band from the lowest to the highest seed; {words}"
                    f"{cut_words(min(len(arms), SHOWN), group)}")


def _curve_panel(axes: Axes, points: pd.DataFrame, name: str, styles: dict[str, Style]) -> None:
    steps = points["step"].to_numpy()
    if points["step"].nunique() > BINS:
        width = (steps.max() - steps.min()) / BINS
        steps = steps.min() + (np.floor((steps - steps.min()) / width).clip(0, BINS - 1) + 0.5) * width
    by_seed = points.assign(step=steps).groupby(["arm", "seed", "step"], sort=True)["value"].mean()
    summary = by_seed.groupby(["arm", "step"]).agg(["mean", "min", "max"])
    means = summary["mean"]
    if means.min() > 0 and means.max() > 10 * means.min():
        _log_axis(axes)
    ends = []
    for arm, found in summary.groupby(level="arm"):
        at = found.index.get_level_values("step")
        mark = {"marker": styles[arm].marker, "ms": 3.5} if len(at) == 1 else {}
        axes.fill_between(at, found["min"], found["max"], color=styles[arm].colour, alpha=0.18, lw=0)
        axes.plot(at, found["mean"], color=styles[arm].colour, lw=1.4, **mark)
        ends.append((at[-1], found["mean"].iloc[-1], short(arm, 18), styles[arm].colour))
    axes.set_xlabel("step")
    axes.set_ylabel(name + (" · log" if axes.get_yscale() == "log" else ""))
    axes.grid(alpha=0.15, color=INK, lw=0.6)
    spread(axes, ends, INK)


def axis_label(column: Column, unit: str | None = None) -> str:
    """Label, unit, and an arrow along the axis towards the better side. Without ``unit``, the column's own."""
    words = BETTER[column.metric.direction]        # an arrow on the y axis turns with its text
    unit = ("" if prefixed(column) else column.metric.unit) if unit is None else unit
    return f"{column.label}{f' ({unit})' if unit else ''}\n{words}".strip()


def _quality_limits(axes: Axes, column: Column, values: list[float]) -> None:
    low, high = min(values), max(values)
    if column.metric.direction == "lower" and low > 0 and high > 10 * low:
        _log_axis(axes)
        axes.set_ylim(low / 1.5, high * 1.5)
    else:
        room = 0.3 * (high - low) or 0.1 * abs(high) or 1
        axes.set_ylim(low - room, high + room)


def _log_axis(axes: Axes) -> None:
    """Ticks at 1, 2, 5, 10 ... as plain numbers (matplotlib's own are formulas)."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _cost_axis(axes: Axes, column: Column) -> None:
    def tick(value, _):
        factor, unit = scale(value, "")
        return f"{value * factor:g} {unit}".strip()

    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 6, 8)))
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(axis_label(column).replace("\n", " · log · "))


def inline_svg(figure: Figure, ident: str, alt: str) -> str:
    """The figure as an ``<svg>`` element: transparent, ink in currentColor, ids unlike other figures'."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL).replace(INK, "currentColor")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{ident}-", svg)
    size = f"max-width:{figure.get_figwidth() * 98:.0f}px"  # so that letters are the same size in every figure
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt, quote=True)}" style="{size}"', 1).strip()
