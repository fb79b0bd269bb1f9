"""60,000 + 10,000 articles of clothing, 28x28 grey; from --data-root, or --download.

Source: H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST", arXiv:1708.07747, 2017.
Read from ROOT/FashionMNIST/raw (the unpacked IDX files), as torchvision keeps them.
"""

from __future__ import annotations

from pathlib import Path

from harness.dataset import Dataset
from harness.datasets.parts.torchvision_sets import load_official, official_files

FIELDS = ("images", "labels")
FILES = "FashionMNIST/raw"


def load(needs: tuple[str, ...], *, root: str | None = None, download: bool = False, train: int | None = None,
         validation: int = 5000, test: int | None = None) -> Dataset:
    """Images (1, 28, 28) uint8 with labels of 10 articles; test is the official test part.

    ``validation`` is how many of the last training images are held out for choices; ``train`` and
    ``test`` keep the first so many images (None = all). Raises InputError where the files are absent or
    corrupt, saying where they should lie; see ``load_official``.
    """
    return load_official("fashion_mnist", "FashionMNIST", FILES, root=root, download=download,
                         train=train, validation=validation, test=test)


def sources(*, root: str | None = None, **options) -> list[Path]:
    return official_files(FILES, root)
