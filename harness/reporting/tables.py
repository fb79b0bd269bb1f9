"""Comparisons -> files and the terminal: CSV for machines, Markdown and LaTeX for papers. No torch import."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from harness.analysis.comparison import Group, Run
from harness.record import Metric
from harness.reporting.table_view import DASH, Row, Table, summary_table

TEMPLATES = Path(__file__).parent / "templates"
PAGE_WIDTH = 102                                   # characters of footnote-size type across a text block


def _run_fields(group: Group, run: Run, superseded: bool) -> dict:
    record, spec = run.record, run.record.spec
    return {"group": group.id, "comparison": group.title, "suite": spec.suite, "dataset": spec.data.name,
            "variant": spec.variant, "options": json.dumps(spec.options, sort_keys=True),
            "seed_init": spec.seeds.init, "seed_data": spec.seeds.data, "seed_sampling": spec.seeds.sampling,
            "run_id": record.run_id, "status": record.status, "error": record.error,
            "superseded": superseded, "started": record.started,
            "duration [s]": record.duration_s, "device": spec.device, "code": record.code}


def run_frame(groups: Sequence[Group]) -> pd.DataFrame:
    """One row per run, every number in full precision; units in the headers.

    Numbers of different protocol fingerprints never share a column: where a label has several, the
    fingerprint follows it. A quality number is followed by its ``n``, ``undefined`` and, where known, floor.
    """
    rows: dict[tuple[str, str], dict] = {}
    numbers: dict[tuple[str, str, str], dict[int, Metric]] = {}  # kind, key, fingerprint -> number of the row -> it
    for group in groups:
        for run, old in [(run, old) for arm in group.arms
                         for old, found in ((False, arm.runs), (True, arm.superseded)) for run in found]:
            at = group.id, run.record.run_id
            if at in rows:
                continue
            for kind in ("metrics", "cost"):
                for key, metric in getattr(run.record, kind).items():
                    numbers.setdefault((kind, key, metric.fingerprint), {})[len(rows)] = metric
            rows[at] = _run_fields(group, run, old)
    labels = Counter(next(iter(found.values())).label for found in numbers.values())
    added = {}
    for (kind, key, fingerprint), found in numbers.items():
        first = next(iter(found.values()))
        name = first.label + (f" {{{key} {fingerprint[:8]}}}" if labels[first.label] > 1 else "")
        added[f"{name} [{first.unit}]" if first.unit else name] = _column(found, "value", len(rows))
        if kind == "metrics" and "/" not in key:
            added[f"{name} n"] = _column(found, "n", len(rows)).astype("Int64")
            added[f"{name} undefined"] = _column(found, "undefined", len(rows)).astype("Int64")
            if any(metric.floor is not None for metric in found.values()):
                added[f"{name} floor"] = _column(found, "floor", len(rows))
    frame = pd.DataFrame([*rows.values()])
    return pd.concat([frame, pd.DataFrame(added, index=frame.index)], axis=1)


def _column(found: dict[int, Metric], name: str, length: int) -> pd.Series:
    """The attribute ``name`` of each number in the row that it belongs to; NaN in the others."""
    column = np.full(length, np.nan)
    values = [getattr(metric, name) for metric in found.values()]
    column[[*found]] = [np.nan if value is None else value for value in values]
    return pd.Series(column)


def write_tables(out: Path, groups: Sequence[Group]) -> list[Path]:
    """Write ``table.csv``, ``table.md`` and ``table.tex`` into ``out``. Raises OSError where it cannot."""
    tables = [summary_table(group) for group in groups]
    paths = [out / "table.csv", out / "table.md", out / "table.tex"]
    run_frame(groups).to_csv(paths[0], index=False)
    paths[1].write_text(_render("table.md.j2", tables, escape_markdown), encoding="utf-8")
    paths[2].write_text(_render("table.tex.j2", tables, escape_latex), encoding="utf-8")
    return paths


def template(name: str, escape: Callable[[str], str], **filters: Callable) -> jinja2.Template:
    """A text template of ``templates/``, in which ``escape`` is a filter, as ``stack`` and ``filters`` are."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters.update(escape=escape, stack=_stack, **filters)
    return environment.get_template(name)


