"""Efficiency runs -> figures: cost against resolution, memory by its parts, FLOP/s under the roofline. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from harness.analysis.scaling import QUANTITIES, Condition, Curve, Scaling, metric_of, side_of
from harness.formatting import scale, short
from harness.record import Metric
from harness.reporting.label_placement import place_labels, spread
from harness.reporting.plots import INK, Plot, Style, new_figure
from harness.reporting.study_plots import write_figure
from harness.spec import digest

# weights in three blues, what grows with the image in orange
PARTS = {"memory_parameters_bytes": ("parameters", "#2f5d8a"), "memory_gradients_bytes": ("gradients", "#6f9bc6"),
         "memory_optimizer_bytes": ("optimiser", "#b4cde4"), "memory_activations_bytes": ("activations", "#d98a3d")}
PEAKS = {"memory_bytes": ("measured peak", {"marker": "|", "ms": 13, "mew": 2.2}),
         "memory_predicted_bytes": ("predicted peak", {"marker": "o", "ms": 6, "mew": 1.2})}
GUIDES = (1, 2)                                    # exponents of the dotted lines
MOST = 8                                           # conditions with figures; of more, the first


def draw_scaling(folder: Path, scaling: Scaling, styles: Mapping[str, Style]) -> list[tuple[Condition, list[Plot]]]:
    """Write the figures of the first ``MOST`` conditions into ``folder``."""
    return [(condition, write_scaling_plots(folder, slug(condition), condition, styles))
            for condition in scaling.conditions[:MOST]]


def slug(condition: Condition) -> str:
    """Name the files of a condition's figures, unlike any other's."""
    return f"scaling-{digest([condition.title, condition.device])[:8]}"


def write_scaling_plots(folder: Path, slug: str, condition: Condition, styles: dict[str, Style]) -> list[Plot]:
    """Write ``SLUG-growth.png``, ``-memory.png`` and ``-roofline.png``; those without numbers are left out."""
    draws = {"growth": growth, "memory": memory_parts, "roofline": roofline}
    return [plot for kind, draw in draws.items()
            for plot in write_figure(folder, slug, kind, lambda draw=draw: draw(condition, styles))]


def growth(condition: Condition, styles: dict[str, Style]) -> tuple[Figure, str] | None:
    """A panel per cost: against the side of the image, a line per network, both axes logarithmic."""
    shown = [(key, metric) for key in QUANTITIES if (metric := condition.metric(key)) is not None]
    if len({side for curve in condition.curves for side in curve.finished}) < 2 or not shown:
        return None
    across = min(2, len(shown))
    down = math.ceil(len(shown) / across)
    figure = new_figure(4.6 * across, 3.2 * down)
    for i, (key, metric) in enumerate(shown):
        axes = figure.add_subplot(down, across, i + 1)
        _growth_panel(axes, condition, key, metric, styles)
    lost = " A cross at the top: a run of that size did not finish." if condition.lost else ""
    return figure, (f"Cost against the side of the image, {condition.title}; both axes are logarithmic. Dotted: growth "
                    f"in proportion to the number of pixels, and with its square.{lost}")


def _growth_panel(axes: Axes, condition: Condition, key: str, metric: Metric, styles: dict[str, Style]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    lines = {curve: points for curve in condition.curves if (points := curve.points(key))}
    sides = condition.sides
    low = min(min(points.values()) for points in lines.values())
    high = max(max(points.values()) for points in lines.values())
    axes.set_xlim(sides[0] / 1.12, sides[-1] * 1.12)
    axes.set_ylim(low / 1.6, high * 2.2)
    _guides(axes, sides, min((min(points), min(points.values())) for points in lines.values()))
    ends, early, reach = [], [], max(max(points) for points in lines.values())
    for curve, points in lines.items():
        style, last = styles[curve.label], max(points)
        axes.plot([*points], [*points.values()], color=style.colour, marker=style.marker, ms=4, mec="none", lw=1.4)
        if last == reach:
            ends.append((last, points[last], short(curve.label, 18), style.colour))
        else:                                      # a thin line to the margin would look like measurements
            early.append((last, points[last], short(curve.label, 18)))
    _crosses(axes, condition, styles)
    axes.xaxis.set_major_locator(FixedLocator(sides))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda side, _: f"{side:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    _cost_ticks(axes, metric.unit, high / low)
    axes.set_xlabel("side of the image (px)")
    axes.set_ylabel(metric.label + (f" ({metric.unit})" if scale(1, metric.unit)[1] != metric.unit or
                                    metric.unit == "ms" else ""))
    axes.grid(alpha=0.15, color=INK, lw=0.6)
    spread(axes, ends, INK)
    place_labels(axes, early)


def _crosses(axes: Axes, condition: Condition, styles: dict[str, Style]) -> None:
    """What did not finish, below the upper edge, one above the other, each with its name."""
    at: dict[int, list[str]] = {}
    for label, side, _ in condition.lost:
        at.setdefault(side, []).extend([label] if label not in at.get(side, ()) else [])
    for side, labels in at.items():
        for i, label in enumerate(labels):
            height = 0.965 - 0.05 * i
            axes.plot(side, height, "x", color=styles[label].colour, ms=5, mew=1.5, clip_on=False,
                      transform=axes.get_xaxis_transform())
            axes.annotate(short(label, 18), (side, height), (-6, 0), xycoords=axes.get_xaxis_transform(), ha="right",
                          va="center", textcoords="offset points", fontsize=7)


def _guides(axes: Axes, sides: Sequence[int], start: tuple[int, float]) -> None:
    """Dotted lines of exponents 1 and 2 from the cheapest network's first point, cut at the panel's edge."""
    (first, cost), top = start, axes.get_ylim()[1]
    for exponent in GUIDES:
        end = min(sides[-1] * 1.12, first * (top / cost) ** (1 / (2 * exponent)))
        axes.plot([first, end], [cost, cost * (end / first) ** (2 * exponent)], ":", color=INK, lw=0.9, alpha=0.55,
                  zorder=1)


def _cost_ticks(axes: Axes, unit: str, span: float) -> None:
    def tick(value, _):
        factor, shown = scale(value, unit)
        return f"{value * factor:g} {shown}".strip() if shown != unit or unit != "ms" else f"{value:g}"

    if unit == "B":                                # powers of 2 are round numbers of KiB and MiB
        axes.yaxis.set_major_locator(LogLocator(base=4 if span < 300 else 16))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1,) if span > 100 else (1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def memory_parts(condition: Condition, styles: dict[str, Style]) -> tuple[Figure, str] | None:
    """A stacked bar per network at the largest size that any finished, the measured and the predicted peak on it."""
    side = max((side for curve in condition.curves for side in curve.finished), default=0)
    held = {curve: _parts(curve, side) for curve in condition.curves}
    if not any(held.values()):
        return None
    curves = sorted(condition.curves, key=lambda curve: curve.points("memory_bytes").get(side, math.inf))
    largest = max(max(sum(parts.values()), curve.points("memory_bytes").get(side, 0),
                      curve.points("memory_predicted_bytes").get(side, 0)) for curve, parts in held.items())
    factor, unit = scale(largest, "B")
    figure = new_figure(9, 1.15 + 0.3 * len(curves))
    axes = figure.add_subplot()
    for y, curve in enumerate(curves):
        left = 0.0
        for key, value in held[curve].items():
            axes.barh(y, factor * value, left=left, height=0.66, color=PARTS[key][1], ec="none")
            left += factor * value
        for key, (_, mark) in PEAKS.items():
            if side in curve.points(key):
                axes.plot(factor * curve.points(key)[side], y, mec=INK, mfc="none", **mark)
        if not held[curve]:
            status = next((run.record.status for run in curve.lost if side_of(run.record) == side), "not run")
            axes.text(0.005 * factor * largest, y, status, va="center", fontsize=8)
    for label, colour in PARTS.values():
        axes.barh(0, 0, color=colour, label=label)
    for key, (label, mark) in PEAKS.items():
        if any(side in curve.points(key) for curve in curves):
            axes.plot([], [], ls="", mec=INK, mfc="none", label=label, **mark)
    _legend(figure, *axes.get_legend_handles_labels())
    axes.set_xlim(0, 1.04 * factor * largest)
    axes.set_ylim(len(curves) - 0.45, -0.55)
    axes.set_yticks(range(len(curves)), [short(curve.label) for curve in curves])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(f"memory of a training step ({unit})")
    axes.grid(axis="x", alpha=0.15, color=INK, lw=0.6)
    return figure, (f"Memory of a training step at {side} px, {condition.title}. Each part is at its own largest: "
                    "activations at the end of the forward pass, gradients at the end of the backward pass. These "
                    "are not held at once, and operators need room of their own: the peak is no sum of the parts.")


def _legend(figure: Figure, handles: list, names: list[str]) -> None:
    figure.legend(handles, names, loc="outside upper center", ncols=7, frameon=False, fontsize=8, columnspacing=1.2,
                  handlelength=1.2, handletextpad=0.5)


def _parts(curve: Curve, side: int) -> dict[str, float]:
    found = {key: curve.points(key).get(side) for key in PARTS}
    return {key: value for key, value in found.items() if value}


def roofline(condition: Condition, styles: dict[str, Style]) -> tuple[Figure, str] | None:
    """FLOP/s attained against arithmetic intensity under what the machine can do, forward and training."""
    panels = {name: key for name, key in (("Forward pass", "forward"), ("Training step", "step"))
              if condition.metric(f"{key}_flops_per_s") is not None}
    roofs = {roof for curve in condition.curves for runs in curve.finished.values() for run in runs
             for key in panels.values() if (roof := _roof(metric_of(run.record, f"roofline_share_{key}")))}
    if not panels or condition.metric("intensity") is None:
        return None
    figure = new_figure(4.6 * len(panels), 3.5)
    for i, (name, key) in enumerate(panels.items()):
        _roof_panel(figure.add_subplot(1, len(panels), i + 1), condition, key, name, roofs, styles)
    names = {curve.label: Line2D([], [], ls="", marker=styles[curve.label].marker, mec="none", ms=6,
                                 color=styles[curve.label].colour) for curve in condition.curves if curve.finished}
    _legend(figure, [*names.values()], [short(name, 18) for name in names])
    line = ("The line: what the machine can do at best, by its measured bandwidth and rate of matrix products." if roofs
            else "The machine's own limits were not measured.")
    return figure, (f"FLOP/s against FLOPs per byte moved, {condition.title}; larger markers are larger images. {line} "
                    "Every operand counts as if it came from main memory, so that what a cache holds may lift a point "
                    "above the line; a training step counts as 3 forward passes.")


def _roof(metric: Metric | None) -> tuple[float, float] | None:
    """(FLOP/s, B/s) as the protocol of a share states them."""
    found = re.fullmatch(r"([\d.e+]+) GFLOP/s, ([\d.e+]+) GB/s", str(metric and metric.protocol.get("roofline", "")))
    return (1e9 * float(found[1]), 1e9 * float(found[2])) if found else None


def _roof_panel(axes: Axes, condition: Condition, key: str, name: str, roofs: set, styles: dict[str, Style]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    lines = {}
    for curve in condition.curves:
        intensity, rate = curve.points("intensity"), curve.points(f"{key}_flops_per_s")
        sides = [side for side in rate if side in intensity]
        if sides:
            lines[curve] = [(intensity[side], rate[side], side) for side in sides]
    xs, ys = zip(*((x, y) for points in lines.values() for x, y, _ in points), strict=True)
    # the bend of the line says which side a network is on: shown, unless it is far away
    near = [ridge for peak, bandwidth in roofs if min(xs) / 30 < (ridge := peak / bandwidth) < 30 * max(xs)]
    left, right = min([*xs, *near]) / 1.7, max([*xs, *near]) * 1.7
    top = max([*ys, *(min(peak, right * bandwidth) for peak, bandwidth in roofs)])
    axes.set_xlim(left, right)
    axes.set_ylim(min(ys) / 2, top * 1.6)
    for peak, bandwidth in roofs:
        at = sorted([left, right, *([peak / bandwidth] if left < peak / bandwidth < right else [])])
        axes.plot(at, [min(peak, x * bandwidth) for x in at], color=INK, lw=1.3, alpha=0.85)
    all_sides = sorted({side for points in lines.values() for *_, side in points})
    for curve, points in lines.items():
        style = styles[curve.label]
        axes.plot([x for x, *_ in points], [y for _, y, _ in points], color=style.colour, lw=1, alpha=0.6)
        for x, y, side in points:
            axes.plot(x, y, style.marker, color=style.colour, mec="none",
                      ms=3.5 + 4 * all_sides.index(side) / max(1, len(all_sides) - 1))
    for axis, unit in ((axes.xaxis, ""), (axes.yaxis, "FLOP")):
        axis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: _rate(value, unit)))
        axis.set_minor_formatter(NullFormatter())
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 100 else (1,)))
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("intensity (FLOP/B)")
    axes.set_ylabel(f"{name} (FLOP/s)")
    axes.grid(alpha=0.15, color=INK, lw=0.6)


def _rate(value: float, unit: str) -> str:
    factor, shown = scale(value, unit) if unit else (1.0, "")
    return f"{value * factor:g} {shown.removesuffix(unit)}".strip()
