"""Tables -> the terminal, Markdown and LaTeX; every number in full precision as CSV. No torch import."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from harness.ablation.manifest import Manifest
from harness.analysis.certificate import Statement
from harness.analysis.comparison import Group
from harness.analysis.comparison_tables import failures, summary_table
from harness.analysis.conclusions import conclusion
from harness.analysis.frames import run_frame, scaling_frame, study_frame
from harness.analysis.scaling import TABLE
from harness.analysis.scaling_findings import ScalingFindings
from harness.analysis.study_parts import StudyFindings
from harness.analysis.study_tables import part_tables
from harness.analysis.table import Cell, Heading, Section, Table
from harness.formatting import DASH

TEMPLATES = Path(__file__).parent / "templates"
PAGE_WIDTH = 104                                   # characters of footnote-size type across a text block
LONGEST_NAME = 28                                  # characters of a row's name on a line


def write_tables(out: Path, groups: Sequence[Group]) -> list[Path]:
    """Write ``table.csv``, ``table.md`` and ``table.tex`` into ``out``. Raises OSError where it cannot."""
    run_frame(groups).to_csv(out / "table.csv", index=False)
    return [out / "table.csv", *write_sections(out / "table", [comparison_section(group) for group in groups])]


def write_study_tables(out: Path, study: StudyFindings) -> list[Path]:
    """Write ``study-table.csv``, ``.md`` and ``.tex`` into ``out``. Raises OSError where it cannot."""
    study_frame(study).to_csv(out / "study-table.csv", index=False)
    sections = [Section(part.title, part.conclusion, tuple(part_tables(part)),
                        () if part.result else (part.problem,)) for part in study.parts]
    if study.statements:
        sections.append(Section("Certificate", notes=tuple(map(statement_words, study.statements))))
    return [out / "study-table.csv", *write_sections(out / "study-table", sections, study.manifest)]


def write_scaling_table(out: Path, found: ScalingFindings) -> list[Path]:
    """Write ``scaling.csv`` into ``out``: none with one size. Raises OSError where it cannot."""
    if not found.several_sizes:
        return []
    scaling_frame(found.scaling).to_csv(out / TABLE, index=False)
    return [out / TABLE]


def comparison_section(group: Group) -> Section:
    """Put a comparison's conclusion beside its summary and the runs that did not finish."""
    lost = failures(group)
    return Section(group.title, conclusion(group), (summary_table(group), *([lost] if lost else [])))


def statement_words(statement: Statement) -> str:
    """Write one line of a certificate: yes, no or a note, about what, and the statement."""
    return f"{ {True: 'yes', False: 'no'}.get(statement.holds, 'note')} · {statement.kind}: {statement.text}"


