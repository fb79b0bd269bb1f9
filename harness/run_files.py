"""A run as it lies in its folder: its record, and its curves and test cases as tables. No torch import."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from harness.errors import one_line
from harness.record import Record

COLUMNS = {"curves.csv": ["step", "name", "value"], "cases.csv": ["case", "metric", "class", "value"]}
LARGEST_STEP = 2 ** 53                             # beyond it whole numbers have no exact float
TYPES = {"step": int, "seconds": float, "value": float}    # of a column in a file as the suites write it; else text


@dataclass(frozen=True)
class Run:
    """A record and the folder it was read from (where its curves, cases and pictures lie)."""

    record: Record
    folder: Path


def read_rows(run: Run, name: str, problems: list[str]) -> pd.DataFrame | None:
    """A run's ``curves.csv`` or ``cases.csv``; None where there is none, or where it is bad (then named)."""
    columns = read_columns(run, name, problems)
    return None if columns is None else pd.DataFrame(columns)


def read_columns(run: Run, name: str, problems: list[str], also: Sequence[str] = ()) -> dict[str, Sequence] | None:
    """As :func:`read_rows`, as column -> its cells: for those who read a thousand files into one table.

    ``also`` names columns to be read beside those of COLUMNS.
    """
    path, names = run.folder / name, [*COLUMNS[name], *also]
    if not path.exists():
        return None
    try:
        columns = _plain_columns(path, names)
        if columns is None:
            rows = pd.read_csv(path, usecols=names)
            columns = {**{key: rows[key] for key in rows}, "value": pd.to_numeric(rows["value"])}
        if "step" in columns:
            _check_steps(columns["step"])
        return columns
    except (OSError, ValueError, OverflowError) as error:      # pandas' parser errors are ValueErrors
        problems.append(f"unreadable {path.parent.name}/{name}: {one_line(error)}")
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
