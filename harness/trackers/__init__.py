"""Experiment trackers, one file each; the file's name is the tracker's name (``--track NAME``).

A file defines ``write(run, folder)``: write the :class:`TrackedRun` as one run of the tracker, into the existing local
``folder`` unless the environment names a server. What an earlier write of the same ``run_id``, perhaps killed half-way,
left there is replaced. It may raise anything: the error is shown in one line, and the next command tries again.

And, as a literal, ``NEEDS``: the packages that it imports, each with the extra that installs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from variants.registry import FolderRegistry


class Point(NamedTuple):
    """One finite value of a curve."""

    step: int
    time: float                                    # seconds since 1970
    value: float


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run. Numbers are finite: what is undefined is left out."""

    run_id: str
    name: str                                      # variant, cell of the sweep, seed
    status: str                                    # "ok", "failed", "oom" or "diverged"
    error: str | None                              # one line
    started: float                                 # seconds since 1970
    ended: float
    parameters: dict[str, str | int | float | bool]  # the spec's fields, e.g. "train.learning_rate"
    curves: dict[str, list[Point]]                 # e.g. "curves/validation loss"
    values: dict[str, float]                       # of the finished run, e.g. "metrics/fid", "cost/step_ms"
    pictures: dict[Path, str]                      # PNG -> caption
    tags: dict[str, str]                           # suite, data, run_id, code, profile, status, error


registry = FolderRegistry(__name__, "tracker", Path(__file__).parent)
