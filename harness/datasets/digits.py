"""1,797 real handwritten digits, 8x8 pixels, from scikit-learn (the UCI optical digits test set).

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI repository, 1998:
bitmaps of 32x32 counted in 4x4 blocks, hence values 0..16. Needs no network.
"""

from __future__ import annotations

import numpy as np

from harness.dataset import Dataset, Split
from harness.datasets.parts.splits import stratified

FIELDS = ("images", "labels")


def load(needs: tuple[str, ...], *, root: str | None = None, download: bool = False, seed: int = 0) -> Dataset:
    """Images (1, 8, 8) uint8 with labels 0..9, split 60/10/30 % (1078/180/539), each class alike.

    Values v = 0..16 become round(v * 255 / 16), halves to even, so 17 grey levels remain. ``seed``
    chooses the split; ``root`` and ``download`` are not used.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[:, None]
    splits = (Split(images[index], [f"{i:04d}" for i in index], labels=data.target[index])
              for index in stratified(data.target, seed))
    return Dataset("digits", *splits, class_names=tuple(map(str, range(10))), image_size=(8, 8))
