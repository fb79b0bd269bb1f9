"""50,000 + 10,000 photographs of ten kinds, 32x32 colour; from --data-root, or --download.

Source: A. Krizhevsky, "Learning multiple layers of features from tiny images", University of Toronto, 2009.
Read from ROOT/cifar-10-batches-py (the unpacked Python batches), as torchvision keeps them.
"""

from __future__ import annotations

from pathlib import Path

from harness.dataset import Dataset
from harness.datasets.parts.torchvision_sets import load_official, official_files

FIELDS = ("images", "labels")
FILES = "cifar-10-batches-py"


def load(needs: tuple[str, ...], *, root: str | None = None, download: bool = False, train: int | None = None,
         validation: int = 5000, test: int | None = None) -> Dataset:
    """Images (3, 32, 32) uint8 with labels of 10 kinds; test is the official test part.

    ``validation`` is how many of the last training images are held out for choices; ``train`` and
    ``test`` keep the first so many images (None = all). Raises InputError where the files are absent or
    corrupt, saying where they should lie; see ``load_official``.
    """
    return load_official("cifar10", "CIFAR10", FILES, root=root, download=download,
                         train=train, validation=validation, test=test)


def sources(*, root: str | None = None, **options) -> list[Path]:
    return official_files(FILES, root)
