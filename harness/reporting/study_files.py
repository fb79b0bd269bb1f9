"""A study -> study-table.csv for machines, .md and .tex for papers, and the terminal. No torch import."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.reporting.grid import Entry, Grid, Heading
from harness.reporting.study_report import StudyView, part_grids
from harness.reporting.study_tables import change_words, made_equal
from harness.reporting.tables import escape_latex, escape_markdown, template
from harness.stats.paired import PairedComparison

PAGE_WIDTH = 104                                   # characters of footnote-size type across a text block
EMPTY = ("arms", "effects", "speed", "secondary")


def write_study_tables(out: Path, view: StudyView) -> list[Path]:
    """Write ``study-table.csv``, ``.md`` and ``.tex`` into ``out``. Raises OSError where it cannot."""
    paths = [out / f"study-table.{ending}" for ending in ("csv", "md", "tex")]
    study_frame(view).to_csv(paths[0], index=False)
    tables = [(part, [grid for name in EMPTY if (grid := part_grids(view, part, {})[name])]) for part in view.parts]
    shown = {"study": view.manifest.study, "statements": view.statements, "parts": tables}
    paths[1].write_text(template("study.md.j2", escape_markdown).render(**shown), encoding="utf-8")
    paths[2].write_text(template("study.tex.j2", escape_latex, blocks=blocks).render(**shown), encoding="utf-8")
    return paths


def study_frame(view: StudyView) -> pd.DataFrame:
    """One row for each part, arm and metric, in full precision. Only the outcome's p values are corrected."""
    rows = []
    for part in view.parts:
        if part.result is None:
            continue
        result = part.result
        metrics = {part.part.outcome: result.metric, **result.also_metrics}
        for arm in result.arms:
            head = {"part": part.part.title, "arm": arm.arm.name, "change": change_words(arm.arm),
                    "made equal": made_equal(arm.arm)}
            for key, metric in metrics.items():
                primary = key == part.part.outcome
                comparison = arm.comparison if primary else result.also.get(key, {}).get(arm.arm.name)
                row = {**head, "metric": key, "unit": metric.unit, "better": metric.direction, "primary": primary}
                if primary:
                    row |= {"seeds": arm.interval.n, "mean": arm.interval.mean, "mean low": arm.interval.low,
                            "mean high": arm.interval.high, "verdict": arm.verdict, "p corrected": arm.adjusted_p,
                            "detectable": arm.detectable, "seeds needed": arm.needed, "ties": arm.letters}
                if comparison is not None:
                    row |= _comparison(comparison)
                if primary or comparison is not None:
                    rows.append(row)
    return pd.DataFrame(rows)


def _comparison(found: PairedComparison) -> dict:
    return {"pairs": found.test.n, "difference": found.interval.mean, "difference low": found.interval.low,
            "difference high": found.interval.high, "sd of differences": found.sd, "effect size": found.effect_size,
            "p": found.test.p}


def blocks(grid: Grid, width: int = PAGE_WIDTH) -> list[list[int]]:
    """Column numbers of the blocks into which the grid is split to fit ``width``; each begins with its first column.

    As few as fit, of about equal width.
    """
    sizes = [_width(grid, i) + 2 for i in range(len(grid.headings))]
    room = width - sizes[0]
    count = max(1, math.ceil(sum(sizes[1:]) / room))
    while True:
        goal, found, used = sum(sizes[1:]) / count, [[0]], 0
        for i, size in enumerate(sizes[1:], 1):
            if len(found[-1]) > 1 and len(found) < count and used + size / 2 > goal:
                found.append([0])
                used = 0
            found[-1].append(i)
            used += size
        if count >= len(sizes) - 1 or all(sum(sizes[i] for i in block[1:]) <= room for block in found):
            return found
        count += 1


def _width(grid: Grid, i: int) -> int:
    head = grid.headings[i]
    words = [*head.title.split(" "), *head.note.split(" ")]
    return max(len(text) for text in (*words, *(_line(row[i], head) for row in grid.rows)))


def _line(entry: Entry, head: Heading) -> str:
    """What an entry takes in one line; words may be broken where they are long."""
    text = max(entry.text, entry.small, key=len)
    return text[:24] if head.words else text


def print_study(console: Console, view: StudyView) -> None:
    """The arms of each part against its base, as a table in as many blocks as the console takes."""
    for part in view.parts:
        console.print(Text(part.title, style="bold"))
        grid = part_grids(view, part, {})["arms"]
        if grid is None:
            console.print(Text(part.problem, style="red"))
        else:
            print_grid(console, grid)
        console.print()


def print_grid(console: Console, grid: Grid) -> None:
    """The grid in as many blocks as the console takes, then its notes."""
    for block in blocks(grid, console.width - 2):
        shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for i in block:
            head = grid.headings[i]
            shown.add_column(Text("\n".join(filter(None, [head.title, head.note]))),
                             justify="left" if head.words else "right", overflow="fold")
        for row in grid.rows:
            shown.add_row(*(Text("\n".join(filter(None, [row[i].text, row[i].small])),
                                 style="bold" if row[i].strong else "") for i in block))
        console.print(shown)
        console.print()
    for line in grid.notes:
        console.print(Text(line, style="dim"))
