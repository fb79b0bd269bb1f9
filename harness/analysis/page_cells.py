"""Every cell and sentence of a written table or page, each with a name for its place. No torch import.

:func:`read_cells` takes ``.csv``, ``.html``, ``.md`` and ``.tex``. Figures inside a page are left out.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

READABLE = (".csv", ".html", ".md", ".tex")
ROW_NAMES = ("part", "arm", "variant", "metric")   # columns of a CSV file that name its rows where no run_id does
BLOCKS = {"p", "li", "dt", "dd", "h1", "h2", "h3", "h4", "figcaption", "caption", "summary", "code", "pre", "div",
          "section", "article", "header", "footer", "title", "td", "th", "tr", "table", "ul", "ol", "figure", "details"}
SKIPPED = {"svg", "style", "script"}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


def read_cells(path: Path) -> dict[str, str]:
    """Place -> text. Raises OSError or ValueError where the file cannot be read."""
    if path.suffix == ".csv":
        return csv_cells(path)
    text = path.read_text(encoding="utf-8")
    return html_cells(text) if path.suffix == ".html" else line_cells(text, "|" if path.suffix == ".md" else "&")


def csv_cells(path: Path) -> dict[str, str]:
    places: Counter[str] = Counter()
    cells = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except csv.Error as error:
        raise ValueError(str(error)) from None
    groups = list(dict.fromkeys(row.get("group") for row in rows))
    for row in rows:                               # a comparison's id is a name: what counts is who shares it
        if row.get("group"):
            row["group"] = f"comparison {groups.index(row['group']) + 1}"
    columns = rows[0] if rows else {}
    names = ["run_id"] if "run_id" in columns else [name for name in ROW_NAMES if name in columns]
    for i, row in enumerate(rows, 2):
        name = ", ".join(f"{key} {row[key]}" for key in names) or f"line {i}"
        places[name] += 1
        name += f" ({places[name]})" if places[name] > 1 else ""
        for column, text in row.items():
            cells[f"{name}, column {column}"] = text if isinstance(text, str) else str(text or "")
    return cells


def line_cells(text: str, separator: str) -> dict[str, str]:
    """Of Markdown and LaTeX: by line, and within it by column."""
    cells = {}
    for i, line in enumerate(text.splitlines(), 1):
        parts = [part.strip() for part in re.split(rf"(?<!\\){re.escape(separator)}", line)]
        row = next((part for part in parts if part), "")[:40]
        for k, part in enumerate(parts):
            if part:
                cells[f"line {i}, cell {k + 1}" + (f" of {row}" if part != row else "")] = part
    return cells


def html_cells(text: str) -> dict[str, str]:
    """Cells of tables by table, row and column (``data-value`` of each too), and every other text by heading."""
    page = _Page()
    page.feed(text)
    page.close()
    page.end_block()
    return page.cells


class _Page(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.cells: dict[str, str] = {}
        self.used: Counter[str] = Counter()
        self.heading = "top"
        self.words: list[str] = []
        self.open: list[str] = []
        self.table: list[list[str]] | None = None  # rows of the table that is open, as texts
        self.label = ""                            # of that table
        self.cell: dict | None = None              # attributes of the cell that is open

    def keep(self, place: str, text: str) -> None:
        self.used[place] += 1
        self.cells[f"{place} ({self.used[place]})" if self.used[place] > 1 else place] = text

    def end_block(self) -> str:
        """The text since the last block; kept by its heading where no table holds it."""
        text, self.words = " ".join("".join(self.words).split()), []
        if text and self.table is None:
            self.keep(f"under {self.heading!r}, text", text)
        return text

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th", "tr"):
            self.end_cell()
        if tag in BLOCKS and self.cell is None:
            self.end_block()
        if found.get("aria-label"):
            self.label = found["aria-label"]
        if tag == "table":
            self.table = []
        elif tag == "tr" and self.table is not None:
            self.table.append([])
        elif tag in ("td", "th") and self.table is not None:
            self.words, self.cell = [], found
        elif found.get("data-value") and self.table is None and not SKIPPED & set(self.open):
            self.keep(f"under {self.heading!r}, data-value", found["data-value"])

    def handle_endtag(self, tag):
        while tag in self.open and self.open.pop() != tag:
            pass                                   # what HTML lets one leave open
        if tag in ("td", "th", "tr", "table"):
            self.end_cell()
        elif tag in BLOCKS and self.cell is None:
            text = self.end_block()
            if tag in ("h1", "h2", "h3", "h4") and text:
                self.heading = text
        if tag == "table":
            self.table, self.label = None, ""

    def end_cell(self) -> None:
        """Keep the cell that is open, if one is: HTML lets its end tag be left out."""
        if self.cell is None or not self.table:
            return
        row, found, text = self.table[-1], self.cell, self.end_block()
        named = len(self.table) > 1 and len(row) < len(self.table[0])
        header = self.table[0][len(row)] if named else f"cell {len(row) + 1}"
        row.append(text)
        self.cell = None
        place = f"table {self.label or self.heading!r}, row {row[0]!r}, column {header!r}"
        self.keep(place, text)
        if found.get("data-value") is not None:
            self.keep(f"{place}, data-value", found["data-value"])

    def handle_data(self, data):
        if not SKIPPED & set(self.open):
            self.words.append(data)
