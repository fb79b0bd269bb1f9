"""The runs of a results folder: records, curves, test cases, pictures; as they were left, or packed. No torch import.

As left: ``runs/<run_id>/`` with record.json, curves.csv, cases.csv and pictures. Packed (:func:`pack`), for a
repository: ``records.jsonl``, one ``curves.csv``, one ``cases.csv`` with a column per metric and class, ``pictures/``.
"""

from __future__ import annotations

import csv
import json
import numbers
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import InputError, one_line
from harness.record import Record, parse_record, read_records

COLUMNS = {"curves.csv": ["step", "name", "value"], "cases.csv": ["case", "metric", "class", "value"]}
EVERY = {"curves.csv": ["step", "seconds", "name", "value"], "cases.csv": COLUMNS["cases.csv"]}
LARGEST_STEP = 2 ** 53                             # beyond it whole numbers have no exact float
TYPES = {"step": int, "seconds": float, "value": float}    # of a column in a file as the suites write it; else text
PACKED, PICTURES = "records.jsonl", "pictures"

Columns = dict[str, Sequence]                      # column -> its cells


@dataclass(frozen=True)
class Packed:
    """The files of a packed results folder."""

    out: Path
    lines: dict[str, bytes] = field(default_factory=dict)      # run id -> its record as it was written

    @cached_property
    def curves(self) -> dict[str, Columns]:
        """Run id -> its curves. Raises OSError or ValueError where the file is bad."""
        found: dict[str, dict[str, list]] = defaultdict(lambda: {name: [] for name in EVERY["curves.csv"]})
        for row in self._rows("curves.csv"):
            for name, cells in found[row["run_id"]].items():
                cells.append(TYPES.get(name, str)(row[name]))
        return dict(found)

    @cached_property
    def cases(self) -> dict[str, Columns]:
        """Run id -> its test cases, a row per case, metric and class. Raises as :attr:`curves`."""
        found: dict[str, dict[str, list]] = defaultdict(lambda: {name: [] for name in EVERY["cases.csv"]})
        for row in self._rows("cases.csv"):
            cells, case = found[row.pop("run_id")], row.pop("case")
            for column, value in row.items():
                if value:
                    metric, _, of_class = column.partition("/")
                    for name, cell in zip(EVERY["cases.csv"], (case, metric, of_class, float(value))):
                        cells[name].append(cell)
        return dict(found)

    def _rows(self, name: str) -> list[dict[str, str]]:
        path = self.out / name
        if not path.exists():
            return []
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has another number of cells than the first line")
        return rows


@dataclass(frozen=True)
class Run:
    """A record, and the folder that its curves, cases and pictures lie in, or the files that they are packed in."""

    record: Record
    folder: Path
    packed: Packed | None = field(default=None, compare=False, repr=False)

    def has(self, name: str) -> bool:
        """Whether there is a ``curves.csv`` or ``cases.csv`` of the run."""
        if self.packed is None:
            return (self.folder / name).exists()
        try:
            return self.record.run_id in getattr(self.packed, name.partition(".")[0])
        except (OSError, ValueError):              # to be named by who reads it
            return True

    def picture(self, name: str) -> Path:
        """Where the picture ``name`` of the record lies."""
        return self.folder / name if self.packed is None else \
            self.packed.out / PICTURES / f"{self.record.run_id}-{name}"

    def written(self) -> Any:
        """Read the record's JSON as it was written. Raises OSError or ValueError."""
        return json.loads((self.folder / "record.json").read_bytes() if self.packed is None
                          else self.packed.lines[self.record.run_id])

    def columns(self, name: str, wanted: Sequence[str]) -> Columns | None:
        """Read columns of ``curves.csv`` or ``cases.csv``; None where there is none.

        Raises OSError, ValueError or OverflowError where the file is bad.
        """
        if self.packed is not None:
            found = getattr(self.packed, name.partition(".")[0]).get(self.record.run_id)
            return found and {column: found[column] for column in wanted}
        path = self.folder / name
        if not path.exists():
            return None
        columns = _plain_columns(path, wanted)
        if columns is None:
            rows = pd.read_csv(path, usecols=list(wanted))
            columns = {**{key: rows[key] for key in rows}, "value": pd.to_numeric(rows["value"])}
        if "step" in columns:
            _check_steps(columns["step"])
        return columns


