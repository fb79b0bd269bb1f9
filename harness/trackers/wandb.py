"""Weights & Biases: offline runs in OUT/tracking/wandb for ``wandb sync``, unless WANDB_MODE says otherwise."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from pathlib import Path

import wandb

from harness.trackers import TrackedRun

NEEDS = {"wandb": "track"}
PROJECT = "unet-bench"                             # unless WANDB_PROJECT says otherwise


def write(run: TrackedRun, folder: Path) -> None:
    """Write parameters and tags as config, curves by step, pictures, final values and status as summary.

    The run's id is ours, so that what is sent twice is one run. Raises ValueError where WANDB_MODE is "disabled".
    """
    mode = os.environ.get("WANDB_MODE", "offline")
    if mode == "disabled":
        raise ValueError("WANDB_MODE is disabled")
    for earlier in (folder / "wandb").glob(f"*run-*-{run.run_id}"):
        shutil.rmtree(earlier)
    steps: dict[int, dict[str, float]] = defaultdict(dict)     # wandb takes steps in rising order only
    for name, points in run.curves.items():
        for point in points:
            steps[point.step][name] = point.value
    tracked = wandb.init(
        id=run.run_id, resume="allow", name=run.name, project=os.environ.get("WANDB_PROJECT", PROJECT),
        dir=str(folder), mode=mode, config={**run.parameters, "tags": run.tags},
        tags=[run.tags[key][:64] for key in ("suite", "data", "profile", "status") if key in run.tags],
        # what it would note of machine and code is this process's, not the run's
        settings=wandb.Settings(silent=True, console="off", init_timeout=30, login_timeout=30, disable_code=True,
                                disable_git=True, x_disable_stats=True, x_disable_meta=True))
    try:
        for step in sorted(steps):
            tracked.log(steps[step], step=step)
        pictures = {f"pictures/{path.stem}": wandb.Image(str(path), caption=caption)
                    for path, caption in run.pictures.items()}
        if pictures:
            tracked.log(pictures, step=max(steps, default=0))
        tracked.summary.update({**run.values, "status": run.status, **({"error": run.error} if run.error else {})})
    finally:
        tracked.finish(exit_code=0 if run.status == "ok" else 1)
        wandb.teardown()                           # waits for its process, which closes the file after finish()
