"""Runs that have ended -> experiment trackers (:mod:`harness.trackers`), each run once. No torch import."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.errors import one_line
from harness.record import Metric, Record, atomic_write
from harness.spec import RunSpec
from harness.trackers import Point, TrackedRun, registry

FOLDER = "tracking"
WRITTEN = ".written"                               # holds a marker for each run that a tracker has


class Tracking:
    """A listener for :func:`harness.execute.execute` that writes each run that has ended for ``trackers``.

    Every event is passed on to ``listener`` first. A run goes to ``out/tracking/TRACKER`` (or the tracker's server)
    when it is done, or when an earlier command made it and it is not there yet. A tracker's error is passed on as
    stage "note"; the run's record stays as it is, and the same command tries again.
    """

    def __init__(self, trackers: Sequence[str], out: Path, listener: Callable[..., None]):
        self.trackers, self.out, self.listener = trackers, out, listener

    def __call__(self, spec: RunSpec, *, stage: str, record: Record | None = None, name: str | None = None,
                 **event: Any) -> None:
        self.listener(spec, stage=stage, record=record, name=name, **event)
        if record is None or stage not in ("done", "kept"):
            return
        full_name = f"{name or spec.variant}, seed {spec.seeds.init}"
        for tracker in self.trackers:
            try:
                self._write(tracker, record, full_name)
            except Exception as error:             # of other people's code: anything
                self.listener(spec, stage="note", name=name, error=f"not written for {tracker}: {one_line(error)}")

    def _write(self, tracker: str, record: Record, name: str) -> None:
        folder = self.out / FOLDER / tracker
        marker = folder / WRITTEN / record.run_id
        marker.parent.mkdir(parents=True, exist_ok=True)
        state = f"{record.status} {record.started}"    # a run that failed may be made again under the same id
        with FileLock(folder / ".lock"):           # several commands may share a results folder
            if marker.is_file() and marker.read_text() == state:
                return
            registry.load(tracker).write(tracked_run(record, self.out / "runs" / record.run_id, name), folder)
            atomic_write(marker, state.encode())


def tracked_run(record: Record, folder: Path, name: str) -> TrackedRun:
    """Collect what a tracker is told of the run in ``folder``. Raises ValueError where its curves are corrupt."""
    started = datetime.fromisoformat(record.started).timestamp()
    tags = {"suite": record.spec.suite, "data": record.data.get("name", record.spec.data.name),
            "run_id": record.run_id, "code": record.code, "profile": record.spec.profile, "status": record.status,
            "error": record.error}
    return TrackedRun(
        run_id=record.run_id, name=name, status=record.status, error=record.error,
        started=started, ended=started + record.duration_s,
        parameters=parameters(record.spec.portable()), curves=curves(record, folder, started),
        values={**finite("metrics", record.metrics), **finite("cost", record.cost)},
        pictures={folder / file: picture.caption for file, picture in record.pictures.items()
                  if (folder / file).is_file()},
        tags={key: value for key, value in tags.items() if value})


def parameters(spec: RunSpec) -> dict[str, Any]:
    """Flatten a spec to {"train.steps": 600, ...}; lists become JSON, what is None is left out."""
    def flat(fields: dict[str, Any], prefix: str) -> dict[str, Any]:
        found = {}
        for key, value in fields.items():
            if isinstance(value, dict):
                found |= flat(value, f"{prefix}{key}.")
            elif value is not None:
                found[prefix + key] = json.dumps(value) if isinstance(value, list) else value
        return found

    return flat(spec.model_dump(mode="json"), "")


def curves(record: Record, folder: Path, started: float) -> dict[str, list[Point]]:
    """Read the finite points of every curve, in order of their steps."""
    from harness.run_files import Run, read_columns
    problems: list[str] = []
    columns = read_columns(Run(record, folder), "curves.csv", problems, also=("seconds",))
    if problems:
        raise ValueError(problems[0])
    found: dict[str, list[Point]] = {}
    if columns is not None:
        for step, seconds, name, value in zip(*(columns[key] for key in ("step", "seconds", "name", "value"))):
            if math.isfinite(value):
                found.setdefault(f"curves/{name}", []).append(Point(int(step), started + float(seconds), float(value)))
    return {name: sorted(points, key=lambda point: point.step) for name, points in found.items()}


def finite(kind: str, metrics: dict[str, Metric]) -> dict[str, float]:
    """The values of ``metrics`` under ``kind/key``, without undefined ones."""
    return {f"{kind}/{key}": metric.value for key, metric in metrics.items() if math.isfinite(metric.value)}
