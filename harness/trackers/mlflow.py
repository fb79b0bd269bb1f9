"""MLflow: ``mlflow.db`` and ``artifacts/`` in OUT/tracking/mlflow, or the server that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

# Set before mlflow is imported. A server that does not answer must not hold up a sweep for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.entities import Metric, Param, RunTag  # noqa: E402
from mlflow.tracking import MlflowClient  # noqa: E402

from harness.trackers import TrackedRun  # noqa: E402

NEEDS = {"mlflow": "track", "sqlalchemy": "track", "alembic": "track"}
EXPERIMENT = "unet-bench"                          # unless MLFLOW_EXPERIMENT_NAME says otherwise
RUN_ID = "run_id"                                  # tag by which a run is found again
MOST = 1000, 100                                   # metrics, and parameters, that one request may hold
LONGEST = 6000                                     # characters of a parameter

logging.getLogger("mlflow").setLevel(logging.WARNING)
logging.getLogger("alembic").setLevel(logging.WARNING)


def write(run: TrackedRun, folder: Path) -> None:
    """Write parameters, curves, final values, tags, pictures as artifacts, and whether the run FINISHED or FAILED."""
    server = os.environ.get("MLFLOW_TRACKING_URI")
    client = MlflowClient(tracking_uri=server or f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    experiment = _experiment(client, None if server else (folder / "artifacts").resolve().as_uri())
    for earlier in client.search_runs([experiment], f"tags.{RUN_ID} = '{run.run_id}'"):
        client.delete_run(earlier.info.run_id)
    tracked = client.create_run(experiment, start_time=int(1000 * run.started), run_name=run.name,
                                tags={RUN_ID: run.run_id}).info.run_id
    points = [Metric(_key(name), point.value, int(1000 * point.time), point.step)
              for name, curve in run.curves.items() for point in curve]
    points += [Metric(_key(name), value, int(1000 * run.ended), 0) for name, value in run.values.items()]
    for part in _parts(points, MOST[0]):
        client.log_batch(tracked, metrics=part)
    for part in _parts([Param(_key(name), str(value)[:LONGEST]) for name, value in run.parameters.items()], MOST[1]):
        client.log_batch(tracked, params=part)
    client.log_batch(tracked, tags=[RunTag(key, value) for key, value in run.tags.items()])
    for path in run.pictures:
        client.log_artifact(tracked, str(path), "pictures")
    client.set_terminated(tracked, "FINISHED" if run.status == "ok" else "FAILED", end_time=int(1000 * run.ended))


def _experiment(client: MlflowClient, artifacts: str | None) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    found = client.get_experiment_by_name(name)
    return client.create_experiment(name, artifacts) if found is None else found.experiment_id


def _key(name: str) -> str:
    """A name of the letters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)


def _parts(items: list, size: int) -> list[list]:
    return [items[start:start + size] for start in range(0, len(items), size)]
