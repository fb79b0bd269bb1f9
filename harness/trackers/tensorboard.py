"""TensorBoard: one folder of event files per run; ``tensorboard --logdir OUT/tracking/tensorboard``."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from harness.record import atomic_directory
from harness.trackers import TrackedRun

NEEDS = {"tensorboard": "track"}


def write(run: TrackedRun, folder: Path) -> None:
    """Write scalars, pictures, tags as text, and the parameters with the final values for the HPARAMS tab.

    TensorBoard names a run by its folder.
    """
    for earlier in folder.glob(f"*{run.run_id}*"):     # whatever name it had, and what was cut short
        shutil.rmtree(earlier)
    name = re.sub(r"[^\w.,=-]+", "_", run.name)[-150:].lstrip(".")
    with atomic_directory(folder, f"{name}-{run.run_id}") as unfinished:
        with SummaryWriter(str(unfinished)) as writer:
            for curve, points in run.curves.items():
                for point in points:
                    writer.add_scalar(curve, point.value, point.step, walltime=point.time)
            for path, caption in run.pictures.items():
                pixels = np.asarray(Image.open(path).convert("RGB"))
                writer.add_image(f"pictures/{path.stem}", pixels, walltime=run.ended, dataformats="HWC")
                writer.add_text(f"captions/{path.stem}", caption, walltime=run.ended)
            for key, value in run.tags.items():
                writer.add_text(f"tags/{key}", value, walltime=run.ended)
            writer.add_hparams(run.parameters, run.values, run_name=".")
