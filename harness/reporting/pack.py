"""A results folder -> a few files for a repository: records, curves and test cases in one table each. No torch import.

Pictures are kept of the runs that the report shows. What is packed reads as before (:mod:`harness.run_files`).
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.ablation.manifest import FILE, read_manifest
from harness.analysis.comparison import Group
from harness.analysis.study_parts import study_and_groups
from harness.errors import InputError
from harness.run_files import EVERY, PACKED, PICTURES, Run, read_runs

COPIED = (FILE, "README.md", "profile.yaml")


def pack(out: Path, to: Path) -> int:
    """Write the runs of ``out`` into the new folder ``to``; return how many. Weights stay behind.

    Raises InputError where ``out`` is no results folder, a record or table of it cannot be read, or ``to`` is not
    empty.
    """
    runs, problems = read_runs(out)
    if problems:
        raise InputError(problems[0])
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InputError(f"{to} is not an empty folder")
    study, groups = study_and_groups(out, read_manifest(out), runs)
    shown = shown_runs([*(study.groups if study else []), *groups])
    try:
        (to / PICTURES).mkdir(parents=True)
        with (to / PACKED).open("w", encoding="utf-8") as file:
            for run in runs:
                written = run.written()
                kept = written.get("pictures", {}) if run.record.run_id in shown else {}
                file.write(json.dumps({**written, "pictures": kept}, separators=(",", ":")) + "\n")
                for name in kept:
                    shutil.copyfile(run.picture(name), to / PICTURES / f"{run.record.run_id}-{name}")
        write_table(to / "curves.csv", ["run_id", *EVERY["curves.csv"]], curve_rows(runs))
        write_table(to / "cases.csv", *case_rows(runs))
        for name in COPIED:
            if (out / name).exists():
                shutil.copyfile(out / name, to / name)
        if not any((to / PICTURES).iterdir()):
            (to / PICTURES).rmdir()
    except (OSError, ValueError) as error:
        raise InputError(f"{out} cannot be packed: {error}") from None
    return len(runs)


def shown_runs(groups: Sequence[Group]) -> set[str]:
    """Find the runs whose pictures a report shows: of each arm the first finished one that has any."""
    firsts = (next((run for run in arm.finished if run.record.pictures), None)
              for group in groups for arm in group.arms)
    return {run.record.run_id for run in firsts if run is not None}


def curve_rows(runs: Sequence[Run]) -> Iterator[list]:
    """The rows of all runs' curves, each with its run's id."""
    for run in runs:
        columns = run.columns("curves.csv", EVERY["curves.csv"])
        if columns is not None:
            yield from ([run.record.run_id, *row] for row in zip(*(columns[name] for name in EVERY["curves.csv"])))


def case_rows(runs: Sequence[Run]) -> tuple[list[str], list[list]]:
    """Header and rows of one table of all runs' test cases: a row per run and case, a column per metric and class."""
    names: dict[str, None] = {}
    found: dict[tuple[str, str], dict[str, object]] = {}
    for run in runs:
        columns = run.columns("cases.csv", EVERY["cases.csv"])
        for case, metric, of_class, value in zip(*columns.values()) if columns is not None else ():
            names[f"{metric}/{of_class}"] = None
            found.setdefault((run.record.run_id, str(case)), {})[f"{metric}/{of_class}"] = value
    return (["run_id", "case", *names],
            [[*key, *(values.get(name, "") for name in names)] for key, values in found.items()])


def write_table(path: Path, header: Sequence[str], rows: Iterator[list] | Sequence[list]) -> None:
    """Write a CSV file; none where there is no row."""
    rows = list(rows)
    if rows:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(rows)
