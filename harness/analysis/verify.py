"""``python bench.py verify DIR``: does every number of a report follow from the records below it?

Each record from its own files (:mod:`harness.analysis.recount`), the study from the records, then every table and page
again from the records, cell by cell. No torch import.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.ablation.manifest import FILE, read_manifest
from harness.analysis.page_cells import READABLE, read_cells
from harness.analysis.recount import Findings, check_run, same
from harness.analysis.recount_study import check_study
from harness.analysis.result_sets import read_runs
from harness.errors import InputError

EXACT = 1e-9                                       # relative; of numbers that the same code made from the same records
MOST_SHOWN = 200                                   # differences on a terminal


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
    check_written(out, findings)
    return findings


def check_written(out: Path, findings: Findings) -> None:
    """Write tables and report again elsewhere, and compare every cell with what ``out`` holds."""
    from harness.reporting.report import write_report
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary) / out.resolve().name
        again.mkdir()
        for name in ("runs", "tuning"):
            if (out / name).is_dir():
                (again / name).symlink_to((out / name).resolve(), target_is_directory=True)
        if (out / FILE).exists():
            shutil.copy(out / FILE, again / FILE)
        try:
            write_report(again)
        except InputError as error:
            findings.wrong("report", "made from the records", "a report", str(error).replace(str(again), "DIR"))
            return
        made = [path.relative_to(again) for path in sorted(again.rglob("*")) if path.is_file() and path.name != FILE]
        made = [path for path in made if path.parts[0] not in ("runs", "tuning")]
        for path in made:
            if path.suffix not in READABLE:
                if (out / path).exists():
                    findings.unchecked["figures: drawn from the records, not read back"].append(str(path))
            elif not (out / path).exists():
                findings.unchecked["files that a report has and this folder does not"].append(str(path))
            else:
                check_file(out, again, path, findings)
    held = {path.relative_to(out) for kind in ("*.csv", "*.html") for path in out.glob(kind)}
    for path in sorted(held - set(made)):
        findings.unchecked["files that no report writes"].append(str(path))


def check_file(out: Path, again: Path, path: Path, findings: Findings) -> None:
    """One file of both folders, cell by cell."""
    try:
        stated = read_cells(out / path)
    except (OSError, ValueError) as error:
        findings.wrong(str(path), "file", f"unreadable ({error})", "a file that can be read")
        return
    recomputed = read_cells(again / path)
    for place in [*stated, *(place for place in recomputed if place not in stated)]:
        mine, other = (_plain(cells[place], out, again) if place in cells else None for cells in (stated, recomputed))
        if mine is None or other is None or not (mine == other or _same_number(mine, other)):
            findings.wrong(str(path), place, "absent" if mine is None else mine, "absent" if other is None else other)
        findings.checked += 1


def _plain(text: str, *folders: Path) -> str:
    """Without the paths of the folders, which reports and records may hold; a bare name may be any word of them."""
    for folder in folders:
        text = text.replace(str(folder.resolve()), "DIR")
        text = text.replace(str(folder), "DIR") if len(folder.parts) > 1 else text
    return text


def _same_number(mine: str, other: str) -> bool:
    """Both a fraction as text, and equal but for the last digits; whole numbers are exact, and stay text."""
    both = [float(text) for text in (mine, other) if re.fullmatch(r"[-+]?\d+\.\d+(e[-+]?\d+)?", text)]
    return len(both) == 2 and same(*both, EXACT)


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
        console.print(Text(f"not checkable: {why}: {len(what)} ({_few(what)})", style="dim"))
    count = len(findings.differences)
    words = "all agree" if not count else f"{count} differ{'s' * (count == 1)}"
    style = "bold red" if count else "bold green"
    console.print(Text(f"{findings.checked:,} values computed again: {words}", style=style))


def _few(what: list[str], most: int = 3) -> str:
    return ", ".join(what[:most]) + (", ..." if len(what) > most else "")
