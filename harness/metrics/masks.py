"""Predicted masks against true ones, case by case: all metrics of segmentation, as runs and files of predictions share
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from harness.metrics import boundary, overlap
from harness.record import Metric


@dataclass
class MaskScores:
    """Overlap, boundary IoU and HD95 of every case. ``background``: the class that means over classes leave out."""

    class_names: Sequence[str]
    background: int | None = None
    ignore: int | None = None                      # value of the truth's pixels that do not count
    names: list[str] = field(default_factory=list)
    counts: list[np.ndarray] = field(default_factory=list)
    edges: list[np.ndarray] = field(default_factory=list)
    distances: list[np.ndarray] = field(default_factory=list)
    ignored: int = 0                               # pixels so far

    def add(self, name: str, prediction, target) -> None:
        """Score one case: class ids (H, W) of prediction and truth, arrays or tensors."""
        prediction, target = (torch.tensor(np.asarray(ids)).long()[None] for ids in (prediction, target))
        compared = (prediction, target, len(self.class_names), self.ignore)
        self.names.append(name)
        self.counts.append(overlap.confusion_counts(*compared))
        self.edges.append(boundary.boundary_iou(*compared))
        self.distances.append(boundary.hd95(*compared))
        self.ignored += int((target == self.ignore).sum()) if self.ignore is not None else 0

    def extend(self, other: MaskScores) -> None:
        """Append the cases of ``other``."""
        for name in ("names", "counts", "edges", "distances"):
            getattr(self, name).extend(getattr(other, name))
        self.ignored += other.ignored

    def metrics(self) -> dict[str, Metric]:
        """Compute every metric over the cases, headline first; each protocol says what was ignored."""
        means = (self.class_names, self.background)
        edges, distances = np.concatenate(self.edges), np.concatenate(self.distances)
        found = {**overlap.summarise(np.concatenate(self.counts), *means),
                 **boundary.summarise(edges, distances, *means)}
        if self.ignore is None:
            return found
        rule = {"ignore": self.ignore, "ignored_pixels": self.ignored,
                "ignored": "left out; edges there: the prediction's"}
        return {name: metric.model_copy(update={"protocol": {**metric.protocol, **rule}})
                for name, metric in found.items()}

    def cases(self) -> list[dict]:
        """Return rows (case, metric, class, value) for ``cases.csv``."""
        return [*overlap.case_rows(np.concatenate(self.counts), self.names, self.class_names),
                *boundary.case_rows(np.concatenate(self.edges), np.concatenate(self.distances), self.names,
                                    self.class_names)]
