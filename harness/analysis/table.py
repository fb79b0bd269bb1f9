"""The table, and the section of a report: what every renderer shows, as data. No torch import.

HTML, Markdown, LaTeX and the terminal show the same tables (``harness/reporting``); CSV has its own, in full precision
(``frames.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harness.formatting import DASH


@dataclass(frozen=True)
class Heading:
    title: str
    note: str = ""                                 # a second, smaller line
    words: bool = False                            # cells are words: left-aligned, sorted as text
    choose: bool = False                           # the page offers its tokens as a list to pick from
    edge: bool = False                             # a rule stands before it


@dataclass(frozen=True)
class Cell:
    """One cell. ``value`` is what it is sorted by, in full precision; None = its text, NaN sorts last."""

    text: str
    value: float | None = None
    small: str = ""                                # a second, smaller line
    tokens: tuple[str, ...] = ()                   # what it can be picked by
    tone: str = ""                                 # "better", "worse", "undecided", "base", "bad": for its colour
    strong: bool = False
    colour: str = ""                               # of the arm, as in the figures


Row = tuple[Cell, ...]                             # the first cell names the row


@dataclass(frozen=True)
class Table:
    """One table. ``foot`` holds rows that are no contestants: what real data score."""

    title: str
    headings: tuple[Heading, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    foot: tuple[Row, ...] = ()

    def pruned(self) -> Table:
        """Leave out the columns that say nothing of any row."""
        kept = [i for i in range(len(self.headings)) if not i or any(row[i].text != DASH for row in self.rows)]
        return replace(self, headings=tuple(self.headings[i] for i in kept),
                       rows=tuple(tuple(row[i] for i in kept) for row in self.rows))


@dataclass(frozen=True)
class Section:
    """One part of a report: what it concludes, its tables, and what else is to be said."""

    title: str
    conclusion: str = ""
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