def write_sections(stem: Path, sections: Sequence[Section], manifest: Manifest | None = None) -> list[Path]:
    """Write ``STEM.md`` and ``STEM.tex``; of a study, headed by its title and question."""
    paths = []
    for ending, escape in ((".md", escape_markdown), (".tex", escape_latex)):
        environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined,
                                         trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
        environment.filters.update(escape=escape, stack=stack, blocks=blocks)
        text = environment.get_template(f"tables{ending}.j2").render(
            sections=sections, study=manifest.study if manifest else None)
        path = stem.with_name(stem.name + ending)
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def escape_markdown(text: str) -> str:
    """Write text so that Markdown shows it as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_|\[\]])", r"\\\1", text)


LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
         "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
         "<": r"\textless{}", ">": r"\textgreater{}", "[": "{[}", "]": "{]}", "±": r"$\pm$",
         "×": r"$\times$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "µ": r"$\mu$",
         "\N{MINUS SIGN}": "$-$", "∞": r"$\infty$", "▲": r"$\uparrow$", "▼": r"$\downarrow$", "≤": r"$\le$",
         "≥": r"$\ge$", "·": r"$\cdot$", "…": r"\ldots{}", "\N{NO-BREAK SPACE}": "~"}


def escape_latex(text: str) -> str:
    """Write text so that LaTeX shows it as it is."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def stack(text: str, width: int = 14) -> list[str]:
    """Break the words of a heading into as few lines of ``width`` as hold them."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def blocks(table: Table, width: int = PAGE_WIDTH) -> list[list[int]]:
    """Split a table to fit ``width`` characters: column numbers of each block, which begins with the first column.

    As few blocks as fit, of about equal width; one ends where a rule stands (``edge``) if that costs no block more.
    """
    sizes = [_width(table, i) + 2 for i in range(len(table.headings))]
    edges = [i for i, heading in enumerate(table.headings) if heading.edge]
    plain = _split(sizes, range(1, len(sizes)), width)
    ends = [1, *edges, len(sizes)]
    apart = [block for start, end in zip(ends, ends[1:]) for block in _split(sizes, range(start, end), width)]
    return apart if 1 < len(plain) == len(apart) else plain


def _split(sizes: Sequence[int], columns: Sequence[int], width: int) -> list[list[int]]:
    """Blocks of ``columns``, each behind column 0."""
    room, total = width - sizes[0], sum(sizes[i] for i in columns)
    count = max(1, math.ceil(total / room)) if room > 0 else len(columns)
    while True:
        goal, found, used = total / count, [[0]], 0
        for i in columns:
            if len(found[-1]) > 1 and len(found) < count and used + sizes[i] / 2 > goal:
                found.append([0])
                used = 0
            found[-1].append(i)
            used += sizes[i]
        if count >= len(columns) or all(sum(sizes[i] for i in block[1:]) <= room for block in found):
            return found
        count += 1


def _width(table: Table, i: int) -> int:
    heading = table.headings[i]
    words = (*heading.title.split(" "), heading.note)
    width = max(len(text) for text in (*words, *(_line(row[i], heading) for row in (*table.rows, *table.foot))))
    return min(width, LONGEST_NAME) if i == 0 else width


def _line(cell: Cell, heading: Heading) -> str:
    """What a cell takes in one line; words may be broken where they are long."""
    text = max(cell.text, cell.small, key=len)
    return text[:24] if heading.words else text


def print_table(console: Console, table: Table, *, title: bool = True) -> None:
    """Print a table in as many blocks as the console takes, with its title; its notes are the caller's."""
    if title:
        console.print(Text(table.title, style="bold"))
    for block in blocks(table, console.width):
        shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
        for i in block:
            heading = table.headings[i]
            lines = [*stack(heading.title, _width(table, i)), *filter(None, [heading.note])]
            side = "left" if heading.words else "right"
            shown.add_column(Text("\n".join(lines), justify=side), justify=side, no_wrap=not heading.words,
                             overflow="fold", width=_width(table, i) if i == 0 else None)
        foot = [row for row in table.foot if any(row[i].text not in ("", DASH) for i in block[1:])]
        for row in (*table.rows, *foot):
            shown.add_row(*(Text("\n".join(filter(None, [row[i].text, row[i].small])),
                                 style="bold" if row[i].strong else "") for i in block),
                          style="dim" if row in foot else "")
        console.print(shown)
        console.print()


def print_notes(console: Console, notes: Sequence[str]) -> None:
    """Print what is to be said about a table, a line each."""
    for note in notes:
        console.print(Text(note, style="dim"))
    if notes:
        console.print()


def print_comparisons(console: Console, groups: Sequence[Group]) -> None:
    """Print the summary of each comparison, then the runs that did not finish.

    What is to be noted of every one of several comparisons is said once, at the end.
    """
    tables = [summary_table(group) for group in groups]
    shared = [note for note in tables[0].notes if all(note in table.notes for table in tables)] if tables[1:] else []
    for table, group in zip(tables, groups):
        print_table(console, table)
        print_notes(console, [note for note in table.notes if note not in shared])
        lost = failures(group)
        if lost is not None:
            console.print(Text(lost.title, style="bold red"))
            for arm, seed, status, reason in lost.rows:
                console.print(Text(f"  {arm.text}, seed {seed.text}: {status.text} - {reason.text}"))
            console.print()
    print_notes(console, shared)


def print_study(console: Console, study: StudyFindings) -> None:
    """Print the arms of each part against its base."""
    for part in study.parts:
        console.print(Text(part.title, style="bold"))
        tables = part_tables(part)
        if tables:
            print_table(console, tables[0], title=False)
            print_notes(console, tables[0].notes)
        else:
            console.print(Text(part.problem, style="red"))
        console.print()