def _render(name: str, tables: list[Table], escape: Callable[[str], str]) -> str:
    return template(name, escape).render(
        tables=tables, rows_of=rows_of, parts={table.title: pack(table, PAGE_WIDTH) for table in tables})


def escape_markdown(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)


LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
         "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "<": r"\textless{}", ">": r"\textgreater{}", "[": "{[}", "]": "{]}", "±": r"$\pm$",
         "×": r"$\times$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "µ": r"$\mu$",
         "\N{MINUS SIGN}": "$-$", "∞": r"$\infty$", "▲": r"$\uparrow$", "▼": r"$\downarrow$", "≤": r"$\le$",
         "≥": r"$\ge$", "·": r"$\cdot$", "…": r"\ldots{}", "\N{NO-BREAK SPACE}": "~"}


def escape_latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def _stack(text: str, width: int = 14) -> list[str]:
    """Words of a heading on as few lines of ``width`` as hold them."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def pack(table: Table, width: int) -> list[list[int]]:
    """Column numbers of the parts into which the table is split to fit ``width`` characters.

    One part where all fits; else quality and cost apart, each in as few parts as it takes.
    """
    widths = [_width(table, i) + 2 for i in range(len(table.headers))]
    room = width - _label_width(table) - 6         # 6: the column of run counts
    if sum(widths) <= room:
        return [list(range(len(widths)))]
    parts = []
    for kind in ("metrics", "cost"):
        columns = [i for i, header in enumerate(table.headers) if header.kind == kind]
        for count in range(1, len(columns) + 1):   # the fewest parts that fit, of about equal size
            split = [columns[i * len(columns) // count:(i + 1) * len(columns) // count] for i in range(count)]
            if count == len(columns) or all(sum(widths[i] for i in part) <= room for part in split):
                parts += split
                break
    return parts


def rows_of(table: Table, part: list[int]) -> list[Row]:
    """The table's rows, without the floor where none of these columns has one."""
    return [row for row in table.rows if not row.floor or any(row.cells[i].text != DASH for i in part)]


def _width(table: Table, i: int) -> int:
    words = (*table.headers[i].title.split(" "), table.headers[i].n)
    return max(len(text) for text in (*words, *(row.cells[i].full for row in table.rows)))


def _label_width(table: Table) -> int:
    return min(28, max(len(label) for label in ("variant", *(row.label for row in table.rows))))


def print_tables(console: Console, groups: Sequence[Group]) -> None:
    """The summary of each comparison, split so that it fits the console; then the runs that did not finish.

    What is to be noted of every one of several comparisons is said once, at the end.
    """
    tables = [summary_table(group) for group in groups]
    shared = [note for note in tables[0].notes if all(note in table.notes for table in tables)] if tables[1:] else []
    for table in tables:
        console.print(Text(table.title, style="bold"))
        for part in pack(table, console.width):
            console.print(_rich(table, part))
            console.print()
        own = [note for note in table.notes if note not in shared]
        for note in own:
            console.print(Text(note, style="dim"))
        if table.failures:
            console.print(Text("\nRuns that did not finish", style="bold red"))
            for arm, seed, status, reason in table.failures:
                console.print(Text(f"  {arm}, seed {seed}: {status} - {reason}"))
        if own or table.failures:
            console.print()
    for note in shared:
        console.print(Text(note, style="dim"))
    if shared:
        console.print()


def _rich(table: Table, part: list[int]) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    shown.add_column("variant", width=_label_width(table), overflow="fold")
    shown.add_column("runs", justify="right", no_wrap=True)
    for i in part:
        header = table.headers[i]
        lines = [*_stack(header.title, _width(table, i)), *filter(None, [header.n])]
        shown.add_column(Text("\n".join(lines), justify="right"), justify="right", no_wrap=True)
    for row in rows_of(table, part):
        cells = [Text(row.cells[i].full, style="bold" if row.cells[i].best else "") for i in part]
        shown.add_row(Text(row.label), row.runs, *cells, style="dim" if row.floor else "")
    return shown
