"""``python bench.py verify DIR``: does every number of a report follow from the records below it?

Each record from its own files (:mod:`harness.analysis.recompute`), the study from the records, then every table (CSV)
again from the records, cell by cell. No torch import.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.ablation.manifest import FILE, Manifest, read_manifest
from harness.analysis.frames import frames
from harness.analysis.recompute import Findings, check_run, same
from harness.analysis.recompute_study import check_study
from harness.errors import InputError
from harness.formatting import listed
from harness.run_files import EVERY, Run, read_runs

EXACT = 1e-9                                       # relative; of numbers that the same code made from the same records
MOST_SHOWN = 200                                   # differences on a terminal
ROW_NAMES = ("part", "arm", "variant", "metric")   # columns that name the rows of a table where no run_id does
PAGES = ("report.html", "table.md", "table.tex", "study-table.md", "study-table.tex")


def verify(out: Path) -> Findings:
    """Compute again what the files of ``out`` state. Writes nothing there.

    Raises InputError where ``out`` is no results folder or holds no readable record.
    """
    runs, problems = read_runs(out)
    findings = Findings()
    for problem in problems:
        findings.wrong("runs", "record", problem.replace(f"{out}/", ""), "a record that can be read")
    for run in runs:
        check_run(run, findings)
    try:
        manifest = read_manifest(out)
    except InputError as error:
        findings.wrong(FILE, "study", str(error).replace(f"{out}/", ""), "a study that can be read")
        return findings
    if manifest is not None:
        check_study(out, manifest, runs, findings)
    check_tables(out, manifest, runs, findings)
    return findings


def check_tables(out: Path, manifest: Manifest | None, runs: Sequence[Run], findings: Findings) -> None:
    """Compute the tables of ``out`` again from its records, and compare every cell."""
    made = frames(out, manifest, runs)
    for name, frame in made.items():
        if (out / name).exists():
            check_table(out / name, frame.to_csv(index=False), findings)
        else:
            findings.unchecked["tables that a report has and this folder does not"].append(name)
    for path in sorted(out.glob("*.csv")):
        if path.name not in made and path.name not in EVERY:
            findings.unchecked["tables that no report writes"].append(path.name)
    pages = [name for name in PAGES if (out / name).exists()]
    if pages:
        findings.unchecked["pages and figures: made of the same numbers, not read back"] += pages


def check_table(path: Path, again: str, findings: Findings) -> None:
    """Compare a CSV file with what it should be, cell by cell."""
    try:
        stated = cells(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, csv.Error) as error:
        findings.wrong(path.name, "file", f"unreadable ({error})", "a file that can be read")
        return
    recomputed = cells(again)
    for place in stated | recomputed:
        mine, other = stated.get(place), recomputed.get(place)
        if mine is None or other is None or not _agree(mine, other):
            findings.wrong(path.name, place, "absent" if mine is None else mine, "absent" if other is None else other)
        findings.checked += 1


def cells(text: str) -> dict[str, str]:
    """Name every cell of a CSV file by its row and column: place -> text. A comparison's id is only a name."""
    rows = list(csv.DictReader(io.StringIO(text)))
    groups = list(dict.fromkeys(row.get("group") for row in rows))
    for row in rows:
        if row.get("group"):
            row["group"] = f"comparison {groups.index(row['group']) + 1}"
    columns = rows[0] if rows else {}
    names = ["run_id"] if "run_id" in columns else [name for name in ROW_NAMES if name in columns]
    places, found = Counter(), {}
    for i, row in enumerate(rows, 2):
        name = ", ".join(f"{key} {row[key]}" for key in names) or f"line {i}"
        places[name] += 1
        name += f" ({places[name]})" if places[name] > 1 else ""
        found |= {f"{name}, column {column}": cell if isinstance(cell, str) else str(cell or "")
                  for column, cell in row.items()}
    return found


def _agree(mine: str, other: str) -> bool:
    """Equal, or two fractions that are equal but for the last digits; whole numbers are exact, and stay text."""
    both = [float(text) for text in (mine, other) if re.fullmatch(r"[-+]?\d+\.\d+(e[-+]?\d+)?", text)]
    return mine == other or (len(both) == 2 and same(*both, EXACT))


def show(findings: Findings, console: Console) -> None:
    """What differs, what cannot be checked, and the count."""
    if findings.differences:
        table = Table("file", "place", "stated", "recomputed", box=box.SIMPLE_HEAD, show_edge=False)
        for one in findings.differences[:MOST_SHOWN]:
            table.add_row(*(Text(text, overflow="fold") for text in (one.file, one.place, one.stated, one.recomputed)))
        console.print(table)
        if len(findings.differences) > MOST_SHOWN:
            console.print(Text(f"... and {len(findings.differences) - MOST_SHOWN} more"))
    for why, what in findings.unchecked.items():
        console.print(Text(f"not checkable: {why}: {len(what)} ({listed(what, 3)})", style="dim"))
    count = len(findings.differences)
    words = "all agree" if not count else f"{count} differ{'s' * (count == 1)}"
    style = "bold red" if count else "bold green"
    console.print(Text(f"{findings.checked:,} values computed again: {words}", style=style))
