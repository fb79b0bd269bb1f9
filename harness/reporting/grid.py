"""A table as data: what its cells say, what they are sorted by, what may be picked. No torch import.

The page, Markdown, LaTeX and the terminal all show the same grid (``study_files.py``, ``templates/``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.reporting.table_view import DASH, decimals_of
from harness.stats.intervals import Interval

MINUS = "\N{MINUS SIGN}"                           # as wide as a plus in tabular figures


@dataclass(frozen=True)
class Heading:
    title: str
    note: str = ""                                 # a second, smaller line
    words: bool = False                            # cells are words: left-aligned, sorted as text
    choose: bool = False                           # the page offers its tokens as a list to pick from
    edge: bool = False                             # a rule stands before it


@dataclass(frozen=True)
class Entry:
    """One cell. ``value`` is what it is sorted by, in full precision; None = its text, NaN sorts last."""

    text: str
    value: float | None = None
    small: str = ""                                # a second, smaller line
    tokens: tuple[str, ...] = ()                   # what it can be picked by
    tone: str = ""                                 # "better", "worse", "undecided", "base": for its colour
    strong: bool = False
    colour: str = ""                               # of the arm, as in the figures


@dataclass(frozen=True)
class Grid:
    title: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Entry, ...], ...]            # the first entry names the row
    notes: tuple[str, ...] = ()

    def pruned(self) -> Grid:
        """Without the columns that say nothing of any row."""
        kept = [i for i in range(len(self.headings)) if not i or any(row[i].text != DASH for row in self.rows)]
        return replace(self, headings=tuple(self.headings[i] for i in kept),
                       rows=tuple(tuple(row[i] for i in kept) for row in self.rows))


def shared_decimals(intervals: Iterable[Interval], most: int = 2) -> int:
    """Decimals at which a column of intervals reads best, so that its points align.

    As many as its finest interval supports, but at most ``most`` more than its coarsest.
    """
    found = [decimals_of(i.mean, i.half_width) for i in intervals if math.isfinite(i.mean)]
    return min(max(found), min(found) + most) if found else 0


def fixed(value: float, decimals: int, *, sign: bool = False) -> str:
    """``value`` with ``decimals``, a real minus, and with ``sign`` a plus; undefined is a dash.

    >>> fixed(-0.04999, 2, sign=True)
    '−0.05'
    """
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:{'+' if sign else ''}.{decimals}f}"
    if not float(text):                            # neither +0.00 nor -0.00: no direction is left at this precision
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def bounds(interval: Interval, decimals: int, *, sign: bool = True) -> str:
    """``[low, high]``; a dash where there is none."""
    if not interval.exists:
        return DASH
    return f"[{fixed(interval.low, decimals, sign=sign)}, {fixed(interval.high, decimals, sign=sign)}]"


def plus_minus(interval: Interval, decimals: int) -> str:
    """``mean ± half-width``, or the mean alone."""
    text = fixed(interval.mean, decimals)
    return f"{text} ± {interval.half_width:.{decimals}f}" if interval.exists else text


def format_p(p: float) -> str:
    """Three decimals, as papers print it."""
    if math.isnan(p):
        return DASH
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


def told(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
