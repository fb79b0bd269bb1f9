"""A few random images, for suites that learn nothing from them: the efficiency suite makes its own batches."""

from __future__ import annotations

import numpy as np

from harness.dataset import Dataset, Split

FIELDS = ("images",)
SIDE, CHANNELS, EACH = 8, 3, 2                     # pixels, of each image; images of each split


def load(needs: tuple[str, ...], *, root: str | None = None, download: bool = False, seed: int = 0) -> Dataset:
    """Images (3, 8, 8) uint8 of uniform noise without labels, two in each split.

    ``root`` and ``download`` are not used.
    """
    draws = np.random.default_rng(seed)
    splits = (Split([draws.integers(0, 256, (CHANNELS, SIDE, SIDE), dtype=np.uint8) for _ in range(EACH)],
                    [f"{name}{i}" for i in range(EACH)]) for name in ("train", "validation", "test"))
    return Dataset("noise", *splits, class_names=(), image_size=(SIDE, SIDE))
