"""What a data set is to a suite: three disjoint splits, and what must be known to use them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Split:
    """One of train, validation or test.

    ``images``  each (C, H, W), uint8 (0..255) or float32 (0..1); sizes may differ between images.
    ``targets`` segmentation: masks (H, W) uint8 of class ids; generation: int labels, or None.
    ``names``   one per image, for per-case results; unique within the data set.
    """

    images: Sequence[np.ndarray]
    targets: Sequence[np.ndarray] | np.ndarray | None
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Dataset:
    """Three disjoint splits and what a suite must know to use them."""

    name: str
    task: str                                      # "segmentation" or "generation"
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]                   # by class id; () where there are no labels
    image_size: tuple[int, int]                    # (H, W) of an image; of the smallest where sizes differ
    fingerprint: str = field(default="")           # content hash; filled in from the splits when empty

    def __post_init__(self):
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", self._content_hash())

    @property
    def channels(self) -> int:
        return self.train.images[0].shape[0]

    def describe(self) -> dict:
        """For the record: name, task, split sizes, image shape, classes, content hash."""
        return {"name": self.name, "task": self.task, "channels": self.channels,
                "image_size": list(self.image_size), "classes": list(self.class_names),
                "splits": {name: len(getattr(self, name)) for name in ("train", "validation", "test")},
                "fingerprint": self.fingerprint}

    def _content_hash(self) -> str:
        """SHA-256 over every split's shapes and values, in order (first 16 hex digits)."""
        sha = hashlib.sha256(f"{self.task} {self.class_names}".encode())
        for split in (self.train, self.validation, self.test):
            targets = [] if split.targets is None else split.targets
            for array in (*split.images, *targets):
                array = np.ascontiguousarray(array)
                sha.update(f"{array.shape} {array.dtype}".encode())
                sha.update(array.tobytes())
        return sha.hexdigest()[:16]