def read_runs(out: Path) -> tuple[list[Run], list[str]]:
    """Read the runs of a results folder, oldest first, and one line for each record that cannot be read.

    Raises InputError where it is no results folder, or holds no readable record.
    """
    if (out / PACKED).exists():
        found, problems = _packed_runs(out)
    elif (out / "runs").is_dir():
        records, problems = read_records(out / "runs")
        found = [Run(record, out / "runs" / record.run_id) for record in records]
    else:
        raise InputError(f"{out} is not a results folder: expected records at {out / 'runs'}/<run_id>/record.json")
    if not found:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise InputError(f"no readable record under {out / 'runs'}" + (f": {problems[0]}{more}" if problems else ""))
    return found, problems


def _packed_runs(out: Path) -> tuple[list[Run], list[str]]:
    packed, found, problems = Packed(out), [], []
    try:
        lines = (out / PACKED).read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"unreadable {out / PACKED}: {error.strerror}") from None
    for i, line in enumerate(lines, 1):
        try:
            record = parse_record(line, f"{out / PACKED}, line {i}")
        except ValueError as error:
            problems.append(str(error))
            continue
        packed.lines[record.run_id] = line
        found.append(Run(record, out / "runs" / record.run_id, packed))
    return sorted(found, key=lambda run: run.record.started), problems


def read_rows(run: Run, name: str, problems: list[str]) -> pd.DataFrame | None:
    """A run's ``curves.csv`` or ``cases.csv``; None where there is none, or where it is bad (then named)."""
    columns = read_columns(run, name, problems)
    return None if columns is None else pd.DataFrame(columns)


def read_columns(run: Run, name: str, problems: list[str], also: Sequence[str] = ()) -> Columns | None:
    """As :func:`read_rows`, as column -> its cells: for those who read a thousand files into one table.

    ``also`` names columns to be read beside those of COLUMNS.
    """
    try:
        return run.columns(name, [*COLUMNS[name], *also])
    except (OSError, ValueError, OverflowError) as error:      # pandas' parser errors are ValueErrors
        problems.append(f"unreadable {run.folder.name}/{name}: {one_line(error)}")
        return None


def _check_steps(steps: Sequence) -> None:
    """Raise ValueError where a step is no number that an axis can have."""
    bad = next((step for step in steps if not isinstance(step, numbers.Real) or not abs(step) < LARGEST_STEP), None)
    if bad is not None:
        raise ValueError(f"step {str(bad)[:40]} is no number of a step")


def _plain_columns(path: Path, columns: Sequence[str]) -> dict[str, list] | None:
    """The columns of a file without quotes, gaps or surprises, for which pandas' own reader takes several times as
    long as it takes to split it; None where it needs that reader."""
    head, _, body = path.read_text(encoding="utf-8").rstrip("\n").partition("\n")
    names, lines = head.split(","), body.count("\n") + 1
    if not body or '"' in body or "\r" in body or not set(columns) <= set(names):
        return None
    cells = body.replace("\n", ",").split(",")
    if len(cells) != lines * len(names) or any(line.count(",") != len(names) - 1 for line in body.split("\n")):
        return None
    try:
        return {name: [*map(TYPES.get(name, str), cells[names.index(name)::len(names)])] for name in columns}
    except ValueError:                             # an empty cell, a step such as 1e3, or something worse
        return None


def case_table(cases: pd.DataFrame, key: str, classes: Sequence[str] | None = None) -> np.ndarray | None:
    """(cases, classes) of the metric ``key``, or for ``x_macro`` of ``x`` by class; None where there is none.

    ``classes`` are those that the metric averages over; None = all. Cases and classes are in order of their names.
    """
    for name in (key, key.removesuffix("_macro")):
        found = cases[(cases["metric"] == name).to_numpy()]
        labels = found["class"].astype(str)
        if classes is not None:
            kept = labels.isin([str(name) for name in classes]).to_numpy()
            found, labels = found[kept], labels[kept]
        if len(found):
            rows, rows_are = pd.factorize(found["case"], sort=True)
            columns, columns_are = pd.factorize(labels, sort=True)
            values, shape = found["value"].to_numpy(float), (len(rows_are), len(columns_are))
            at, defined = rows * shape[1] + columns, ~np.isnan(values)
            count = np.bincount(at[defined], minlength=shape[0] * shape[1])
            total = np.bincount(at[defined], values[defined], minlength=shape[0] * shape[1])
            return np.where(count, total / np.maximum(count, 1), np.nan).reshape(shape)
    return None
