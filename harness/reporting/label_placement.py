"""Labels beside points and at the ends of lines that do not cover each other. No torch import."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from scipy.optimize import isotonic_regression

FONT = 8                                           # points
# where a label may lie, nearest first: (horizontal, vertical) in units of the gap, and its alignment
SIDES = (((1, 0), "left", "center"), ((-1, 0), "right", "center"), ((0, 1), "center", "bottom"),
         ((0, -1), "center", "top"), ((.8, .8), "left", "bottom"), ((.8, -.8), "left", "top"),
         ((-.8, .8), "right", "bottom"), ((-.8, -.8), "right", "top"))
ALONG = {"left": 0, "right": 1, "center": .5, "bottom": 0, "top": 1}  # where a text is held, of its width or height


def place_labels(axes: Axes, points: Sequence[tuple[float, float, str]],
                 bars: Sequence[tuple[float, float, float]] = ()) -> None:
    """Write each (x, y, text) beside its point, where it covers least of points, bars and other labels.

    ``bars`` are the error bars, (x, low, high).

    Greedy, in the given order (best first); a label that must lie far away gets a thin line to its point.
    Call it when limits and scales are final.
    """
    figure = axes.figure
    figure.draw_without_rendering()                # the layout decides where pixels are
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    pixels = axes.transData.transform([(x, y) for x, y, _ in points])
    unit = figure.dpi / 72
    taken = [Bbox.from_extents(px - 5 * unit, py - 5 * unit, px + 5 * unit, py + 5 * unit) for px, py in pixels]
    floor = axes.get_ylim()[0]                     # an interval may leave a log axis: it is cut there
    for x, low, high in bars:
        (px, bottom), (_, top) = axes.transData.transform([(x, max(low, floor)), (x, high)])
        taken.append(Bbox.from_extents(px - 3 * unit, bottom, px + 3 * unit, top))
    for (x, y, text), (px, py) in zip(points, pixels, strict=True):
        width, height = _size(axes, text, renderer)
        best = None
        for gap in (8, 16, 28):
            for (dx, dy), ha, va in SIDES:
                left = px + dx * gap * unit - ALONG[ha] * width
                bottom = py + dy * gap * unit - ALONG[va] * height
                box = Bbox.from_bounds(left, bottom, width, height)
                outside = width * height - _shared(box, frame)
                cost = sum(_shared(box, other) for other in taken) + outside + 0.02 * gap
                if best is None or cost < best[0]:
                    best = cost, box, {"xytext": (dx * gap, dy * gap), "ha": ha, "va": va}, gap
            if best[0] < 1:
                break
        _, box, place, gap = best
        # from the text's near edge; matplotlib's own way of cutting a line at its text takes milliseconds each
        line = {"arrowstyle": "-", "lw": 0.5, "alpha": 0.6, "color": rcParams["text.color"], "patchA": None,
                "shrinkA": 1, "relpos": (ALONG[place["ha"]], ALONG[place["va"]])} if gap > 8 else None
        axes.annotate(text, (x, y), textcoords="offset points", fontsize=FONT, arrowprops=line, **place)
        taken.append(box)


def _size(axes: Axes, text: str, renderer) -> tuple[float, float]:
    """Width and height of a label, in pixels."""
    label = axes.text(0, 0, text, fontsize=FONT)
    box = label.get_window_extent(renderer)
    label.remove()
    return box.width, box.height


def _shared(a: Bbox, b: Bbox) -> float:
    """Area (pixels²) that two boxes have in common."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0.0, width) * max(0.0, height)


def spread(axes: Axes, ends: Sequence[tuple[float, float, str, str]], ink: str) -> None:
    """Label line ends (x, y, text, colour) in the right margin, moved apart with the least total shift.

    Least squares under "each at least one line above the last" is isotonic regression.
    """
    figure = axes.figure
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    ends = sorted(ends, key=lambda end: end[1])
    heights = axes.transData.transform([(x, y) for x, y, *_ in ends])[:, 1]
    heights = (heights - frame.y0) / frame.height  # of the axes
    gap = min(1.25 * FONT * figure.dpi / 72 / frame.height, 1 / max(1, len(ends) - 1))
    steps = gap * np.arange(len(ends))
    placed = np.clip(isotonic_regression(heights - steps).x, 0, max(0, 1 - steps[-1])) + steps
    for (x, y, text, colour), height in zip(ends, placed, strict=True):
        line = {"arrowstyle": "-", "lw": 0.8, "color": colour, "patchA": None, "shrinkA": 3, "shrinkB": 0,
                "relpos": (0, 0.5)}
        axes.annotate(text, (x, y), (1.06, height), textcoords="axes fraction", va="center", fontsize=FONT,
                      color=ink, arrowprops=line)
