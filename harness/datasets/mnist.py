"""60,000 + 10,000 handwritten digits, 28x28 grey; from --data-root, or --download.

Source: Y. LeCun et al., "Gradient-based learning applied to document recognition", Proceedings of the IEEE, 1998.
Read from ROOT/MNIST/raw (the unpacked IDX files), as torchvision keeps them.
"""

from __future__ import annotations

from pathlib import Path

from harness.dataset import Dataset
from harness.datasets.parts.torchvision_sets import load_official, official_files

FIELDS = ("images", "labels")
FILES = "MNIST/raw"


def load(needs: tuple[str, ...], *, root: str | None = None, download: bool = False, train: int | None = None,
         validation: int = 5000, test: int | None = None) -> Dataset:
    """Images (1, 28, 28) uint8 with labels 0..9; test is the official test part.

    ``validation`` is how many of the last training images are held out for choices; ``train`` and
    ``test`` keep the first so many images (None = all). Raises InputError where the files are absent or
    corrupt, saying where they should lie; see ``load_official``.
    """
    return load_official("mnist", "MNIST", FILES, root=root, download=download,
                         train=train, validation=validation, test=test)


def sources(*, root: str | None = None, **options) -> list[Path]:
    return official_files(FILES, root)
